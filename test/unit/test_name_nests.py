"""Addresses for nests that nobody here imported: where names come from, and that they stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from torch_mlir import ir

from loopmorph.passes.address import addressed_roots
from loopmorph.passes.building.name_nests import name_nests
from loopmorph.passes.errors import ArgumentError, IllegalTransform, ImportRefused, LoopmorphError
from loopmorph.passes.ingress.linalg_to_affine import LinalgToAffine
from loopmorph.passes.nest import nests
from loopmorph.passes.pipeline import run_pipeline
from loopmorph.pipelines.codegen.from_mlir import compile_mlir
from loopmorph.tools.opt import OptTool, main, make_command

COPY = """affine.for %i = 0 to 4 {
    %v = affine.load %x[%i] : memref<4xf32>
    affine.store %v, %y[%i] : memref<4xf32>
  }"""


def function(*bodies: str, name: str = "f") -> str:
    lines = "\n  ".join(bodies)
    return f"func.func @{name}(%x: memref<4xf32>, %y: memref<4xf32>) {{\n  {lines}\n  return\n}}\n"


def addresses(text: str, pipeline: str = "morph-name-nests") -> list[str]:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        run_pipeline(module, pipeline)
        return [str(address) for address, _ in addressed_roots(module.operation)]


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ([COPY, COPY], ["for.0", "for.1"]),
        ([COPY + ' {morph.layer = "a"}', COPY], ["a", "for.0"]),
        ([COPY + ' {morph.layer = "for.0"}', COPY], ["for.0", "for.1"]),
        ([COPY + ' loc("conv1")', COPY], ["conv1", "for.0"]),
        ([COPY + ' loc("conv1@convolution_1")'], ["conv1"]),
        ([COPY + ' loc("@relu")'], ["relu"]),
        ([COPY + " loc(\"jit(f)/a, b#{c='d'}\")"], ["jit(f)/a_b_c_d_"]),
        ([COPY + ' loc("a"("n.py":1:2))', COPY + ' loc("a"("n.py":2:2))'], ["a.0", "a.1"]),
        ([COPY + ' loc(fused["n.py":1:2, "a"])'], ["a"]),
        ([COPY + ' loc(callsite("a" at "n.py":1:2))'], ["a"]),
    ],
)
def test_where_names_come_from(bodies: list[str], expected: list[str]) -> None:
    found = [address.partition("#")[0] for address in addresses(function(*bodies))]
    assert found == expected


def test_nests_of_one_place_belong_together() -> None:
    long = COPY.replace("0 to 4", "0 to 3")
    found = addresses(function(long + ' loc("a")', COPY + ' loc("a")', long + ' loc("a")'))
    assert found == ["a#prologue.0", "a#main.0", "a#epilogue.0"]


def test_the_same_place_in_two_functions_is_two_layers() -> None:
    found = addresses(function(COPY + ' loc("a")') + function(COPY + ' loc("a")', name="g"))
    assert [address.partition("#")[0] for address in found] == ["a", "a.0"]


def test_names_stay_when_the_program_changes_and_is_read_again() -> None:
    text = function(COPY, COPY, COPY)
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        name_nests(module.operation)
        module.body.operations[0].entry_block.operations[0].erase()
        again = ir.Module.parse(str(module))
        name_nests(again.operation)
        assert [nest.layer for nest in nests(again.operation)] == ["for.1", "for.2"]
        assert str(again) == str(module)


MATMUL = """func.func @f(%a: memref<4x6xf32>, %b: memref<6x8xf32>, %c: memref<4x8xf32>) {
  %zero = arith.constant 0.0 : f32
  linalg.fill ins(%zero : f32) outs(%c : memref<4x8xf32>)
  linalg.matmul ins(%a, %b : memref<4x6xf32>, memref<6x8xf32>) outs(%c : memref<4x8xf32>)
  return
}
"""


@pytest.mark.parametrize(
    "pipeline",
    [
        "morph-linalg-to-affine",
        "morph-name-nests,func.func(convert-linalg-to-affine-loops),morph-name-nests",
        "morph-linalg-to-affine,func.func(affine-loop-tile{tile-sizes=2,2,3}),morph-name-nests",
    ],
    ids=["ours", "lowered by MLIR", "tiled by MLIR"],
)
def test_names_survive_passes_of_mlir(pipeline: str) -> None:
    assert [a.replace("#main.0", "") for a in addresses(MATMUL, pipeline)] == ["matmul.0#init.0", "matmul.0"]


def test_the_parts_of_a_tiled_loop_are_named_as_after_a_split() -> None:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(MATMUL)
        run_pipeline(module, "func.func(convert-linalg-to-affine-loops,affine-loop-tile{tile-sizes=2,2,3})")
        name_nests(module.operation)
        assert nests(module.operation)[1].iterators == ("n.0", "co.0", "ci.0", "n.1", "co.1", "ci.1")


def test_a_transformation_names_what_it_does_not_find() -> None:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(function(COPY, COPY))
        run_pipeline(module, "morph-split{layer=for.1 iter=c factor=2}")
        assert [nest.iterators for nest in nests(module.operation)] == [("c",), ("c.0", "c.1")]
        with pytest.raises(ArgumentError, match=r"no layer 'for\.2' in the program; nearest: for.1, for.0"):
            run_pipeline(module, "morph-split{layer=for.2 iter=c factor=2}")


def test_what_is_refused_leaves_the_module_as_it_was() -> None:
    text = (
        MATMUL
        + "func.func @g(%x: tensor<4xf32>) -> tensor<4xf32> {\n"
        + ("  %r = math.exp %x : tensor<4xf32>\n  return %r : tensor<4xf32>\n}\n")
    )
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        name_nests(module.operation)
        before = str(module)
        with pytest.raises(ImportRefused, match=r"math.exp .*run 'func.func.convert-elementwise-to-linalg.' before"):
            LinalgToAffine().run(module.operation)
        assert str(module) == before


# ---- the tool


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gemm.mlir"
    path.write_text(MATMUL + function(COPY, name="g") + function("scf.execute_region { scf.yield }", name="h"))
    assert main([str(path), "--list-nests"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "address        iterators      accesses"
        "                                                                      place",
        f"matmul.0#init  n=4 c=8        store %arg2[n, c]{' ' * 61}{path}:3 @f",
        "matmul.0       n=4 co=8 ci=6  load %arg0[n, ci]; load %arg1[ci, co]; load %arg2[n, co]; store %arg2[n, co]"
        f"  {path}:4 @f",
        f"for.0          c=4            load %arg0[c]; store %arg1[c]{' ' * 49}{path}:8 @g",
    ]


PRIVATE = "func.func private @f(memref<4xf32>)"
CALLS = "func.func @f(%x: memref<4xf32>) { call @f(%x) : (memref<4xf32>) -> () return }"
BOUND = """func.func @f() { "affine.for"() <{lowerBoundMap = affine_map<() -> (0)>,
  upperBoundMap = affine_map<(d0) -> (d0)>, step = 1 : index, operandSegmentSizes = array<i32: 0, 0, 0>}> ({
  ^bb0(%i: index): "affine.yield"() : () -> () }) : () -> () return }"""
LONG = "func.func @f() { affine.for %i = 0 to 4611686018427387904 { } return }"
UNKNOWN = 'func.func @f() { "foo.bar"() : () -> () return }'
RECURSIVE = """func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %r = call @f(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %r : tensor<4xf32>
}"""
BRANCH = """func.func @f(%x: tensor<4xf32>, %c: i1) -> tensor<4xf32> {
  cf.cond_br %c, ^a, ^a
^a:
  return %x : tensor<4xf32>
}"""
SPARSE = """#s = #sparse_tensor.encoding<{map = (d0) -> (d0 : compressed)}>
func.func @f(%x: tensor<4xf32, #s>) -> tensor<4xf32, #s> { return %x : tensor<4xf32, #s> }"""
UNWRITTEN = """func.func @f(%x: tensor<4x4xf32>) -> tensor<4xf32> {
  %e = tensor.empty() : tensor<4xf32>
  %r = linalg.reduce { arith.addf } ins(%x : tensor<4x4xf32>) outs(%e : tensor<4xf32>) dimensions = [1]
  return %r : tensor<4xf32>
}"""
SOFTMAX = """func.func @f(%x: memref<2x4xf32>, %y: memref<2x4xf32>) {
  linalg.softmax dimension(1) ins(%x : memref<2x4xf32>) outs(%y : memref<2x4xf32>)
  return
}"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("module {}", "error: module: it has no function with a body; one is expected"),
        (PRIVATE, "error: module: it has no function with a body; one is expected"),
        (function() + function(name="g"), "it has 2 entry points, @f, @g; name one: function=NAME"),
        (CALLS, "each of its functions is private or called by one; name one: function=NAME"),
        (RECURSIVE, "func.call (-:2:8): it calls @f, whose arguments would change; run 'inline' before"),
        (BRANCH, "function @f (-:1:1): it branches; one block is expected"),
        (BOUND, "-:1:18: affine.for: a bound has 0 operands; its map takes 1"),
        (LONG, "affine.for: 4611686018427387904 iterations; at most 2147483648 are expected"),
        (UNKNOWN, "-:1:27: operation being parsed with an unregistered dialect"),
        (SPARSE, "only tensors without an encoding are supported"),
        (UNWRITTEN, "linalg.reduce of layer reduce.0 (reduce.0 at -:3:8): its start values are a tensor that nothing"),
        (SOFTMAX, "linalg.softmax of layer softmax.0 (softmax.0 at -:2:3): cannot be lowered to an affine nest"),
        (function(COPY + ' {morph.layer = "a#b"}'), "the mark 'morph.layer' is \"a#b\"; '#' in an address begins"),
        ("func.func @f(%x: memref<?x4xf32>) { return }", "memref<?x4xf32>: only memrefs of static shape"),
        ("func.func @f(%x: index) { return }", "argument 0 of @f (-:1:1): index cannot be passed to compiled code"),
        ("func.func @f() -> i32 { %c = arith.constant 1 : i32 return %c : i32 }", "run 'buffer-results-to-out-params'"),
    ],
)
def test_one_line_of_what_is_wrong(text: str, message: str) -> None:
    arguments = ["-", "-p", "morph-linalg-to-affine,morph-entry"]
    done = CliRunner().invoke(make_command(OptTool()), arguments, input=text, standalone_mode=False)
    assert done.exception is None and done.return_value == 1
    (line,) = done.stderr.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ("function=h", ArgumentError, "no function 'h' with a body; the module has @f"),
        ("parameters=2", ArgumentError, "@f has no argument 2; it has 2, from 0"),
        ("parameters=1", ArgumentError, "argument 1 of @f is written"),
    ],
)
def test_options_of_the_entry(options: str, error: type[LoopmorphError], message: str) -> None:
    with ir.Context(), ir.Location.unknown(), pytest.raises(error, match=message):
        run_pipeline(ir.Module.parse(function(COPY)), f"morph-entry{{{options}}}")


def test_parts_of_a_nest_stay_parts_when_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "copy.mlir"
    path.write_text(function(COPY))
    pipeline = "morph-partition{layer=for.0 iter=c sizes=1,3}"
    assert main([str(path), "-p", pipeline, "--list-nests"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["for.0#main.0", "for.0#main.1"]


def test_a_marked_parameter_needs_values() -> None:
    text = function(COPY).replace("%x: memref<4xf32>", '%x: memref<4xf32> {morph.param = "w"}')
    with pytest.raises(ArgumentError, match="argument 0 is a parameter; expected its values, as 0: ARRAY"):
        compile_mlir(text)
    values = np.arange(4, dtype=np.float32)
    assert compile_mlir(text, parameters={0: values})()[0].tolist() == [0, 1, 2, 3]


def test_inputs_that_do_not_fit() -> None:
    compiled = compile_mlir(function(COPY))
    with pytest.raises(ArgumentError, match="0 arrays were given; 1 are expected"):
        compiled()
    with pytest.raises(ArgumentError, match=r"input 0 is float64 of shape \(4,\); expected float32 of shape \(4,\)"):
        compiled(np.zeros(4))


def test_what_pins_an_argument_is_named() -> None:
    with (
        ir.Context(),
        ir.Location.unknown(),
        pytest.raises(
            IllegalTransform, match=r"tied to argument 1 of the function, which is not marked 'morph\.param',"
        ),
    ):
        run_pipeline(
            ir.Module.parse(MATMUL), "morph-linalg-to-affine,morph-bottleneck{layer=matmul.0 iter=co factor=2}"
        )
