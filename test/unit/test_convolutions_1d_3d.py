"""Convolutions over one and three axes, depthwise, grouped and transposed ones: names of iterators, and numbers."""

from __future__ import annotations

import pytest
import torch
from agreement import require_agreement, require_rewrite
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.rewritten.nest_module import NestModule

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


@pytest.fixture(scope="module", params=[1, 3])
def program(request: pytest.FixtureRequest) -> lm.Program:
    conv = PLAIN[request.param]
    torch.manual_seed(0)
    norm = nn.BatchNorm1d if request.param == 1 else nn.BatchNorm3d
    layers = [conv(4, 8, 3, padding=1), norm(8), nn.ReLU(), conv(8, 8, 2, groups=2), conv(8, 4, 1, bias=False)]
    return lm.import_model(nn.Sequential(*layers).eval(), (example(request.param),))


@pytest.mark.parametrize(
    ("text", "layer", "stays"),
    [
        ("morph-bottleneck{layer=0 iter=co factor=2}", 0, True),
        ("morph-group{layer=0 iters=co,ci factor=2}", 0, True),
        ("morph-group{layer=3 iters=co,ci factor=2}", 3, True),
        ("morph-depthwise{layer=3}", 3, True),
        ("morph-bottleneck{layer=4 iter=ci factor=2}", 4, False),
        ("morph-mix{layer=4 iter=co}", 4, False),
    ],
)
def test_rewritten_ones_become_modules(program: lm.Program, text: str, layer: int, stays: bool) -> None:
    rewritten = require_rewrite(program, text)
    module = rewritten.to_module()[layer]
    assert (type(module) is type(program.model[layer])) == stays
    assert stays or isinstance(module, NestModule)
