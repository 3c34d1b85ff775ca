"""Synaptic flow: the product formula of a chain, what it counts, and where it says nothing."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import OwnParameter, Residual
from signal_networks import images, pointwise, score
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.legality.synflow import synflow


@pytest.fixture(autouse=True)
def fixed_weights() -> None:
    torch.manual_seed(0)


@settings(max_examples=20, deadline=None)
@given(widths=st.lists(st.integers(1, 5), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_synflow_of_a_linear_chain_is_depth_times_product(widths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(i, o, 1, bias=False) for i, o in zip([3, *widths], widths, strict=False)]
    normed = [module for layer in layers for module in (layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU())]
    flow = torch.ones(3, dtype=torch.float64)
    for layer in layers:
        flow = layer.weight.detach().double().abs()[:, :, 0, 0] @ flow
    found = score(synflow, nn.Sequential(*normed), images(2, size=1), reset=False)
    assert found == Score(pytest.approx(len(layers) * float(flow.sum()), rel=1e-9))


def test_synflow_leaves_batch_norm_out_of_own_code() -> None:
    class Own(nn.Module):
        def __init__(self, normalise: bool) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.normalise = normalise

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return F.batch_norm(input=x, running_mean=None, running_var=None, training=True) if self.normalise else x

    assert score(synflow, Own(True), images()) == score(synflow, Own(False), images())


def test_synflow_counts_no_bias_but_lets_it_flow() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    for number, parameter in enumerate(model.parameters(), start=2):
        parameter.data.fill_(-number)
    # (1*2 + 3) * 4 + 5: the first weight carries 1*2*4, the second (2 + 3) * 4.
    assert score(synflow, model, images(2, channels=1, size=1), reset=False).value == 8 + 20


def test_synflow_takes_weights_of_the_users_own() -> None:
    found = score(synflow, OwnParameter(), images(channels=4), reset=False)
    assert found.value > 0 and not found.doubt


def test_synflow_does_not_see_signs_and_images() -> None:
    model = Residual()
    expected = score(synflow, model, images(), reset=False)
    for parameter in model.parameters():
        parameter.data.mul_(torch.where(torch.rand_like(parameter) < 0.5, -1.0, 1.0))
    assert score(synflow, model, 100 * images(2), reset=False) == expected


def test_synflow_of_what_carries_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    nn.init.zeros_(model[2].weight)
    found = score(synflow, model, images(), reset=False)
    assert found.value == 0 and "carry nothing from the input to the output" in found.doubt


def test_synflow_needs_weights() -> None:
    with pytest.raises(ArgumentError, match="'model': it has no weights, of which synaptic flow is the sum"):
        score(synflow, nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), images())


def test_synflow_that_overflows_is_in_doubt() -> None:
    model = nn.Sequential(*(pointwise([[1e38]]) for _ in range(10)))
    found = score(synflow, model, images(2, channels=1), reset=False)
    assert not math.isfinite(found.value) and "the network overflows" in found.doubt
