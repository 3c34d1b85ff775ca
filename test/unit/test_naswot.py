"""NASWOT: kernels by hand, what counts as a ReLU, degenerate kernels, invariances."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from signal_networks import images, pixels, pointwise, score
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.initialisation import reinitialize
from loopmorph.pipelines.legality.naswot import naswot
from loopmorph.pipelines.legality.proxy import Score

TWO_LAYERS = (
    pointwise([[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    pointwise([[1, -1, 0], [0, 0, 1]]),
)
THREE_IMAGES = pixels([[1, 1, -1], [-1, 1, 1], [-1, -1, 1]])


def two_layers(activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(TWO_LAYERS[0], activation, TWO_LAYERS[1], activation, nn.Flatten(), nn.Linear(2, 4))


class Functional(nn.Module):
    """The same two layers with a function of the user's own code for the activation."""

    def __init__(self, activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.second = copy.deepcopy(TWO_LAYERS)
        self.linear = nn.Linear(2, 4)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.second(self.activation(self.first(x))))
        return self.linear(x.flatten(1))


ACTIVATIONS: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(0, 1),
    "threshold": nn.Threshold(0, 0),
}
OWN_CODE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "threshold": lambda x: F.threshold(x, 0, 0),
}
# Codes 110 00, 011 01 and 001 01 of 5 units: images 1 and 2 differ in 3 of them, 1 and 3 in 4, 2 and 3 in 1.
BY_HAND = math.log(5 * (25 - 16) - 2 * (10 - 4) + 1 * (8 - 5))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_naswot_of_modules_by_hand(activation: str) -> None:
    model = two_layers(ACTIVATIONS[activation])
    assert score(naswot, model, THREE_IMAGES, reset=False) == Score(pytest.approx(BY_HAND, rel=1e-12))


@pytest.mark.parametrize("activation", OWN_CODE)
def test_naswot_of_own_code_by_hand(activation: str) -> None:
    model = Functional(OWN_CODE[activation])
    assert score(naswot, model, THREE_IMAGES, reset=False).value == pytest.approx(BY_HAND, rel=1e-12)


@pytest.mark.parametrize("activation", [nn.LeakyReLU(), nn.PReLU(), nn.RReLU()], ids=["leaky", "parametric", "random"])
def test_naswot_of_leaky_activations(activation: nn.Module) -> None:
    """One layer's codes are those of the ReLU, whatever becomes of the negative side."""
    model = nn.Sequential(TWO_LAYERS[0], activation, nn.Flatten(), nn.Linear(3, 4))
    expected = 3 * (9 - 4) - 1 * (3 - 0)  # 110, 011, 001: differences 2, 3, 1
    assert score(naswot, model, THREE_IMAGES, reset=False).value == pytest.approx(math.log(expected), rel=1e-12)


@pytest.mark.parametrize(
    "activation", [nn.GELU(), nn.Hardtanh(), nn.Sigmoid(), nn.Threshold(0.5, 0)], ids=["gelu", "tanh", "sigmoid", "0.5"]
)
def test_naswot_needs_kinks_at_zero(activation: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="'model': it runs no ReLU, of which NASWOT takes the codes"):
        score(naswot, two_layers(activation), THREE_IMAGES)


def test_naswot_of_equal_codes_is_minus_infinity() -> None:
    batch = torch.cat([THREE_IMAGES, 2 * THREE_IMAGES[:1]])
    found = score(naswot, two_layers(nn.ReLU()), batch, reset=False)
    assert found.value == -math.inf and "two images have the same activation code" in found.doubt


def test_naswot_of_more_images_than_units() -> None:
    model = nn.Sequential(pointwise([[1, 0], [0, 1]]), nn.ReLU(), nn.Flatten(), nn.Linear(2, 3))
    found = score(naswot, model, pixels([[1, 1], [1, -1], [-1, 1], [-1, -1]]), reset=False)
    assert found.value == -math.inf and "linearly dependent" in found.doubt


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), scale=st.floats(0.1, 10))
def test_naswot_does_not_see_order_and_scale(order: list[int], scale: float) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    batch = images(5)
    expected = score(naswot, model, batch, seed=3).value
    assert score(naswot, model, scale * batch[order], seed=3).value == pytest.approx(expected, rel=1e-9)


def test_naswot_equals_a_reference_in_numpy() -> None:
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), *head)
    found = score(naswot, model, images(), seed=2)
    reinitialize(model, 2)
    kernel = np.zeros((6, 6))
    for depth in (3, 5):  # behind the ReLUs
        code = (model[:depth](images()) > 0).reshape(6, -1).double().numpy()
        kernel += code @ code.T + (1 - code) @ (1 - code).T
    assert found == Score(pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-9))
