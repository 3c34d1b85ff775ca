from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_mlir import ir

from loopmorph.passes.affine_expr import evaluate
from loopmorph.passes.analysis.memory.index_maps import Reach, each_once, includes, invert

# Index maps over two iterators, on one axis or two.
MAPS = (
    "(d0, d1)",
    "(d1 + 2, d0 * 3 + 1)",
    "(d0 * 4 + d1)",
    "(d0 + d1)",
    "(d0 + d1, d1)",
    "(d0 floordiv 2, d0 mod 2, d1)",
    "((d0 * 3 + d1) floordiv 4, (d0 * 3 + d1) mod 4)",
    "(d0 mod 2, d1)",
    "(5 - d0, d1)",
    "(0, d1)",
)

pytestmark = pytest.mark.usefixtures("context")


def exprs(text: str) -> tuple[ir.AffineExpr, ...]:
    return tuple(ir.AffineMapAttr(ir.Attribute.parse(f"affine_map<(d0, d1) -> {text}>")).value.results)


def indices(map_: tuple[ir.AffineExpr, ...], values: list[range]) -> list[tuple[int, ...]]:
    points = [[np.asarray(v) for v in point] for point in itertools.product(*values)]
    return [tuple(int(evaluate(e, point)) for e in map_) for point in points]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MAPS), st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_inverse_finds_every_point_again(text, extents):
    map_ = exprs(text)
    inverse = invert(map_, extents)
    found = indices(map_, [range(e) for e in extents])
    if len(set(found)) < len(found):
        assert inverse is None
    elif inverse is not None:
        for point, index in zip(itertools.product(*(range(e) for e in extents)), found, strict=True):
            assert tuple(int(evaluate(e, [np.asarray(v) for v in index])) for e in inverse) == point


@pytest.mark.parametrize("text", [MAPS[k] for k in (0, 1, 2, 5, 6)])
def test_inverse_is_found(text):
    assert invert(exprs(text), (4, 3)) is not None


def reach(texts: tuple[str, ...], extents: tuple[int, int]) -> Reach:
    return Reach(tuple(exprs(t) for t in texts), {d: np.arange(e) for d, e in enumerate(extents)}, (20, 20, 20))


families = st.tuples(
    st.lists(
        st.sampled_from(["(d0, d1, 0)", "(d0 * 2, d1, 0)", "(d0 * 2 + 1, d1, 0)", "(d1, d0 + d1, 1)", "(d0, 2, 0)"]),
        min_size=1,
        max_size=2,
    ),
    st.sampled_from([(1, 3), (2, 3), (4, 2)]),
)


@settings(max_examples=100, deadline=None)
@given(families, families)
def test_elements_that_are_reached(first, second):
    a, b = (reach(tuple(texts), extents) for texts, extents in (first, second))
    of_a, of_b = (
        [i for text in texts for i in indices(exprs(text), [range(e) for e in extents])]
        for texts, extents in (first, second)
    )
    if each_once([a]):
        assert len(set(of_a)) == len(of_a)
    if includes([a], [b]):
        assert set(of_a) >= set(of_b)


def test_several_accesses_side_by_side():
    jammed = reach(("(d0 * 2, d1, 0)", "(d0 * 2 + 1, d1, 0)"), (2, 3))
    whole = reach(("(d0, d1, 0)",), (4, 3))
    assert each_once([jammed]) and includes([jammed], [whole]) and includes([whole], [jammed])
    part = reach(("(d0, d1, 0)",), (3, 3))
    assert includes([whole], [part]) and not includes([part], [whole])


def test_several_places_together():
    whole = reach(("(d0, d1, 0)",), (5, 3))
    first, rest = reach(("(d0 * 2, d1, 0)", "(d0 * 2 + 1, d1, 0)"), (2, 3)), reach(("(d0 + 4, d1, 0)",), (1, 3))
    assert each_once([first, rest]) and includes([first, rest], [whole]) and includes([whole], [first, rest])
    overlapping = reach(("(d0 + 3, d1, 0)",), (2, 3))
    assert not each_once([first, overlapping]) and not includes([first, overlapping], [whole])
    assert not includes([rest], [whole]) and not includes([first], [rest])
