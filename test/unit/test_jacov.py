"""Jacobian covariance: closed forms, and where it is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from networks import Residual
from signal_networks import images, pixels, pointwise, score
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.initialisation import reinitialize
from loopmorph.pipelines.legality.jacov import jacov
from loopmorph.pipelines.legality.proxy import Score

K = 1e-5


@pytest.fixture(autouse=True)
def fixed_weights() -> None:
    torch.manual_seed(0)


def gates(*rows: list[float]) -> nn.Sequential:
    """Unit k is active for an image that points along row k, and then the Jacobian is that row."""
    linear = nn.Linear(len(rows), len(rows), bias=False)
    nn.init.eye_(linear.weight)
    return nn.Sequential(pointwise(list(rows)), nn.ReLU(), nn.Flatten(), linear)


def test_jacov_of_jacobians_without_correlation() -> None:
    rows = [[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]
    found = score(jacov, gates(*rows), pixels(rows), reset=False)
    assert found == Score(pytest.approx(-2 * (math.log(1 + K) + 1 / (1 + K)), rel=1e-9))


def test_jacov_of_two_jacobians_follows_their_correlation() -> None:
    rows, batch = [[4.0, -4.0, 0.0], [0.0, 3.0, -3.0]], [[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]
    eigenvalues = [0.5 + K, 1.5 + K]  # a correlation of -1/2
    expected = -sum(math.log(v) + 1 / v for v in eigenvalues)
    assert score(jacov, gates(*rows), pixels(batch), reset=False).value == pytest.approx(expected, rel=1e-6)


def test_jacov_of_the_same_image_twice_is_in_doubt() -> None:
    batch = images(4)
    found = score(jacov, Residual(), torch.cat([batch, batch[:1]]))
    assert math.isfinite(found.value) and "two images have the same Jacobian" in found.doubt


@pytest.mark.parametrize("value", [0.0, -3.0], ids=["black", "grey"])
def test_jacov_of_dead_units_is_undefined(value: float) -> None:
    rows = [[1.0, 1.0, 1.0], [2.0, 1.0, 1.0]]
    found = score(jacov, gates(*rows), torch.full((2, 3, 1, 1), value), reset=False)
    assert math.isnan(found.value) and "the gradient of an image is constant" in found.doubt


def test_jacov_of_logits_that_do_not_depend_on_the_images() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x), 4)

    found = score(jacov, Constant(), images())
    assert math.isnan(found.value) and "no gradient reaches the images" in found.doubt


def test_jacov_takes_logits() -> None:
    with pytest.raises(ArgumentError, match=r"'model': it gives \(6, 8, 6, 6\); logits of shape \(N, classes\)"):
        score(jacov, nn.Conv2d(3, 8, 3), images())


def test_jacov_equals_a_reference_in_numpy() -> None:
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), *head)
    found = score(jacov, model, images(), seed=2)
    reinitialize(model, 2)
    batch = images().requires_grad_(True)
    model(batch).backward(torch.ones(6, 5))
    eigenvalues, _ = np.linalg.eig(np.corrcoef(batch.grad.reshape(6, -1).numpy()))
    assert found == Score(pytest.approx(-np.sum(np.log(eigenvalues + K) + 1 / (eigenvalues + K)), rel=1e-6))
