"""Layers of which nothing is left in the code: pools of one pixel, dropouts, identities; every door takes them."""

from __future__ import annotations

import pytest
import torch
from agreement import Of, require_agreement
from torch import nn

import loopmorph as lm

X = torch.randn(1, 3, 7, 7, generator=torch.Generator().manual_seed(1))


def one_pixel(pool: nn.Module) -> nn.Module:
    head = [pool, nn.Dropout(), nn.Flatten(), nn.Linear(16, 4)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 7), nn.ReLU(), *head)


@pytest.mark.parametrize(
    "pool",
    [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1), nn.AvgPool2d(1), nn.MaxPool2d(1), nn.LPPool2d(3, 1)],
    ids=lambda pool: type(pool).__name__,
)
def test_pools_of_one_pixel(pool: nn.Module) -> None:
    torch.manual_seed(0)
    require_agreement(one_pixel(pool), X, module=True)


@pytest.mark.parametrize(
    "net",
    [
        nn.Identity(),
        nn.Dropout(),
        nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 49))),
        nn.Sequential(nn.AvgPool2d(1), nn.Conv2d(3, 16, 1), nn.AdaptiveAvgPool2d(7), nn.Dropout(), nn.MaxPool2d(1)),
        Of(lambda a, b, x: b(a(x).sum((2, 3), keepdim=True)).mean((2, 3)), nn.Conv2d(3, 16, 7), nn.Conv2d(16, 16, 1)),
        Of(lambda a, b, x: b(a(x)[:, :16, 0:7])[:, :8, 0:1], nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1)),
        Of(lambda a, x: torch.softmax(a(x).flatten(2), -1), nn.Conv2d(3, 16, 7)),
    ],
    ids=["identity", "dropout", "views", "pools", "sum", "slices", "softmax"],
)
def test_what_does_nothing_stays_without_effect(net: nn.Module) -> None:
    require_agreement(net, X, module=True)


def test_a_layer_without_code_does_not_trouble_optimize() -> None:
    torch.manual_seed(0)
    result = lm.optimize(one_pixel(nn.AdaptiveAvgPool2d(1)), (X,), candidates=3, seed=0)
    assert result.report.failed == 0
    assert isinstance(lm.compile(result.program), lm.Executable)
