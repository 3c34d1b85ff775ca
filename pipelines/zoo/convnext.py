"""ConvNeXt (Liu et al. 2022): depthwise 7x7 convolutions and feed-forward layers over channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from loopmorph.pipelines.zoo.transformer import Mlp


class ChannelNorm(nn.LayerNorm):
    """A LayerNorm over the channels of a map: (N, C, H, W) -> the same."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Applies it."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, a feed-forward layer with a learnt scale, and a skip: (N, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, 4 * channels)
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block."""
        y = self.mlp(self.norm(self.conv(x).permute(0, 2, 3, 1))) * self.scale
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """A stem of patches, four stages with a strided convolution between them, and a classifier of the mean.

    Args:
        depths: blocks of each stage.
        widths: channels of each stage.
        classes: number of logits.
    """

    def __init__(self, depths: Sequence[int], widths: Sequence[int], *, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0], eps=1e-6)]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage:
                layers += [ChannelNorm(widths[stage - 1], eps=1e-6), nn.Conv2d(widths[stage - 1], width, 2, 2)]
            layers += [ConvNeXtBlock(width) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) images, H and W multiples of 32 -> (N, classes) logits."""
        return self.head(self.norm(self.layers(x).mean((2, 3))))
