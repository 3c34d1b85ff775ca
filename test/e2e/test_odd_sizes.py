"""Networks of sizes that no block divides: odd images, 3, 20 and 100 channels, all windows, batches and threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import randomized
from torch import nn
from torch.nn import functional

from loopmorph.pipelines.compile import compile


class ConvBN(nn.Sequential):
    """A convolution whose padding keeps the size at stride 1, with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1):
        padding = dilation * (kernel // 2)
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Joined(nn.Module):
    """A residual block, pooled, next to a strided convolution, both concatenated; a classifier on the global mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBN(3, channels, 3)
        self.second = ConvBN(channels, channels, 3)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.strided = ConvBN(channels, 20, 3, stride=2)
        self.last = ConvBN(channels + 20, 20, 1)
        self.linear = nn.Linear(20, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        y = functional.relu(self.second(x) + x)
        y = self.last(torch.cat([self.pool(y), self.strided(x)], 1))
        return self.linear(functional.adaptive_avg_pool2d(y, 1).flatten(1))


def require_equal(model: nn.Module, channels: int, size: int, batch: int, threads: int) -> None:
    """The error is relative to the largest output."""
    torch.manual_seed(0)
    model, x = randomized(model), torch.randn(batch, channels, size, size)
    with torch.no_grad():
        expected = model(x)
    got = compile(model, (x,), threads=threads)(x)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("size", "batch", "threads"), [(7, 8, 2), (13, 1, 1), (13, 8, 2), (30, 1, 2), (30, 8, 1)])
def test_residual_pooling_concatenation_and_classifier(size: int, batch: int, threads: int) -> None:
    require_equal(Joined(20), 3, size, batch, threads)


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "size", "batch", "threads"),
    [
        (3, 20, 1, 2, 13, 8, 1),
        (20, 100, 1, 1, 30, 1, 2),
        (100, 3, 1, 1, 7, 1, 1),
        (100, 20, 1, 1, 13, 8, 2),
        (3, 100, 3, 1, 30, 1, 1),
        (20, 20, 3, 1, 13, 8, 2),
        (20, 20, 3, 2, 13, 8, 1),
        (100, 100, 3, 1, 7, 1, 1),
        (100, 100, 3, 1, 13, 1, 2),
        (100, 20, 3, 2, 7, 8, 2),
        (20, 3, 3, 1, 30, 1, 1),
        (3, 20, 5, 1, 13, 1, 2),
        (20, 100, 5, 2, 7, 8, 1),
        (3, 20, 7, 2, 30, 1, 2),
        (20, 20, 7, 1, 13, 1, 1),
    ],
)
def test_convolution(inputs: int, outputs: int, kernel: int, stride: int, size: int, batch: int, threads: int) -> None:
    require_equal(ConvBN(inputs, outputs, kernel, stride), inputs, size, batch, threads)


@pytest.mark.parametrize(
    ("make", "size", "threads"),
    [
        pytest.param(lambda: ConvBN(20, 20, 3, dilation=2), 13, 2, id="dilated"),
        pytest.param(lambda: ConvBN(100, 20, 3, stride=2, dilation=3), 30, 1, id="dilated-strided"),
        pytest.param(lambda: ConvBN(20, 100, 3, groups=4), 13, 2, id="grouped"),
        pytest.param(lambda: ConvBN(100, 100, 3, stride=2, groups=5), 7, 1, id="grouped-strided"),
        pytest.param(lambda: ConvBN(100, 20, 1, groups=20), 7, 2, id="grouped-1x1"),
        pytest.param(lambda: ConvBN(20, 20, 3, groups=20), 30, 1, id="depthwise"),
        pytest.param(lambda: ConvBN(100, 100, 5, stride=2, groups=100), 13, 2, id="depthwise-strided"),
        pytest.param(lambda: ConvBN(20, 20, 3, stride=3), 7, 1, id="stride-3"),
        pytest.param(lambda: nn.Conv2d(20, 20, (1, 7), padding=(0, 3)), 13, 2, id="1x7"),
    ],
)
def test_special_convolutions(make: Callable[[], nn.Module], size: int, threads: int) -> None:
    model = make()
    first = model[0] if isinstance(model, nn.Sequential) else model
    require_equal(model, first.in_channels, size, 1, threads)


@pytest.mark.parametrize(
    ("pool", "channels", "size", "batch", "threads"),
    [
        pytest.param(nn.MaxPool2d(3, 2, 1), 20, 7, 8, 1, id="max-3"),
        pytest.param(nn.MaxPool2d(3, 2, 1), 100, 13, 1, 2, id="max-3-wide"),
        pytest.param(nn.MaxPool2d(2, ceil_mode=True), 3, 13, 1, 2, id="max-ceil"),
        pytest.param(nn.AvgPool2d(3, 2, 1), 20, 30, 1, 2, id="avg-3"),
        pytest.param(nn.AvgPool2d(2), 100, 7, 8, 1, id="avg-2"),
        pytest.param(nn.AdaptiveAvgPool2d(1), 20, 13, 8, 2, id="global"),
        pytest.param(nn.AdaptiveAvgPool2d(1), 100, 7, 1, 1, id="global-wide"),
    ],
)
def test_pooling_after_a_convolution(pool: nn.Module, channels: int, size: int, batch: int, threads: int) -> None:
    model = nn.Sequential(ConvBN(channels, channels, 1), pool, nn.BatchNorm2d(channels))
    require_equal(model, channels, size, batch, threads)
