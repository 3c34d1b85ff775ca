"""Models that tests name as `factories:NAME`."""

from __future__ import annotations

import torch
from networks import Residual, image
from torch import nn
from trained_networks import trained_residual


def residual() -> nn.Module:
    """A small residual network for 8x8 images."""
    return Residual()


residual.input_shape = (3, 8, 8)


class _Heads(nn.Module):
    """Gives a map and a vector, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.mask, self.label = nn.Conv2d(16, 2, 1), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.b(self.a(x).relu()).relu()
        return {"mask": self.mask(x), "label": self.label(x.mean((2, 3)))}


def heads() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A network that is no classifier."""
    return _Heads(), (image(),)


def heads_loss(outputs: dict[str, torch.Tensor], targets: None) -> torch.Tensor:
    """What it might be trained by."""
    return outputs["mask"].square().mean() + outputs["label"].square().mean()


def constant_loss(outputs: dict[str, torch.Tensor], targets: None) -> torch.Tensor:
    """A loss that no weight changes."""
    return 0 * heads_loss(outputs, targets)


class _Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def refuses_export() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A model with control flow that depends on the data."""
    return _Branching(), (image(),)


def classifier() -> nn.Module:
    """A small plain classifier of 8x8 images, quick to rewrite and to train."""
    convolutions = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


classifier.input_shape = (3, 8, 8)


def trained() -> nn.Module:
    """A small residual network that tells the images of `patterns` apart."""
    return trained_residual()


trained.input_shape = (3, 8, 8)


def digits() -> nn.Module:
    """A small network for the handwritten digits as they come."""
    first = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
    second = nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(256, 10))


digits.input_shape = (1, 8, 8)
