"""Keep sets against plain Python sets: what is kept, renumbered, cut into digits and written as an index."""

from __future__ import annotations

from itertools import product as every

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import evaluate
from loopmorph.passes.analysis.coupling.inheritance import compose_inheritance, inherit_kept, inherited_terms
from loopmorph.passes.analysis.coupling.keep_set import KeepSet, cut_shares, product

EXTENTS = st.integers(1, 24)


@st.composite
def keep_sets(draw: st.DrawFn, extent: int | None = None, *, empty: bool = True) -> KeepSet:
    size = draw(EXTENTS) if extent is None else extent
    kept = draw(st.lists(st.integers(0, size - 1), min_size=0 if empty else 1))
    return KeepSet.union(size, [(i, i + 1) for i in kept])


def members(keep: KeepSet) -> set[int]:
    return {i for begin, end in keep.intervals for i in range(begin, end)}


@given(keep_sets())
def test_intervals_are_ascending_apart_and_not_empty(keep: KeepSet) -> None:
    bounds = [bound for interval in keep.intervals for bound in interval]
    assert bounds == sorted(set(bounds))
    assert members(keep) == set(keep.indices.tolist())
    assert keep.size == len(members(keep))
    assert keep.is_whole == (members(keep) == set(range(keep.extent)))


@given(st.data(), EXTENTS)
def test_intersection(data: st.DataObject, extent: int) -> None:
    a, b = data.draw(keep_sets(extent)), data.draw(keep_sets(extent))
    assert members(a & b) == members(a) & members(b)


@given(keep_sets(), st.integers(0, 24))
def test_the_number_of_kept_indices_below_is_the_new_index(keep: KeepSet, index: int) -> None:
    assert keep.below(index) == len([i for i in members(keep) if i < index])
    assert [keep.below(i) for i in sorted(members(keep))] == list(range(keep.size))


@given(keep_sets(), st.integers(0, 6), st.integers(0, 6))
def test_a_slice_comes_back_from_where_it_was_placed(keep: KeepSet, before: int, after: int) -> None:
    larger = keep.placed(before, before + keep.extent + after)
    rest = {*range(before), *range(before + keep.extent, larger.extent)}
    assert members(larger) == {i + before for i in members(keep)} | rest
    assert larger.part(before, before + keep.extent) == keep


@given(keep_sets(), st.integers(1, 5))
def test_repetition(keep: KeepSet, times: int) -> None:
    assert members(keep.repeated(times)) == {i * times + r for i in members(keep) for r in range(times)}


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_products_and_projections_of_digits(data: st.DataObject, extents: list[int]) -> None:
    digits = [data.draw(keep_sets(extent, empty=False)) for extent in extents]
    number = product(digits)
    weights = [int(np.prod(extents[k + 1 :])) for k in range(len(extents))]
    combined = every(*(sorted(members(d)) for d in digits))
    assert members(number) == {sum(w * i for w, i in zip(weights, point, strict=True)) for point in combined}
    assert number.projections(extents) == tuple(digits)


@given(keep_sets(empty=False))
def test_an_expression_gives_the_old_index_of_each_new_one(keep: KeepSet) -> None:
    with ir.Context():
        expr = keep.expression(ir.AffineExpr.get_dim(0))
        if expr is None:
            assert len(keep.intervals) > 1
        else:
            old = np.broadcast_to(evaluate(expr, [np.arange(keep.size)]), [keep.size])
            assert old.tolist() == keep.indices.tolist()


@given(st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans())
def test_every_segment_keeps_its_share(factor: int, lengths: list[int], central: bool) -> None:
    bounds = np.cumsum([0, *(n * factor for n in lengths)]).tolist()
    keep = cut_shares(bounds[-1], bounds[:-1], factor, central=central)
    for begin, end, n in zip(bounds, bounds[1:], lengths, strict=False):
        first = begin + (n * factor - n) // 2 if central else begin
        assert members(keep) & set(range(begin, end)) == set(range(first, first + n))


@given(st.data(), st.lists(st.integers(1, 7), min_size=1, max_size=3), st.integers(1, 3))
def test_inheritance_through_several_steps_is_slicing_again_and_again(
    data: st.DataObject, shape: list[int], steps: int
) -> None:
    value = np.arange(np.prod(shape)).reshape(shape)
    imported = value
    with ir.Context():
        inherited: dict[str, ir.Attribute] = {}
        for _ in range(steps):
            kept = [data.draw(keep_sets(extent, empty=False)) for extent in value.shape]
            inherited[marks.INHERIT] = inherit_kept(inherited, kept)
            value = value[np.ix_(*(axis.indices for axis in kept))]
            again = ir.Attribute.parse(str(inherited[marks.INHERIT]))
            (term,) = inherited_terms(again, value.shape)
            assert (imported[term.indices] == value).all()


def test_inheritance_of_a_map_after_a_list() -> None:
    imported = np.arange(30).reshape(10, 3)
    with ir.Context():
        rows, columns = ir.AffineExpr.get_dim(0), ir.AffineExpr.get_dim(1)
        irregular = KeepSet.union(10, [(0, 1), (4, 6), (7, 10)])
        inherited = {marks.INHERIT: inherit_kept({}, [irregular, KeepSet.whole(3)])}
        assert str(inherited[marks.INHERIT]) == "[[array<i64: 0, 1, 4, 6, 7, 10>, array<i64>]]"
        inherited[marks.INHERIT] = compose_inheritance(inherited, [rows * 2, columns], [3, 3])
        assert len(ir.ArrayAttr(inherited[marks.INHERIT])) == 2
        (term,) = inherited_terms(inherited[marks.INHERIT], [3, 3])
    assert (imported[term.indices] == imported[[0, 5, 8]]).all()


@pytest.mark.parametrize(
    ("intervals", "text"), [([(0, 2), (4, 5)], "0..1, 4"), ([(1, 3), (2, 6)], "1..5"), ([], "nothing")]
)
def test_in_words(intervals: list[tuple[int, int]], text: str) -> None:
    assert str(KeepSet.union(8, intervals)) == text
