"""Residual networks: ResNet with basic blocks (He et al. 2016) and ResNeXt (Xie et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """The shortcut of a block: empty (the identity) where shapes agree, else a strided 1x1 convolution + BatchNorm."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = projection(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class ResNeXtBlock(nn.Module):
    """1x1, grouped 3x3, 1x1 and a shortcut: (N, inputs, H, W) -> (N, 2*cardinality*width, H/stride, W/stride)."""

    def __init__(self, inputs: int, cardinality: int, width: int, stride: int = 1) -> None:
        super().__init__()
        inner = cardinality * width
        outputs = 2 * inner
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = projection(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Stages of basic blocks, of which each after the first halves the image; by default four, with 64 to 512 channels.

    Args:
        blocks: number of blocks in each stage; (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) is ResNet-34.
        classes: number of logits.
        imagenet_stem: a strided 7x7 convolution and a max-pool in place of the 3x3 convolution for small images.
        widths: channels of each stage.
        channels: of the images.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        classes: int,
        imagenet_stem: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
        channels: int = 3,
    ) -> None:
        super().__init__()
        if imagenet_stem:
            self.conv1 = nn.Conv2d(channels, widths[0], 7, 2, padding=3, bias=False)
            self.pool: nn.Module = nn.MaxPool2d(3, 2, padding=1)
        else:
            self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
            self.pool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = (widths[0], *widths)
        self._stages = [f"layer{stage}" for stage in range(1, len(widths) + 1)]
        for stage, name in enumerate(self._stages):
            self.add_module(name, self._stage(inputs[stage], widths[stage], blocks[stage], 1 if stage == 0 else 2))
        self.linear = nn.Linear(widths[-1], classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(count - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) images -> (N, classes) logits."""
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        for name in self._stages:
            x = self.get_submodule(name)(x)
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class ResNeXt(nn.Module):
    """ResNeXt-29 for 32x32 images: a 1x1 stem and three stages of three blocks, the width doubling at each stage.

    Args:
        cardinality: number of groups of each 3x3 convolution.
        width: channels of a group in the first stage.
        classes: number of logits.
    """

    def __init__(self, *, cardinality: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        outputs = [2 * cardinality * width * scale for scale in (1, 2, 4)]
        self.layer1 = self._stage(64, cardinality, width, 1)
        self.layer2 = self._stage(outputs[0], cardinality, 2 * width, 2)
        self.layer3 = self._stage(outputs[1], cardinality, 4 * width, 2)
        self.linear = nn.Linear(outputs[2], classes)

    @staticmethod
    def _stage(inputs: int, cardinality: int, width: int, stride: int) -> nn.Sequential:
        outputs = 2 * cardinality * width
        first = ResNeXtBlock(inputs, cardinality, width, stride)
        return nn.Sequential(first, *(ResNeXtBlock(outputs, cardinality, width) for _ in range(2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) images -> (N, classes) logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
