"""Transformers over integer tokens at fixed length: an encoder as BERT's, a decoder as GPT-2's.

Devlin et al., "BERT" (2019); Radford et al., "Language models are unsupervised multitask learners" (2019).
"""

from __future__ import annotations

import torch
from torch import nn

from loopmorph.pipelines.zoo.transformer import Block, LateNormBlock, draw_weights


class TextEncoder(nn.Module):
    """Token and position embeddings, transformer blocks with a mask, and a classifier of the first token.

    Args:
        vocabulary: number of tokens that there are.
        length: tokens of an input.
        features: of a token.
        depth: number of blocks.
        heads: of each block's attention.
        classes: number of logits.
    """

    def __init__(self, vocabulary: int, length: int, features: int, depth: int, heads: int, *, classes: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, features)
        self.positions = nn.Parameter(torch.zeros(1, length, features))
        self.norm = nn.LayerNorm(features)
        self.blocks = nn.ModuleList(LateNormBlock(features, heads) for _ in range(depth))
        self.head = nn.Linear(features, classes)
        draw_weights(self)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(N, length) int64 tokens and a mask, 1 where there is one -> (N, classes) logits."""
        seen = mask.to(torch.bool)[:, None, None, :]
        x = self.norm(self.tokens(tokens) + self.positions)
        for block in self.blocks:
            x = block(x, seen)
        return self.head(x[:, 0])


class TextDecoder(nn.Module):
    """Token and position embeddings, causal transformer blocks, and logits of the token that follows each.

    Args:
        vocabulary: number of tokens that there are; the embedding also gives the logits.
        length: tokens of an input.
        features: of a token.
        depth: number of blocks.
        heads: of each block's attention.
    """

    def __init__(self, vocabulary: int, length: int, features: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, features)
        self.positions = nn.Parameter(torch.zeros(1, length, features))
        self.blocks = nn.Sequential(*(Block(features, heads, causal=True, tanh=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, vocabulary, bias=False)
        draw_weights(self)
        self.head.weight = self.tokens.weight
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, length) int64 tokens -> (N, length, vocabulary) logits."""
        return self.head(self.norm(self.blocks(self.tokens(tokens) + self.positions)))
