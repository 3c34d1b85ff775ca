"""Renaming a dimension, on nests that no network gives so plainly; and how parameters inherit in another order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.coupling.inheritance import inherit_permuted, inherited_terms
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.neural.permute import Permute

# x -> a -> MIDDLE -> b -> y; the middle makes %u of %t, both of 4 channels.
CHAIN = """
func.func @main(%x: memref<6xf32> {morph.input = 0 : i64}, %w: memref<4x6xf32> {morph.param = "w"},
                %v: memref<2x4xf32> {morph.param = "v"}, %y: memref<2xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<4xf32>
  affine.for %c = 0 to 4 { affine.for %k = 0 to 6 {
    %0 = affine.load %x[%k] : memref<6xf32>
    %1 = affine.load %w[%c, %k] : memref<4x6xf32>
    %2 = affine.load %t[%c] : memref<4xf32>
    %3 = arith.mulf %0, %1 : f32
    %4 = arith.addf %2, %3 : f32
    affine.store %4, %t[%c] : memref<4xf32>
  } {morph.iter = "ci"} } {morph.iter = "co", morph.layer = "a"}
  %u = memref.alloc() : memref<4xf32>
  MIDDLE
  affine.for %o = 0 to 2 { affine.for %c = 0 to 4 {
    %0 = affine.load %u[%c] : memref<4xf32>
    %1 = affine.load %v[%o, %c] : memref<2x4xf32>
    %2 = affine.load %y[%o] : memref<2xf32>
    %3 = arith.mulf %0, %1 : f32
    %4 = arith.addf %2, %3 : f32
    affine.store %4, %y[%o] : memref<2xf32>
  } {morph.iter = "ci"} } {morph.iter = "co", morph.layer = "b"}
  return
}
"""
ALONE = """
  affine.for %c = 0 to 4 {
    %0 = affine.load %t[%c] : memref<4xf32>
    affine.store %0, %u[%c] : memref<4xf32>
  } {morph.iter = "c", morph.layer = "middle"}
"""
SCAN = """
  %s = memref.alloc() : memref<1xf32>
  affine.for %c = 0 to 4 {
    %0 = affine.load %t[%c] : memref<4xf32>
    %1 = affine.load %s[0] : memref<1xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %s[0] : memref<1xf32>
    affine.store %2, %u[%c] : memref<4xf32>
  } {morph.iter = "c", morph.layer = "middle"}
"""
NUMBERED = """
  affine.for %c = 0 to 4 {
    %0 = affine.load %t[%c] : memref<4xf32>
    %1 = affine.apply affine_map<(d0) -> (d0 * 2)>(%c)
    %2 = arith.index_cast %1 : index to i32
    %3 = arith.sitofp %2 : i32 to f32
    %4 = arith.addf %0, %3 : f32
    affine.store %4, %u[%c] : memref<4xf32>
  } {morph.iter = "c", morph.layer = "middle"}
"""
# As `morph-unroll` leaves a reduction behind: loops beside each other, with as many iterations together as a product.
PARTS = "affine.for %o = 0 to 1 {"
PARTS += "".join(ALONE.replace('"c", morph.layer = "middle"', f'"c_{part}"') for part in range(40))
PARTS += '} {morph.iter = "o", morph.layer = "middle"}'
UNSEEN = NUMBERED.replace("%4, %u[%c]", "%0, %u[%c]").replace(
    "affine.store", "affine.store %4, %n[%c] : memref<4xf32>\n    affine.store", 1
)
FROM_ONE = ALONE + ALONE.replace("= 0 to 4", "= 1 to 4").replace('"middle"', '"last"')
TRIANGLE = """
  affine.for %c = 0 to 4 { affine.for %k = 0 to affine_map<(d0) -> (d0 + 1)>(%c) {
    %0 = affine.load %t[%k] : memref<4xf32>
    affine.store %0, %u[%c] : memref<4xf32>
  } {morph.iter = "k"} } {morph.iter = "c", morph.layer = "middle"}
"""
ANOTHER_ORDER = (
    ALONE
    + """
  affine.for %c = 0 to 4 {
    %0 = affine.load %t[-%c + 3] : memref<4xf32>
    affine.store %0, %u[%c] : memref<4xf32>
  } {morph.iter = "c", morph.layer = "last"}
"""
)


def permuted(middle: str, order: tuple[int, ...]) -> str:
    """The chain after `order` on `a`; unchanged where that is refused, which is raised."""
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(CHAIN.replace("MIDDLE", middle))
        before = str(module)
        try:
            Permute("a", "co", order).apply(module.operation)
        except IllegalTransform:
            assert str(module) == before
            raise
        return str(module)


@pytest.mark.parametrize("middle", [ALONE, PARTS, "  %n = memref.alloc() : memref<4xf32>\n" + UNSEEN])
def test_what_follows(middle: str) -> None:
    text = permuted(middle, (1, 0, 2, 3))
    assert 'memref<4x6xf32> {morph.inherit = [[array<i64: 1, 2, 0, 1, 2, 4>, array<i64>]], morph.param = "w"}' in text
    assert 'memref<2x4xf32> {morph.inherit = [[array<i64>, array<i64: 1, 2, 0, 1, 2, 4>]], morph.param = "v"}' in text


REFUSED = {
    "scan": (SCAN, "'middle' goes through it in order: the anti dependence .* carried by 'c'"),
    "numbered": (NUMBERED, "iterator 'c' of layer 'middle' enters the computed values, not only the indices"),
    "from one": (FROM_ONE, "layer 'last': its nest has a bound that is not constant"),
    "triangle": (TRIANGLE, "layer 'middle': its nest has a bound that is not constant"),
    "another order": (ANOTHER_ORDER, "'last' .* the tied dimension of extent 4 at "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_follow(name: str) -> None:
    middle, reason = REFUSED[name]
    with pytest.raises(IllegalTransform, match=reason):
        permuted(middle, (1, 0, 2, 3))


def test_an_order_that_both_accesses_admit() -> None:
    assert "array<i64: 3, 4, 2, 3, 1, 2, 0, 1>" in permuted(ANOTHER_ORDER, (3, 2, 1, 0))


FILL = """
func.func @main(%v: f32, %y: memref<1xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<4xf32>
  affine.for %c = 0 to 4 { affine.store %v, %t[%c] : memref<4xf32> } {morph.iter = "c", morph.layer = "fill"}
  affine.for %c = 0 to 4 {
    %0 = affine.load %t[%c] : memref<4xf32>
    %1 = affine.load %y[0] : memref<1xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %y[0] : memref<1xf32>
  } {morph.iter = "c", morph.layer = "sum"}
  return
}
"""


def test_a_dimension_without_parameters() -> None:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(FILL)
        with pytest.raises(
            IllegalTransform, match="'c': no parameter is tied to it, so that there is nothing to permute"
        ):
            Permute("sum", "c", (1, 0, 2, 3)).apply(module.operation)


# ---- inheritance


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.permutations(range(5)), st.permutations(range(3)), st.permutations(range(5)))
def test_inheritance_of_permuted_axes(rows: list[int], columns: list[int], again: list[int]) -> None:
    with ir.Context(), ir.Location.unknown():
        first = inherit_permuted({}, [np.array(rows), np.array(columns)])
        both = inherit_permuted({marks.INHERIT: first}, [np.array(again), np.arange(3)])
        (term,) = inherited_terms(both, (5, 3))
    assert np.array_equal(term.indices[0][:, 0], np.array(rows)[again])
    assert np.array_equal(term.indices[1][0], columns)
