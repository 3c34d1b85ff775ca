"""Vision transformers (Dosovitskiy et al. 2021; DeiT: Touvron et al. 2021)."""

from __future__ import annotations

import torch
from torch import nn

from loopmorph.pipelines.zoo.transformer import Block, draw_weights


class VisionTransformer(nn.Module):
    """Patches of an image and a class token through transformer blocks, and a classifier of that token.

    Args:
        size: rows and columns of an image.
        patch: rows and columns of a patch; divides `size`.
        features: of a token.
        depth: number of blocks.
        heads: of each block's attention.
        channels: of an image.
        classes: number of logits.
    """

    def __init__(
        self, size: int, patch: int, features: int, depth: int, heads: int, *, channels: int = 3, classes: int
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(channels, features, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, features))
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, features))
        self.blocks = nn.Sequential(*(Block(features, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, classes)
        draw_weights(self)
        nn.init.normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, size, size) images -> (N, classes) logits."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])
