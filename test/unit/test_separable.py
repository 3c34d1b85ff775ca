"""A depthwise term and the mix after it: exact where that can be, and close to the best of those near by elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.oracle.repair.separable import separable_factors
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings

EXACT = FitSettings(ridges=(1e-12,), rows=None)
SEPARABLE = "morph-mix{layer=0 iter=co},morph-depthwise{layer=0}"
CHANNELS, TAPS, OUTPUTS = 5, 4, 7


def problem(correlated: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """A dense weight (unknowns, outputs), and a Gram matrix of channels that are correlated or not."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(200, CHANNELS * TAPS, generator=generator, dtype=torch.float64)
    if correlated:
        samples += samples.mean(1, keepdim=True)
    gram = samples.T @ samples
    if not correlated:
        gram *= torch.block_diag(*torch.ones(CHANNELS, TAPS, TAPS, dtype=torch.float64))
    return torch.randn(CHANNELS * TAPS, OUTPUTS, generator=generator, dtype=torch.float64), gram


def lost(weight: torch.Tensor, gram: torch.Tensor, depthwise: torch.Tensor, mixing: torch.Tensor) -> float:
    assert depthwise.shape == (CHANNELS, TAPS) and mixing.shape == (CHANNELS, OUTPUTS)
    left = weight - (depthwise[:, :, None] * mixing[:, None]).reshape(weight.shape)
    return float((left * (gram @ left)).sum())


def test_of_uncorrelated_channels_it_is_the_decomposition_of_each() -> None:
    weight, gram = problem(correlated=False)
    expected = 0.0
    for k in range(CHANNELS):
        own = slice(k * TAPS, (k + 1) * TAPS)
        values = torch.linalg.svdvals(torch.linalg.cholesky(gram[own, own]).T @ weight[own])
        expected += float(values[1:].square().sum())
    found = lost(weight, gram, *separable_factors(weight, gram, CHANNELS))
    assert found == pytest.approx(expected, rel=1e-6)


def test_it_is_stationary_where_channels_are_correlated() -> None:
    weight, gram = problem(correlated=True)
    depthwise, mixing = separable_factors(weight, gram, CHANNELS)
    best = lost(weight, gram, depthwise, mixing)
    parts = [part.clone(memory_format=torch.contiguous_format).requires_grad_(True) for part in (depthwise, mixing)]
    descent = torch.optim.LBFGS(parts, max_iter=500, line_search_fn="strong_wolfe")

    def error() -> torch.Tensor:
        descent.zero_grad()
        left = weight - (parts[0][:, :, None] * parts[1][:, None]).reshape(weight.shape)
        total: torch.Tensor = (left * (gram @ left)).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    descent.step(error)  # type: ignore[no-untyped-call]
    assert best <= 1.02 * float(error().detach())


@pytest.mark.parametrize("bias", [False, True])
def test_a_separable_layer_loses_nothing(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, padding=1, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(8, 8, 1, 1) * torch.randn(1, 8, 3, 3))
    model = nn.Sequential(layer).eval()
    x = torch.randn(24, 8, 6, 6) + 1
    program = lm.import_model(model, (x[:2],)).apply(SEPARABLE)
    assert inherited_error(lm.import_model(model, (x[:2],)), program.repair(x, EXACT), x) < 1e-6
