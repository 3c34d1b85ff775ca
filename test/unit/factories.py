"""Models that tests name as `factories:NAME`."""

from __future__ import annotations

import torch
from networks import Residual, image
from torch import nn


def residual() -> nn.Module:
    """A small residual network for 8x8 images."""
    return Residual()


residual.input_shape = (3, 8, 8)


class _Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def refuses_export() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A model with control flow that depends on the data."""
    return _Branching(), (image(),)
