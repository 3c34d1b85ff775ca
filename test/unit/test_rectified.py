"""Least squares where a rectifier follows: what is cut off is free, and networks are told where that is so."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.oracle.repair.normal_equations import NormalEquations, Solution
from loopmorph.pipelines.oracle.repair.rectified import RectifiedRows
from loopmorph.pipelines.oracle.repair.surroundings import surroundings
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings

RIDGE = 1e-6


def rows(seed: int, count: int, unknowns: int = 6, outputs: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(2, count, unknowns, generator=generator)
    y = u @ torch.randn(2, unknowns, outputs, generator=generator) + torch.randn(2, count, outputs, generator=generator)
    return u, y


def plain(u: torch.Tensor, y: torch.Tensor, intercept: bool) -> Solution:
    equations = NormalEquations.empty(len(u), u.shape[2], y.shape[2], u.device)
    equations.add(u, y)
    return equations.solve(torch.zeros(len(u), u.shape[2], y.shape[2]), RIDGE, intercept)


def solved(u: torch.Tensor, y: torch.Tensor, low: float, high: float, intercept: bool, steps: int = 8) -> Solution:
    every = RectifiedRows()
    for part in torch.arange(u.shape[1]).chunk(3):
        bounds = (torch.full_like(y[:, part], end) for end in (low, high))
        every.add(u[:, part], y[:, part], *bounds)
    return every.solve(torch.zeros(len(u), u.shape[2], y.shape[2]), plain(u, y, intercept), intercept, steps)


def missed(u: torch.Tensor, y: torch.Tensor, solution: Solution, low: float, high: float) -> torch.Tensor:
    """How far each output is from where the rectifier gives what it should, in float64."""
    p = u.double() @ solution.weight + solution.intercept[:, None]
    free = ((y < low) & (p < low)) | ((y > high) & (p > high))
    return torch.where(free, 0.0, p - y.double().clamp(low, high))


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.0, math.inf), (-0.5, 1.0)])
def test_reaches_the_minimum(low: float, high: float, intercept: bool) -> None:
    """The error is convex: its gradient is 0 nowhere but at the minimum."""
    u, y = rows(0, 300)
    found = solved(u, y, low, high, intercept, steps=300)
    left = missed(u, y, found, low, high)
    assert (u.double().transpose(1, 2) @ left).abs().max() < 2e-2 < (u.transpose(1, 2) @ y).abs().max() / 100
    assert not intercept or left.sum(1).abs().max() < 2e-2
    assert float(left.square().sum()) < float(missed(u, y, plain(u, y, intercept), low, high).square().sum()) * 0.99


@pytest.mark.parametrize("count", [300, 4])  # more rows than unknowns, and fewer
def test_without_anything_cut_off_it_is_least_squares(count: int) -> None:
    u, y = rows(1, count)
    found, expected = solved(u, y, -math.inf, math.inf, True), plain(u, y, True)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.intercept, expected.intercept, rtol=1e-3, atol=1e-4)
    assert found.after == pytest.approx(expected.after, abs=1e-5)


def test_outputs_that_are_always_cut_off_cost_nothing() -> None:
    u, y = rows(2, 100)
    found = solved(u, y - 100, 0.0, math.inf, True)
    assert found.after == 0.0


class Net(nn.Module):
    """Convolutions before different ends."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("plain", "normed", "summed", "twice", "bounded", "last"):
            setattr(self, name, nn.Conv2d(4, 4, 3, padding=1, bias=False))
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.plain(x))
        x = nn.functional.relu_(self.norm1(self.normed(x)))
        y = self.norm2(self.summed(x))
        y += x
        z = self.twice(torch.relu_(y))
        z = torch.relu(z) + z
        return self.last(nn.functional.relu6(self.bounded(z)))


def test_rectifiers_are_seen() -> None:
    names = ("plain", "normed", "summed", "twice", "bounded", "last")
    found = surroundings(Net().eval(), names, [torch.randn(1, 4, 5, 5)])
    relu = (0.0, math.inf)
    passed = {name: found[name].passed for name in names}
    assert passed == {"plain": relu, "normed": relu, "summed": relu, "twice": None, "bounded": (0.0, 6.0), "last": None}
    assert found["summed"].other is not None and found["summed"].norm == "norm2"


def test_a_network_is_nearer_with_its_rectifiers_heeded() -> None:
    torch.manual_seed(0)
    x = torch.randn(192, 4, 5, 5)
    model = Net().train()
    for _ in range(20):
        model(x)
    original = lm.import_model(model.eval(), (x[:2],))
    program = original.apply(",".join(f"morph-group{{layer={n} iters=co,ci factor=2}}" for n in ("normed", "summed")))
    errors = [
        inherited_error(original, program.repair(x[:128], FitSettings(refinements=steps)), x[128:]) for steps in (0, 8)
    ]
    assert errors[1] < 0.97 * errors[0]
