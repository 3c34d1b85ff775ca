"""Malformed and absurd input of loopmorph-opt: one error that says where, never a traceback or a crash."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from torch_mlir import ir

from loopmorph.dialects.morph import parse_schedule
from loopmorph.passes.affine_expr import linear_form
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.pipeline import parse_pipeline
from loopmorph.passes.text.nesting import MOST_LEVELS, too_deep
from loopmorph.tools.opt import OptTool, make_command


def program(index: str = "%i", loop: str = 'morph.iter = "i"', argument: str = "", module: str = "") -> str:
    return f"""module attributes {{{module}}} {{
func.func @main(%a: memref<4xf32> {{{argument}}}) {{
  %c = arith.constant 1.0 : f32
  affine.for %i = 0 to 4 {{
    affine.store %c, %a[{index}] : memref<4xf32>
  }} {{{loop}}}
  return
}}
}}
"""


def refused(text: str, pipeline: str = "canonicalize") -> str:
    """The one line that loopmorph-opt says."""
    done = CliRunner().invoke(make_command(OptTool()), ["-", "-p", pipeline], input=text, standalone_mode=False)
    assert done.exception is None and done.return_value == 1
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"loop": "morph.iter = 4"}, "-:4:3: affine.for: the mark 'morph.iter' is 4 : i64; a string is expected"),
        ({"loop": "morph.layer = [1]"}, "affine.for: the mark 'morph.layer' is [1]; a string is expected"),
        ({"loop": "morph.role"}, "affine.for: the mark 'morph.role' is unit; a string is expected"),
        ({"loop": "morph.algorithm = {}"}, "the mark 'morph.algorithm' is {}; a string is expected"),
        ({"loop": "morph.parallel = true"}, "'morph.parallel' is true; an attribute without a value is expected"),
        ({"argument": "morph.param = 3"}, "func.func: the mark 'morph.param' is 3 : i64; a string is expected"),
        ({"argument": "morph.input = -1"}, "the mark 'morph.input' is -1 : i64; an integer from 0 on is expected"),
        ({"argument": 'morph.below = "7"'}, "the mark 'morph.below' is \"7\"; an integer from 0 on is expected"),
        ({"argument": 'morph.output = "0"'}, "the mark 'morph.output' is \"0\"; an integer from 0 on is expected"),
        ({"argument": "morph.inherit = 1"}, "'morph.inherit' is 1 : i64; an affine map or an array of steps is exp"),
        ({"module": "morph.schedule = [1]"}, "'morph.schedule' is [1]; an array of strings is expected"),
        ({"index": "%i mod 0"}, "-:5:5: affine.store: 'd0 mod 0' divides by 0; a positive number is expected"),
        ({"index": "(%i floordiv 0) * 2"}, "'d0 floordiv 0' divides by 0; a positive number is expected"),
        ({"index": "%i ceildiv -2"}, "divides by -2; a positive number is expected"),
        ({"index": "(" * 300 + "%i" + ")" * 300}, "nests deeper than 256 levels"),
        ({"index": "- " * 5000 + "%i"}, "nests deeper than 256 levels"),
        ({"loop": "x = " + "[" * 5000 + "]" * 5000}, "nests deeper than 256 levels"),
        ({"loop": "x = " + "tuple<" * 5000 + "i1" + ">" * 5000}, "nests deeper than 256 levels"),
    ],
)
def test_input_that_no_pass_can_take(parts: dict[str, str], message: str) -> None:
    assert message in refused(program(**parts))


@pytest.mark.parametrize("count", [MOST_LEVELS, 3000])
def test_loops_without_end(count: int) -> None:
    loops = "".join(f"affine.for %i{k} = 0 to 1 {{\n" for k in range(count))
    text = f"func.func @main() {{\n{loops}" + "}\n" * count + "return }"
    assert refused(text).startswith("error: -:257:")


def test_levels_are_counted_as_the_parser_does() -> None:
    deep = "[" * MOST_LEVELS
    assert too_deep(deep + "]" * MOST_LEVELS) is None and too_deep(deep + "[") == MOST_LEVELS
    assert too_deep(f'"{deep}[" // {deep}[\n' * 3) is None  # strings and comments
    assert too_deep("func.func @f() -> f32 { affine_set<(d0) : (d0 >= 0, d0 <= 3)> }\n" * 500) is None
    assert too_deep("{ < }" * 500) is None  # what does not balance


def test_symbols_are_refused_by_what_looks_into_accesses() -> None:
    with ir.Context(), pytest.raises(IllegalTransform, match="'s0': symbols are not supported in access maps"):
        linear_form(ir.AffineExpr.get_dim(0) + ir.AffineExpr.get_symbol(0))


# ---- pipelines and schedules


def test_a_pipeline_without_end() -> None:
    with pytest.raises(ArgumentError, match="nests deeper than 64 levels") as caught:
        parse_pipeline("func.func(" * 5000 + "cse" + ")" * 5000)
    assert max(map(len, str(caught.value).splitlines())) < 300
    parse_pipeline("builtin.module(" * 3 + "cse" + ")" * 3)


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 41])
def test_a_number_without_end(number: str) -> None:
    with pytest.raises(
        ArgumentError, match=r"option 'factor' of morph-split expects an integer, got '.{57}\.\.\.'|got '-9"
    ):
        parse_pipeline(f"morph-split{{layer=c iter=ow factor={number}}}")
    with pytest.raises(ArgumentError, match="expects a list of integers"):
        parse_pipeline(f"morph-tile{{layer=c iters=oh,ow sizes={number},2}}")


def test_a_schedule_without_end() -> None:
    text = "module attributes {x = " + "[" * 5000 + "]" * 5000 + "} {}"
    with ir.Context() as context, pytest.raises(ArgumentError, match="'schedule': it nests deeper than 256 levels"):
        parse_schedule(text, context)
