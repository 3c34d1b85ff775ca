"""A small network with one rewritten layer of each kind, for tests of its file."""

from __future__ import annotations

import torch
from torch import nn

NAME = "saved_networks:original"
STEPS = (
    "morph-bottleneck{layer=dense.0 iter=co factor=2}",
    "morph-group{layer=grouped.0 iters=co,ci factor=4}",
    "morph-depthwise{layer=depthwise.0}",
    "morph-mix{layer=low_rank.0 iter=co}",
    "morph-bottleneck{layer=low_rank.0#main iter=co factor=4}",
    "morph-bottleneck{layer=coarse.0 iter=oh factor=2}",
    "morph-bottleneck{layer=head iter=ci factor=2}",
)
LAYERS = ("dense", "grouped", "depthwise", "low_rank", "coarse")


class Layers(nn.Module):
    """Five convolutions with BatchNorm, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        for number, name in enumerate(LAYERS):
            convolution = nn.Conv2d(8 if number else 3, 8, 3, padding=1, bias=False)
            self.add_module(name, nn.Sequential(convolution, nn.BatchNorm2d(8), nn.ReLU()))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in LAYERS:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))


def original() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Layers().eval(), (torch.randn(1, 3, 6, 6),)
