"""Pipelines as text: the grammar, its errors, and running them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_mlir import ir

from loopmorph.passes.base import Pass
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.pipeline import Nested, Pipeline, UpstreamPass, parse_pipeline, run_pipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugin"))
from expose import expose, visible

SOURCE = """
func.func @f(%x: memref<8xf32>, %v: f32) {
  affine.for %i = 0 to 8 {
    affine.store %v, %x[%i] : memref<8xf32>
  } {morph.layer = "a"}
  affine.for %i = 0 to 8 {
    affine.store %v, %x[%i] : memref<8xf32>
  } {morph.layer = "b"}
  return
}
"""


@pytest.fixture(scope="module", autouse=True)
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with visible(*expose(tmp_path_factory.mktemp("metadata"))):
        yield


@pytest.fixture
def module() -> Iterator[ir.Module]:
    with ir.Context(), ir.Location.unknown():
        yield ir.Module.parse(SOURCE)


def rename(**options: Any) -> Pass:
    from loopmorph_test_plugin import RenameLayer

    return RenameLayer(**options)


def count(limit: int) -> Pass:
    from loopmorph_test_plugin import CountLoops

    return CountLoops(limit)


def test_the_parts_of_a_pipeline() -> None:
    own = "test-rename-layer{layer=l.0.conv1 to=x only=0,2 mark=true tags=p,q}"
    assert parse_pipeline(f"{own}, cse ,\n func.func(canonicalize{{top-down=0}})").elements == (
        rename(layer="l.0.conv1", to="x", only=(0, 2), mark=True, tags=("p", "q")),
        UpstreamPass("cse"),
        Nested("func.func", (UpstreamPass("canonicalize", "top-down=0"),)),
    )


def test_the_empty_pipeline(module: ir.Module) -> None:
    before = str(module)
    assert parse_pipeline(" \n ").elements == ()
    run_pipeline(module, "")
    assert str(module) == before


def test_the_anchor_may_be_spelt_out(module: ir.Module) -> None:
    run_pipeline(module, "builtin.module(test-rename-layer{layer=a to=c},func.func(cse))")
    assert 'morph.layer = "c"' in str(module)


def test_a_flag_alone_means_true() -> None:
    assert parse_pipeline("test-rename-layer{layer=a to=b mark}").elements == (rename(layer="a", to="b", mark=True),)


def test_quotes_hold_blanks_and_commas_together() -> None:
    parsed = parse_pipeline("""test-rename-layer{layer='a b' to="{x,y}" tags='p q',r}""")
    assert parsed.elements == (rename(layer="a b", to="{x,y}", tags=("p q", "r")),)


def test_options_of_upstream_passes_go_through_untouched() -> None:
    for text in (
        "func.func(affine-loop-tile{tile-sizes=4,4 separate=true})",
        "inline{default-pipeline='canonicalize{top-down=false}'}",
    ):
        assert str(parse_pipeline(text)) == text


words = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.|/-]{0,8}", fullmatch=True)
small = st.integers(-(10**6), 10**6)
own_passes = st.one_of(
    st.builds(lambda n: count(abs(n)), small),
    st.builds(
        lambda layer, to, only, mark, tags: rename(layer=layer, to=to, only=only, mark=mark, tags=tags),
        layer=words,
        to=words,
        only=st.none() | st.lists(small, max_size=3).map(tuple),
        mark=st.booleans(),
        tags=st.lists(words, max_size=3).map(tuple),
    ),
)
upstream = st.sampled_from(
    [
        UpstreamPass("cse"),
        UpstreamPass("canonicalize", "max-iterations=3 top-down=false"),
        UpstreamPass("inline", "default-pipeline='canonicalize{top-down=false}'"),
    ]
)


def nest(anchor: str, elements: st.SearchStrategy[Any], min_size: int = 1) -> st.SearchStrategy[Nested]:
    return st.lists(elements, min_size=min_size, max_size=3).map(lambda inner: Nested(anchor, tuple(inner)))


nested = st.recursive(nest("func.func", upstream), lambda deeper: nest("any", upstream | deeper), max_leaves=4)
spelt_out = nest("builtin.module", own_passes | upstream, min_size=0)
pipelines = st.builds(lambda e: Pipeline(tuple(e)), st.lists(own_passes | upstream | nested | spelt_out, max_size=5))


@settings(deadline=None, max_examples=60)
@given(pipelines)
def test_text_round_trips(pipeline: Pipeline) -> None:
    assert parse_pipeline(str(pipeline)) == pipeline


@settings(deadline=None, max_examples=150)
@given(st.text(alphabet="cse,{}()='\"-= \nxtest", max_size=20))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        parse_pipeline(text)
    except ArgumentError as error:
        assert error.argument == "pipeline"
        assert error.message.endswith("^")


@pytest.mark.parametrize(
    ("text", "message", "culprit"),
    [
        ("cse,csee", "unknown pass 'csee'; did you mean 'cse'?", "csee"),
        (
            "test-count-lops{limit=1}",
            "unknown pass 'test-count-lops'; did you mean 'test-count-loops'?",
            "test-count-lops",
        ),
        ("test-count-loops{limt=3}", "has no option 'limt' (it accepts limit); did you mean 'limit'?", "limt"),
        ("test-count-loops", "test-count-loops needs the option limit", "test-count-loops"),
        ("cse,test-rename-layer{mark}", "test-rename-layer needs the options layer, to", "test-rename-layer"),
        ("test-count-loops{limit=x}", "'limit' of test-count-loops expects an integer, got 'x'", "x}"),
        ("test-count-loops{limit=1,2}", "expects an integer, got '1,2'", "1,2}"),
        ("test-count-loops{limit}", "expects an integer, got nothing", "limit}"),
        ("test-count-loops{limit=1 limit=2}", "option 'limit' of test-count-loops is given twice", "limit=2"),
        ("test-count-loops{limit=-1}", "expected 0 or more, got -1", "-1"),
        ("test-rename-layer{layer=a to=b only=1,x}", "expects a list of integers, as in 1,2, got '1,x'", "1,x"),
        ("test-rename-layer{layer=a to=b mark=yes}", "expects true or false, got 'yes'", "yes"),
        ("test-rename-layer{layer=a to=b tags=p,,q}", "expects a list of names, as in a,b, got 'p,,q'", "p,,q"),
        ("test-rename-layer{layer=a,to=b}", "expected a blank between options, got '='", "=b"),
        (
            "func.func(test-count-loops{limit=1})",
            "works on the whole module and cannot stand in func.func",
            "test-count",
        ),
        ("builtin.module(builtin.module(test-count-loops{limit=1}))", "cannot stand in builtin.module", "test-count"),
        ("func.func(sparsifier)", "sparsifier works on the whole module", "sparsifier"),
        ("affine-loop-tile", "does not work on builtin.module; write func.func(affine-loop-tile)", "affine-loop-tile"),
        ("cse,cse{foo=1}", "cse has no option 'foo'", "cse{"),
        ("func.func(cse", "unbalanced '('", "(cse"),
        ("func.func(cse))", "unbalanced ')'", ")"),
        ("cse{a={b}", "unbalanced '{'", "{a="),
        ("inline{default-pipeline='cse}", "unbalanced '", "'cse"),
        ("cse canonicalize", "expected ',' before 'c'", "canonicalize"),
        ("cse,,cse", "expected the name of a pass, got ','", ",cse"),
        ("cse,", "expected the name of a pass, got the end", ""),
        ("func.func()", "func.func() holds no passes", "func.func"),
    ],
)
def test_errors_show_the_culprit(text: str, message: str, culprit: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_pipeline(text)
    first, shown, caret = caught.value.message.split("\n")
    assert message in first
    assert shown == f"  {text}"
    assert caret.index("^") - 2 == (text.rindex(culprit) if culprit else len(text))


def test_the_caret_is_in_the_line_concerned() -> None:
    with pytest.raises(ArgumentError, match=r"unknown pass 'cce'.*\n    cce,\n    \^$"):
        parse_pipeline("canonicalize,\n  cce,\ncse")


def test_own_and_upstream_passes_run_in_order(module: ir.Module) -> None:
    run_pipeline(
        module,
        "test-rename-layer{layer=a to=c},func.func(affine-loop-unroll{unroll-factor=8}),test-count-loops{limit=0}",
    )
    assert "affine.for" not in str(module)
    assert 'morph.schedule = ["test-rename-layer{layer=a to=c}"]' in str(module)


def test_errors_of_own_passes_come_out_as_they_are(module: ir.Module) -> None:
    with pytest.raises(IllegalTransform, match=r"affine\.for: 2 loops, more than the limit of 1"):
        run_pipeline(module, "cse,test-count-loops{limit=1}")
    with pytest.raises(ArgumentError, match="no nest of layer 'z'"):
        run_pipeline(module, "test-rename-layer{layer=z to=b}")
    run_pipeline(module, "test-count-loops{limit=2}")


def test_failures_of_upstream_passes_are_one_line_with_the_place(module: ir.Module) -> None:
    with pytest.raises(IllegalTransform, match=r"^-:2:1: Vectorization factor must be greater than zero\.$"):
        run_pipeline(module, "func.func(affine-super-vectorize{virtual-vector-size=0})")


def test_invalid_ir_left_by_a_pass_is_found(module: ir.Module) -> None:
    with pytest.raises(IllegalTransform, match=r"-:\d+:\d+: .*empty block: expect at least a terminator"):
        run_pipeline(module, Pipeline((DropReturn(), UpstreamPass("cse"))))


def test_an_unchecked_pipeline_is_refused_when_it_is_built(module: ir.Module) -> None:
    with pytest.raises(ArgumentError, match="'no-such-pass' is refused"):
        run_pipeline(module, Pipeline((UpstreamPass("no-such-pass"),)))


def test_the_pass_manager_shows_the_whole_pipeline(module: ir.Module) -> None:
    manager = parse_pipeline("test-count-loops{limit=2},func.func(cse)").pass_manager(module.context)
    assert str(manager) == "builtin.module(test-count-loops{limit=2},func.func(cse))"


def test_contexts_do_not_disturb_each_other() -> None:
    pipeline = parse_pipeline("test-rename-layer{layer=a to=c}")
    modules = []
    for _ in range(3):
        with ir.Context():
            modules.append(ir.Module.parse(SOURCE))
    for module in modules:
        run_pipeline(module, pipeline)
    assert len({str(module) for module in modules}) == 1


@dataclass(frozen=True)
class DropReturn(Pass):
    """Leaves the functions without their terminators."""

    name: ClassVar[str] = "test-drop-return"

    def run(self, module: ir.Operation) -> None:
        for function in module.regions[0].blocks[0].operations:
            for op in list(function.operation.regions[0].blocks[0].operations)[::-1]:
                op.operation.erase()
