"""Convolutions over one and three axes, depthwise, grouped and transposed ones: names of iterators, and numbers."""

from __future__ import annotations

import pytest
import torch
from agreement import require_agreement
from torch import nn

SIZES = {1: (2, 4, 7), 2: (1, 4, 5, 6), 3: (1, 4, 3, 4, 5)}
PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def example(axes: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(SIZES[axes])


@pytest.mark.parametrize(
    ("axes", "groups", "names"),
    [
        (1, 1, ("n", "co", "ow", "ci", "kw")),
        (3, 1, ("n", "co", "od", "oh", "ow", "ci", "kd", "kh", "kw")),
        (3, 2, ("n", "g", "co", "od", "oh", "ow", "ci", "kd", "kh", "kw")),
    ],
)
def test_iterators_are_named(axes: int, groups: int, names: tuple[str, ...]) -> None:
    net = nn.Sequential(PLAIN[axes](4, 8, 2, stride=2, padding=1, groups=groups))
    program = require_agreement(net, example(axes), module=True)
    assert tuple(program.layers[0].extents) == names


@pytest.mark.parametrize("outputs", [4, 8])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_depthwise(axes: int, outputs: int) -> None:
    require_agreement(PLAIN[axes](4, outputs, 3, padding=1, groups=4), example(axes))
    require_agreement(PLAIN[axes](4, outputs, 2, stride=2, dilation=2, groups=4, bias=False), example(axes))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed(axes: int, groups: int) -> None:
    require_agreement(TRANSPOSED[axes](4, 4, 3, 2, 1, 1, groups=groups), example(axes))
    require_agreement(TRANSPOSED[axes](4, 4, 2, 1, 2, groups=groups, dilation=3, bias=False), example(axes))


@pytest.mark.parametrize("axes", [1, 3])
def test_in_front_of_batch_norm_and_pools(axes: int) -> None:
    norm, pool, mean = {
        1: (nn.BatchNorm1d, nn.MaxPool1d, nn.AdaptiveAvgPool1d),
        3: (nn.BatchNorm3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d),
    }[axes]
    layers = [PLAIN[axes](4, 16, 3, padding=1), norm(16), nn.ReLU(), pool(2), PLAIN[axes](16, 8, 1), mean(1)]
    require_agreement(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3)), example(axes), module=True)
