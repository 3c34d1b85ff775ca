"""`morph-vectorize`: vectors that compute what the scalars do, of every kind of body and reduction."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jit import run_affine
from loop_programs import KEPT, Program, apply, check, convolution, diagonal, pooling, program, view
from small_nests import nests as small_nests
from torch_mlir import ir

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.loop.fuse import Fuse
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.unroll import Unroll
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.neural.group import Group

pytestmark = pytest.mark.usefixtures("context")


def count(module: ir.Module, name: str) -> int:
    return len(re.findall(rf"\b{re.escape(name)}\b", str(module)))


# ---- upstream's vectoriser computes these three wrongly


def test_the_rest_that_fills_no_vector_is_not_overrun():
    source = program(
        {"i": 14},
        "%v = affine.load %x[%i] : {x}\naffine.store %v, %y[%i] : {y}",
        {"x": (18,), "y": (18,)},
    )
    nest = view(apply(source, Vectorize("net", "i", 8)))
    assert (nest.iterators, nest.extents) == (("i.0", "i.rest"), (1, 6))


def test_a_strided_load_is_not_taken_for_a_contiguous_one():
    source = program(
        {"i": 32},
        "%v = affine.load %x[%i * 2] : {x}\naffine.store %v, %y[%i] : {y}",
        {"x": (64,), "y": (32,)},
    )
    module = apply(source, Vectorize("net", "i", 8))
    assert (count(module, "affine.vector_load"), count(module, "affine.vector_store")) == (0, 1)


@pytest.mark.parametrize("iterator", ["i", "j"])
def test_a_transposition(iterator):
    source = program(
        {"i": 32, "j": 8},
        "%v = affine.load %x[%j, %i] : {x}\naffine.store %v, %y[%i, %j] : {y}",
        {"x": (8, 32), "y": (32, 8)},
    )
    steps = [Interchange("net", ("j", "i"))] if iterator == "i" else []
    module = apply(source, *steps, Vectorize("net", iterator, 8))
    loads = count(module, "affine.vector_load")
    assert (loads, count(module, "affine.vector_store")) == ((1, 0) if iterator == "i" else (0, 1))


# ---- element-wise bodies


def test_arithmetic_comparisons_and_conversions_are_widened():
    source = program(
        {"c": 3, "w": 11},
        """%z = arith.constant 0.0 : f32
        %k = arith.constant 2.0 : f32
        %a = affine.load %x[%c, %w] : {x}
        %b = affine.load %s[%c] : {s}
        %p = arith.mulf %a, %b : f32
        %g = arith.cmpf ugt, %p, %z : f32
        %r = arith.select %g, %p, %k : f32
        %h = arith.truncf %r : f32 to f16
        %e = arith.extf %h : f16 to f32
        %n = math.absf %e : f32
        %m = arith.maximumf %n, %b : f32
        affine.store %m, %y[%c, %w] : {y}""",
        {"x": (3, 11), "s": (3,), "y": (3, 11)},
    )
    module = apply(source, Vectorize("net", "w", 4))
    assert view(module).iterators == ("c", "w", "w.rest")
    assert "arith.select" in str(module) and "vector<4xi1>" in str(module)
    # the scale is broadcast once though two operations use it
    assert count(module, "vector.broadcast") == 1


def test_a_single_vector_takes_the_place_of_its_loop():
    source = program(
        {"c": 3, "w": 8},
        "%v = affine.load %x[%w, %c] : {x}\naffine.store %v, %y[%c, %w] : {y}",
        {"x": (8, 3), "y": (3, 8)},
    )
    assert view(apply(source, Vectorize("net", "w", 8))).iterators == ("c",)


def test_a_value_from_outside_is_broadcast_outside():
    text = """func.func @main(%x: memref<4x16xf32>, %y: memref<4x16xf32>) {
      affine.for %i = 0 to 4 {
        %s = affine.load %x[%i, 3] : memref<4x16xf32>
        affine.for %j = 0 to 16 {
          %v = affine.load %x[%i, %j] : memref<4x16xf32>
          %p = arith.mulf %v, %s : f32
          affine.store %p, %y[%i, %j] : memref<4x16xf32>
        } {morph.iter = "j"}
      } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
      return
    }"""
    module = apply(Program(text, ((4, 16), (4, 16))), Vectorize("net", "j", 8))
    outer = view(module).loops[0].op.body.operations
    assert [op.operation.name for op in outer][:3] == ["affine.load", "vector.broadcast", "affine.for"]


def test_blocked_layouts_simplify_to_contiguous_and_uniform_accesses():
    source = program(
        {"n": 2, "c": 12},
        """%a = affine.load %x[%n, %c floordiv 4, %c mod 4] : {x}
        %b = affine.load %s[%c floordiv 4] : {s}
        %p = arith.mulf %a, %b : f32
        affine.store %p, %y[%n, %c] : {y}""",
        {"x": (2, 3, 4), "s": (3,), "y": (2, 12)},
    )
    module = apply(source, Vectorize("net", "c", 4))
    assert (count(module, "affine.vector_load"), count(module, "affine.load")) == (1, 1)


def test_an_axis_that_does_not_lie_densely_is_read_element_by_element():
    text = """func.func @main(%x: memref<8x16xf32>, %y: memref<4x8xf32>) {
      %v = memref.subview %x[0, 0] [4, 8] [2, 2]
        : memref<8x16xf32> to memref<4x8xf32, strided<[32, 2]>>
      affine.for %i = 0 to 4 {
        affine.for %j = 0 to 8 {
          %a = affine.load %v[%i, %j] : memref<4x8xf32, strided<[32, 2]>>
          affine.store %a, %y[%i, %j] : memref<4x8xf32>
        } {morph.iter = "j"}
      } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
      return
    }"""
    module = apply(Program(text, ((8, 16), (4, 8))), Vectorize("net", "j", 8))
    assert (count(module, "affine.vector_load"), count(module, "affine.load")) == (0, 8)


def test_truth_values_are_not_read_as_vectors():
    text = """func.func @main(%m: memref<4x8xi1>, %x: memref<4x8xf32>) {
      affine.for %i = 0 to 4 {
        affine.for %j = 0 to 8 {
          %z = arith.constant 0.0 : f32
          %a = affine.load %m[%i, %j] : memref<4x8xi1>
          %v = affine.load %x[%i, %j] : memref<4x8xf32>
          %s = arith.select %a, %v, %z : f32
          affine.store %s, %x[%i, %j] : memref<4x8xf32>
        } {morph.iter = "j"}
      } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
      return
    }"""
    module = ir.Module.parse(text)
    Vectorize("net", "j", 8).apply(module.operation)
    mask = np.random.default_rng(0).random((4, 8)) < 0.5
    values = np.arange(32, dtype=np.float32).reshape(4, 8)
    np.testing.assert_array_equal(run_affine(module.operation, [mask, values])[1], np.where(mask, values, 0))


# ---- reductions


def reduction(combiner: str, extent: int, type_: str = "f32") -> str:
    return f"""func.func @main(%x: memref<3x{extent}x{type_}>, %y: memref<3x{type_}>) {{
      affine.for %i = 0 to 3 {{
        affine.for %j = 0 to {extent} {{
          %v = affine.load %x[%i, %j] : memref<3x{extent}x{type_}>
          %o = affine.load %y[%i] : memref<3x{type_}>
          %s = arith.{combiner} %v, %o : {type_}
          affine.store %s, %y[%i] : memref<3x{type_}>
        }} {{morph.iter = "j"}}
      }} {{morph.iter = "i", morph.layer = "net", morph.role = "main"}}
      return
    }}"""


FLOATS = ["addf", "mulf", "maximumf", "minimumf", "maxnumf", "minnumf"]
INTEGERS = ["addi", "muli", "andi", "ori", "xori", "maxsi", "maxui", "minsi", "minui"]


@pytest.mark.parametrize(("combiner", "extent"), [("addf", 4), ("addf", 8), *((c, 11) for c in FLOATS + INTEGERS)])
def test_reductions(combiner, extent):
    type_, dtype = ("f32", np.float32) if combiner in FLOATS else ("i32", np.int32)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-4, 5, s).astype(dtype) for s in ((3, extent), (3,))]
    if combiner == "mulf":  # products of 1 and 2 are exact
        arrays = [np.abs(a) % 2 + 1 for a in arrays]
    text = reduction(combiner, extent, type_)
    module = ir.Module.parse(text)
    Vectorize("net", "j", 4).apply(module.operation)
    assert count(module, "vector.reduction") == 1
    np.testing.assert_array_equal(run_affine(module.operation, arrays)[1], run_affine(text, arrays)[1])


@pytest.mark.parametrize("combiner", ["maximumf", "minimumf", "maxnumf", "minnumf", "addf"])
def test_reductions_of_special_values(combiner):
    x = np.full((3, 8), -0.0, np.float32)
    x[1, 5], x[2, :] = np.nan, np.inf
    y = np.array([-0.0, np.nan, -np.inf], np.float32)
    module = ir.Module.parse(reduction(combiner, 8))
    Vectorize("net", "j", 4).apply(module.operation)
    got, wanted = run_affine(module.operation, [x, y])[1], run_affine(reduction(combiner, 8), [x, y])[1]
    np.testing.assert_array_equal(got, wanted)
    assert np.signbit(got[0]) == np.signbit(wanted[0])


def test_a_nest_that_is_one_reduction_stays_one_nest():
    source = program(
        {"i": 19},
        """%v = affine.load %x[%i] : {x}
        %o = affine.load %y[2] : {y}
        %s = arith.addf %o, %v : f32
        affine.store %s, %y[2] : {y}""",
        {"x": (19,), "y": (4,)},
    )
    assert view(apply(source, Vectorize("net", "i", 8))).iterators == ("i.0", "i", "i.rest")


def test_unrolled_reductions_into_one_element():
    nest = view(
        apply(
            convolution(co=2, size=4, ci=8),
            Interchange("net", ("kh", "kw", "ci")),
            UnrollJam("net", "kw", 3),
            Vectorize("net", "ci", 4),
        )
    )
    assert nest.iterators[-1] == "ci"


def test_all_loops_of_the_name():
    module = ir.Module.parse(
        apply(convolution(size=4, kernel=4), Unroll("net", "kh", 4)).operation.get_asm().replace("kw_2", "kw_1")
    )
    Vectorize("net", "kw_1", 4).apply(module.operation)
    assert view(module).iterators == ("n", "co", "oh", "ow", "ci", "kw_0", "kw_3")
    check(convolution(size=4, kernel=4), module)


# ---- with other transformations


def test_the_nest_can_be_transformed_further():
    source = program(
        {"i": 4, "j": 6, "k": 16},
        """%v = affine.load %x[%j, %i, %k] : {x}
        %w = arith.addf %v, %v : f32
        affine.store %w, %y[%i, %j, %k] : {y}""",
        {"x": (6, 4, 16), "y": (4, 6, 16)},
    )
    for step in (
        Interchange("net", ("j", "i")),
        Split("net", "j", 4),
        Fuse("net", ("i", "j")),
        Unroll("net", "j", 3),
        UnrollJam("net", "i", 2),
    ):
        apply(source, Vectorize("net", "k", 8), step)


def test_dependences_know_the_lanes():
    source = program(
        {"i": 3, "j": 16},
        """%v = affine.load %x[%i * 8 + 4] : {x}
        affine.store %v, %y[%i * 8 + %j] : {y}""",
        {"x": (32,), "y": (32,)},
    )
    module = apply(source, Vectorize("net", "j", 8))
    with pytest.raises(IllegalTransform, match=r"would reverse the output dependence"):
        Interchange("net", ("j", "i")).apply(module.operation)


@pytest.mark.parametrize("step", [Bottleneck("net", "co", 2), Group("net", ("co", "ci"), 2)])
def test_network_changing_transformations_come_before(step):
    module = apply(convolution(co=4, size=4, ci=4), Vectorize("net", "kw", 3))
    with pytest.raises(IllegalTransform, match="its nest is already vectorised; this has to come before"):
        step.apply(module.operation)


# ---- properties


@settings(max_examples=40, deadline=None)
@given(small_nests(), st.sampled_from((2, 3, 4, 8)))
def test_any_small_nest_computes_the_same_or_is_refused(source, width):
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(source.text)
        iterator = view(module).iterators[-1]
        try:
            Vectorize("net", iterator, width).apply(module.operation)
        except IllegalTransform:
            assert str(module) == str(ir.Module.parse(source.text))
            return
        check(source, module)
        KEPT.clear()


@pytest.mark.parametrize("iterator", ["kw", "ci", "ow", "co"])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_iterator_of_a_convolution(iterator, stride):
    others = [name for name in ("co", "ow", "ci", "kh", "kw") if name != iterator]
    source = convolution(co=4, size=5, ci=4, kernel=4, stride=stride)
    module = apply(source, Interchange("net", (*reversed(others), iterator)), Vectorize("net", iterator, 3))
    assert view(module).is_vectorised


@pytest.mark.parametrize("source", [pooling(4, 6, 2), diagonal()], ids=["pooling", "diagonal"])
def test_loops_that_carry_nothing(source):
    inner = "ow" if "kw" in view(ir.Module.parse(source.text)).iterators else "j"
    order = ("kh", "kw", "ow") if inner == "ow" else None
    apply(source, *([Interchange("net", order)] if order else []), Vectorize("net", inner, 4))
