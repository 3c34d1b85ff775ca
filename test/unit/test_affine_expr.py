from __future__ import annotations

import itertools

import islpy as isl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_mlir import ir

from loopmorph.passes.affine_expr import (
    LinearForm,
    evaluate,
    from_linear,
    isl_text,
    linear_form,
    simplify,
    substitute,
    used_dims,
    value_range,
)

EXTENTS = (4, 3, 6)

pytestmark = pytest.mark.usefixtures("context")


def grid() -> list[np.ndarray]:
    """Every point within EXTENTS, one array for each dimension."""
    return list(np.indices(EXTENTS))


# Expressions as nested tuples, built only once a context is there.
leaves = st.one_of(
    st.integers(-9, 9).map(lambda c: ("constant", c)), st.integers(0, len(EXTENTS) - 1).map(lambda d: ("dim", d))
)
trees = st.recursive(
    leaves,
    lambda t: st.one_of(
        st.tuples(st.just("add"), t, t),
        st.tuples(st.just("mul"), t, st.integers(-5, 9)),
        st.tuples(st.sampled_from(["floordiv", "ceildiv", "mod"]), t, st.integers(1, 9)),
    ),
    max_leaves=8,
)


def build(tree) -> ir.AffineExpr:
    if tree[0] == "constant":
        return ir.AffineExpr.get_constant(tree[1])
    if tree[0] == "dim":
        return ir.AffineExpr.get_dim(tree[1])
    lhs = build(tree[1])
    if tree[0] == "add":
        return lhs + build(tree[2])
    if tree[0] == "mul":
        return lhs * tree[2]
    make = {
        "floordiv": ir.AffineExpr.get_floor_div,
        "ceildiv": ir.AffineExpr.get_ceil_div,
        "mod": ir.AffineExpr.get_mod,
    }[tree[0]]
    return make(lhs, ir.AffineExpr.get_constant(tree[2]))


def interpret(tree, point) -> int:
    """The meaning of a tree in Python's integers, independent of the code under test."""
    kind, lhs = tree[:2]
    if kind == "constant":
        return lhs
    if kind == "dim":
        return int(point[lhs])
    value = interpret(lhs, point)
    if kind == "add":
        return value + interpret(tree[2], point)
    return {"mul": value * tree[2], "floordiv": value // (tree[2] or 1), "ceildiv": -(-value // (tree[2] or 1))}.get(
        kind, value % (tree[2] or 1)
    )


@given(trees)
def test_evaluate_follows_the_definition(tree):
    values = np.broadcast_to(evaluate(build(tree), grid()), EXTENTS)
    for point in itertools.product(*map(range, EXTENTS)):
        assert values[point] == interpret(tree, point)


@given(trees)
def test_simplify_keeps_the_values_within_the_extents(tree):
    expr = build(tree)
    before, after = (np.broadcast_to(evaluate(e, grid()), EXTENTS) for e in (expr, simplify(expr, EXTENTS)))
    np.testing.assert_array_equal(after, before)


@given(trees)
def test_value_range_contains_every_value(tree):
    expr = build(tree)
    values = evaluate(expr, grid())
    low, high = value_range(expr, EXTENTS)
    assert low <= values.min() and values.max() <= high


@given(trees)
def test_linear_form_is_none_or_the_same_function(tree):
    expr = build(tree)
    form = linear_form(expr)
    if form is not None:
        values = form.constant + sum(c * grid()[d] for d, c in form.coefficients.items())
        np.testing.assert_array_equal(
            np.broadcast_to(values, EXTENTS), np.broadcast_to(evaluate(expr, grid()), EXTENTS)
        )
        assert linear_form(from_linear(form)) == form


@given(trees, st.tuples(*(st.integers(0, e - 1) for e in EXTENTS)))
def test_isl_reads_the_text_as_the_same_number(tree, point):
    expr = build(tree)
    image = isl.Set(f"{{ [{', '.join(map(str, point))}] }}").apply(
        isl.Map(f"{{ [a, b, c] -> [{isl_text(expr, 'abc')}] }}")
    )
    value = image.sample_point().get_coordinate_val(isl.dim_type.set, 0).to_python()
    assert value == int(evaluate(expr, [np.asarray(p) for p in point]))


@given(trees, st.integers(-3, 3))
def test_substitute_composes(tree, shift):
    expr = build(tree)
    moved = substitute(expr, {0: ir.AffineExpr.get_dim(1) + shift}, len(EXTENTS))
    values = grid()
    expected = evaluate(expr, [values[1] + shift, values[1], values[2]])
    np.testing.assert_array_equal(np.broadcast_to(evaluate(moved, values), EXTENTS), np.broadcast_to(expected, EXTENTS))


def test_linear_form_of_a_quotient_is_none():
    assert linear_form(ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(0), ir.AffineExpr.get_constant(2))) is None


def test_linear_form_adds_up_coefficients():
    d0, d1 = ir.AffineExpr.get_dim(0), ir.AffineExpr.get_dim(1)
    assert linear_form(d0 * 2 + d1 - d0 * 2 + 5) == LinearForm({1: 1}, 5)


@pytest.mark.parametrize(("kind", "wanted"), [("floordiv", {1}), ("mod", {0})])
def test_simplify_resolves_division_of_a_split_iterator(kind, wanted):
    split = ir.AffineExpr.get_dim(1) * 4 + ir.AffineExpr.get_dim(0)
    divide = {"floordiv": ir.AffineExpr.get_floor_div, "mod": ir.AffineExpr.get_mod}[kind]
    simple = simplify(divide(split, ir.AffineExpr.get_constant(4)), EXTENTS)
    assert linear_form(simple) == LinearForm({d: 1 for d in wanted})
    assert used_dims(simple) == wanted


def test_symbols_are_refused():
    with pytest.raises(TypeError, match="symbols are not supported"):
        linear_form(ir.AffineExpr.get_symbol(0))
