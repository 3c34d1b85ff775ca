"""Least squares from the rows themselves equals that from Gram matrices, and what it leaves is the true error."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopmorph.pipelines.oracle.repair.normal_equations import EXACT, NormalEquations, Solution, solver
from loopmorph.pipelines.oracle.repair.row_equations import RowEquations

BLOCKS, UNKNOWNS, OUTPUTS = 2, 12, 3


def problem(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs with a mean, targets, and weights to begin with."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(BLOCKS, rows, UNKNOWNS, generator=generator, dtype=torch.float64) + 0.5
    y = torch.randn(BLOCKS, rows, OUTPUTS, generator=generator, dtype=torch.float64) + 1
    return u, y, torch.randn(BLOCKS, UNKNOWNS, OUTPUTS, generator=generator, dtype=torch.float64)


def both(u: torch.Tensor, y: torch.Tensor) -> tuple[RowEquations, NormalEquations]:
    """The same rows in both forms, given in two parts."""
    rows, normal = RowEquations(), NormalEquations.empty(BLOCKS, UNKNOWNS, OUTPUTS, torch.device("cpu"))
    for part in (slice(0, 2), slice(2, None)):
        rows.add(u[:, part], y[:, part])
        normal.add(u[:, part], y[:, part])
    return rows, normal


def assert_same(one: Solution, other: Solution) -> None:
    torch.testing.assert_close(one.weight, other.weight, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(one.intercept, other.intercept, rtol=1e-6, atol=1e-8)
    assert (one.before, one.after) == pytest.approx((other.before, other.after), abs=1e-8)
    assert (one.dead, one.rank_deficient, one.ridge) == (other.dead, other.rank_deficient, other.ridge)


def solved(rows: RowEquations, start: torch.Tensor, ridge: float = 0.1, intercept: bool = True) -> Solution:
    return rows.fitted(RowEquations(), start, (ridge,), intercept)


@settings(deadline=None, max_examples=25)
@given(rows=st.integers(3, 20), seed=st.integers(0, 99), ridge=st.sampled_from([1e-3, 1e-1, 10]), about=st.booleans())
def test_both_forms_have_the_same_solution(rows: int, seed: int, ridge: float, about: bool) -> None:
    u, y, begin = problem(rows, seed)
    one, other = both(u, y)
    assert_same(solved(one, begin, ridge, about), other.solve(begin, ridge, about))


def test_it_chooses_the_same_ridge() -> None:
    u, y, begin = problem(8, 0)
    ridges = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    (row_fit, normal_fit), (row_held, normal_held) = both(u[:, :5], y[:, :5]), both(u[:, 5:], y[:, 5:])
    for about in (True, False):
        found = row_fit.fitted(row_held, begin, ridges, about)
        assert_same(found, normal_fit.fitted(normal_held, begin, ridges, about))


def test_rows_with_nan_are_left_out_and_parts_are_joined() -> None:
    u, y, begin = problem(8, 1)
    broken = u.clone()
    broken[1, 3, 2] = torch.nan
    one, _ = both(broken, y)
    kept = [k for k in range(8) if k != 3]
    other, _ = both(u[:, kept], y[:, kept])
    assert (one.dropped, one.rows) == (1, 7)
    assert_same(solved(one, begin), solved(other, begin))
    first, second = RowEquations(), RowEquations()
    first.add(u[:, :3], y[:, :3])
    second.add(u[:, 3:], y[:, 3:])
    assert_same(solved(first.joined(second), begin), solved(both(u, y)[0], begin))


def test_inputs_that_never_vary_are_counted() -> None:
    u, y, begin = problem(6, 2)
    u[:, :, 4] = 0
    one, other = both(u, y)
    assert_same(solved(one, begin), other.solve(begin, 0.1, True))
    assert solved(one, begin).dead == BLOCKS


def test_many_unknowns_in_float32_give_the_outputs_of_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    unknowns, count, ridge = EXACT + 8, 700, 1e-3
    u = torch.randn(1, count, unknowns, generator=generator).relu()
    u[:, :, 1::2] = u[:, :, ::2] + 1e-3 * u[:, :, 1::2]  # pairs that are nearly the same
    y = u @ torch.randn(1, unknowns, 3, generator=generator) + torch.randn(1, count, 3, generator=generator)
    about, target = (x[0].double() - x[0].double().mean(0) for x in (u, y))
    moments = about.T @ about
    shift = ridge * moments.diagonal().mean() * torch.eye(unknowns, dtype=torch.float64)
    expected = torch.linalg.solve(moments + shift, about.T @ target)
    remains = (target - about @ expected).square().sum() / target.square().sum()
    rows, normal = RowEquations(), NormalEquations.empty(1, unknowns, 3, u.device)
    rows.add(u, y)
    normal.add(u, y)
    begin = torch.zeros(1, unknowns, 3, dtype=torch.float64)
    for each, found in ((rows, solved(rows, begin, ridge)), (normal, normal.solve(begin, ridge, True))):
        apart = (about @ (found.weight[0] - expected)).square().sum() / target.square().sum()
        assert apart < 1e-8 and found.after == pytest.approx(float(remains), rel=1e-3)
        covariance = expected.T @ moments @ expected
        torch.testing.assert_close(each.covariance(expected[None], True)[0], covariance, rtol=1e-4, atol=1e-2)
        assert each.variance(True) == pytest.approx(float(moments.diagonal().mean()), rel=1e-5)
    assert normal.gram.dtype is torch.float32


def test_what_float32_cannot_factorise_is_solved_in_float64() -> None:
    gram = torch.ones(1, 4, 4) + 1e-9 * torch.eye(4)
    found = solver(gram, 1e-10)(torch.ones(1, 4, 1, dtype=torch.float64))
    torch.testing.assert_close(found, torch.full((1, 4, 1), 0.25, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_cannot_be_factorised_at_all_is_solved_as_far_as_it_can(dtype: torch.dtype) -> None:
    gram = torch.tensor([[[1.0, 1e6], [1e6, 1.0]]], dtype=dtype)  # no ridge that is tried makes it positive
    found = solver(gram, 1e-6)(torch.tensor([[[2e6], [1e6]]], dtype=dtype))
    torch.testing.assert_close(found, torch.tensor([[[1.0], [2.0]]], dtype=torch.float64), rtol=1e-4, atol=0)
