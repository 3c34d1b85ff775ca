"""Contractions over flattened, cut and permuted views of activations and weights, whatever their rank."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import Of, require_agreement
from torch import nn
from torch.nn import functional

import loopmorph as lm

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def conv(outputs: int) -> nn.Module:
    return nn.Conv2d(3, outputs, 3, padding=1)


def flat_einsum(c: int) -> nn.Module:
    def forward(a: nn.Module, w: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        y = (a(x).reshape(-1) + 1).view(2, c, 8, 8).permute(0, 2, 3, 1)
        return torch.einsum("nhwc,dc->ndhw", y, w.weight)

    return Of(forward, conv(c), nn.Linear(c, 16))


def flat_linear(c: int) -> nn.Module:
    return Of(lambda a, b, x: b((a(x).flatten() * 2).view(-1, c)), conv(c), nn.Linear(c, 16))


def rank_5(c: int) -> nn.Module:
    def forward(a: nn.Module, b: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return b(a(x).view(2, c, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(8, c, 4, 4))

    return Of(forward, conv(c), nn.Conv2d(c, 16, 3))


def flat_weight(c: int) -> nn.Module:
    def forward(a: nn.Module, w: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(a(x), (w.weight.reshape(-1) * 2).view(16, c, 1, 1))

    return Of(forward, conv(c), nn.Linear(c, 16))


def vector(c: int) -> nn.Module:
    return Of(lambda a, w, x: a(x).mean((0, 2, 3)) @ w.weight.t(), conv(c), nn.Linear(c, 16))


def flat_conv_1d(c: int) -> nn.Module:
    return Of(lambda a, b, x: b(a(x).flatten(2)), conv(c), nn.Conv1d(c, 16, 3, padding=1))


@pytest.mark.parametrize("channels", [12, 16])
@pytest.mark.parametrize("make", [flat_einsum, flat_linear, rank_5, flat_weight, vector, flat_conv_1d])
def test_contractions_over_views_agree(make: Callable[[int], nn.Module], channels: int) -> None:
    torch.manual_seed(0)
    require_agreement(make(channels), X)


@pytest.mark.parametrize("channels", [8, 16])
@pytest.mark.parametrize("mix", ["morph-mix{layer=0 iter=co}", "morph-mix{layer=2 iter=ci}"])
def test_the_module_of_a_mixed_layer_can_be_imported_again(mix: str, channels: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(conv(channels), nn.ReLU(), nn.Conv2d(channels, 4, 1)).eval()
    require_agreement(lm.import_model(net, (X,)).apply(mix).to_module(), X)
