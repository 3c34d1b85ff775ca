"""Networks and images that signals have closed forms for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from loopmorph.pipelines.legality.proxy import Score

Measured = Callable[..., Score]


def images(count: int = 6, channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def score(measure: Measured, model: nn.Module, batch: torch.Tensor, **options: Any) -> Score:
    return measure(model, batch, device="cpu", **options)


def pointwise(rows: list[list[float]]) -> nn.Conv2d:
    """A 1x1 convolution of these weights, (out, in), without a bias."""
    weight = torch.tensor(rows, dtype=torch.float32)
    convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    convolution.weight.data.copy_(weight[:, :, None, None])
    return convolution


def pixels(rows: list[list[float]]) -> torch.Tensor:
    """Images of one pixel, whose channels are these numbers."""
    return torch.tensor(rows, dtype=torch.float32)[:, :, None, None]
