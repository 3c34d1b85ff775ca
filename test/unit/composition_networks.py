"""The networks of the random compositions: residual, dense and transformer blocks, plain stacks, of several widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from networks import _Block as ResidualBlock
from torch import nn
from torch.nn import functional

from loopmorph.pipelines.zoo import VisionTransformer


class ResNet(nn.Module):
    """A stem, one basic residual block with a strided shortcut, pooling and a linear classifier."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.block = ResidualBlock(width, outputs, 2)
        self.linear = nn.Linear(outputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.block(functional.relu(self.stem(x))).mean((2, 3)))


class DenseNet(nn.Module):
    """A stem, two growth layers whose outputs are concatenated to their inputs, a BatchNorm on all, a classifier."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.layer1 = _Growth(width, growth)
        self.layer2 = _Growth(width + growth, growth)
        self.bn = nn.BatchNorm2d(width + 2 * growth)
        self.linear = nn.Linear(width + 2 * growth, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        return self.linear(functional.relu(self.bn(x)).mean((2, 3)))


class _Growth(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(functional.relu(self.bn(x)))], 1)


class Stack(nn.Module):
    """Convolutions with biases, a max-pooling between them, and a classifier of the flattened map."""

    def __init__(self, width: int, outputs: int, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, outputs, 3, padding=1)
        self.linear = nn.Linear(outputs * (size // 2) ** 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        return self.linear(functional.relu(self.conv2(x)).flatten(1))


@dataclass(frozen=True)
class Subject:
    """How to make a network, and the images that it takes: (batch, 3, size, size) float32."""

    factory: Callable[[], nn.Module]
    size: int = 8
    batch: int = 1


SUBJECTS = {
    "resnet-16": Subject(partial(ResNet, 16, 32)),
    "resnet-12": Subject(partial(ResNet, 12, 20), batch=2),
    "densenet-16": Subject(partial(DenseNet, 16, 16)),
    "densenet-12": Subject(partial(DenseNet, 12, 8), size=6),
    "stack-16": Subject(partial(Stack, 16, 32, 8)),
    "stack-12": Subject(partial(Stack, 12, 18, 12), size=12, batch=2),
}
# A block of attention and a feed-forward layer between an embedding of patches and a classifier.
TRANSFORMERS = {
    "vit-16": Subject(partial(VisionTransformer, 8, 4, 16, 1, 2, classes=10)),
    "vit-24": Subject(partial(VisionTransformer, 6, 2, 24, 1, 3, classes=10), size=6),
    "vit-32": Subject(partial(VisionTransformer, 8, 4, 32, 1, 4, classes=10), batch=2),
}
