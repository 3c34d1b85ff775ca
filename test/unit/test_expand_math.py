"""exp, erf and tanh as polynomials, over all of f32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import loopmorph as lm

# Every exponent and sign with many significands, and the ends of what the polynomials are made for.
STEP = 16411
POINTS = 1 << 18
ENDS = (0.0, -0.0, math.inf, -math.inf, math.nan, 88.72283, 88.72284, -87.33655, -103.97208, -103.97209, 4.0, 9.0, 4e-4)


class Functions(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.exp(x), torch.erf(x), torch.tanh(x)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    bits = (np.arange(POINTS - 4096, dtype=np.uint64) * STEP % 2**32).astype(np.uint32)
    dense = np.linspace(-110, 110, 4096 - len(ENDS), dtype=np.float32)
    return np.concatenate([bits.view(np.float32), dense, np.asarray(ENDS, np.float32)])


@pytest.fixture(scope="module")
def computed(points: np.ndarray) -> dict[str, np.ndarray]:
    executable = lm.compile(Functions(), (torch.zeros(POINTS),), check=False)
    results = executable(torch.from_numpy(points))
    return dict(zip(("exp", "erf", "tanh"), (r.numpy() for r in results), strict=True))


@pytest.mark.parametrize(("name", "relative"), [("exp", 1.0e-7), ("erf", 5e-7), ("tanh", 5e-7)])
def test_errors_are_bounded(points: np.ndarray, computed: dict[str, np.ndarray], name: str, relative: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        exact = getattr(torch, name)(torch.from_numpy(points.astype(np.float64))).numpy()
        rounded = exact.astype(np.float32)
    known = np.isfinite(rounded)
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    error = np.abs(computed[name][known].astype(np.float64) - exact[known])
    assert np.all(error <= relative * np.abs(exact[known]) + 1.01 * smallest)
    assert np.array_equal(np.isnan(computed[name]), np.isnan(points))
    infinite = np.isinf(rounded)
    assert np.array_equal(computed[name][infinite], rounded[infinite])
    assert np.array_equal(np.isinf(computed[name]), infinite)
