"""Densely connected networks (Huang et al. 2017), bottleneck layers and halving transitions (DenseNet-BC)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class DenseLayer(nn.Module):
    """Adds `growth` channels in front of its input: (N, C, H, W) -> (N, growth + C, H, W)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        inner = 4 * growth
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the layer and concatenates."""
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(F.relu(self.bn2(y)))
        return torch.cat([y, x], 1)


class Transition(nn.Sequential):
    """Between two dense stages: halves the channels and both spatial extents."""

    def __init__(self, inputs: int) -> None:
        super().__init__(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, inputs // 2, 1, bias=False), nn.AvgPool2d(2)
        )


class DenseNet(nn.Module):
    """Stages of dense layers with transitions between them.

    Args:
        blocks: number of dense layers in each stage; (6, 12, 36, 24) with growth 48 is DenseNet-161.
        growth: channels that a layer adds; the stem gives twice as many.
        classes: number of logits.
        imagenet_stem: a strided 7x7 convolution, BatchNorm and a max-pool in place of the 3x3 convolution for 32x32
            images.
    """

    def __init__(self, blocks: Sequence[int], growth: int, *, classes: int, imagenet_stem: bool = False) -> None:
        super().__init__()
        channels = 2 * growth
        self.imagenet_stem = imagenet_stem
        if imagenet_stem:
            self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
            self.bn0 = nn.BatchNorm2d(channels)
        else:
            self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        for index, count in enumerate(blocks):
            if index > 0:
                stages.append(Transition(channels))
                channels //= 2
            stages.append(nn.Sequential(*(DenseLayer(channels + i * growth, growth) for i in range(count))))
            channels += count * growth
        self.features = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) images -> (N, classes) logits."""
        x = self.conv1(x)
        if self.imagenet_stem:
            x = F.max_pool2d(F.relu(self.bn0(x)), 3, 2, padding=1)
        x = F.relu(self.bn(self.features(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
