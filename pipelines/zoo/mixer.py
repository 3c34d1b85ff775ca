"""MLP-Mixer (Tolstikhin et al. 2021): feed-forward layers over tokens and over features in turn."""

from __future__ import annotations

import torch
from torch import nn

from loopmorph.pipelines.zoo.transformer import Mlp, draw_weights


class MixerBlock(nn.Module):
    """A feed-forward layer across the tokens, one across the features: (N, tokens, features) -> the same."""

    def __init__(self, tokens: int, features: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(features)
        self.mlp_tokens = Mlp(tokens, features // 2)
        self.norm2 = nn.LayerNorm(features)
        self.mlp_channels = Mlp(features, 4 * features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block."""
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class Mixer(nn.Module):
    """Patches through mixer blocks, their mean and a classifier.

    Args:
        size: rows and columns of an image.
        patch: rows and columns of a patch; divides `size`.
        features: of a token.
        depth: number of blocks.
        classes: number of logits.
    """

    def __init__(self, size: int, patch: int, features: int, depth: int, *, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, features, patch, patch)
        self.blocks = nn.Sequential(*(MixerBlock((size // patch) ** 2, features) for _ in range(depth)))
        self.norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, classes)
        draw_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, size, size) images -> (N, classes) logits."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))
