"""What transformers are made of: attention with one projection for queries, keys and values, and the block around it.

Vaswani et al., "Attention is all you need" (2017); the form is timm's: the fused projection is reshaped to
(N, tokens, 3, heads, features of a head).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Self-attention of several heads: (N, tokens, features) -> the same.

    Args:
        features: of a token; `heads` divides them.
        heads: number of heads.
        causal: whether a token sees only itself and those before it.
    """

    def __init__(self, features: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Applies it; `mask`, bool (N, 1, 1, tokens), tells the tokens that may be seen."""
        count, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=self.causal)
        return self.proj(seen.transpose(1, 2).reshape(count, tokens, -1))


class Mlp(nn.Module):
    """Two linear layers with a GELU between: (..., inputs) -> (..., inputs)."""

    def __init__(self, inputs: int, hidden: int, *, tanh: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.act = nn.GELU(approximate="tanh" if tanh else "none")
        self.fc2 = nn.Linear(hidden, inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies both layers."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a LayerNorm and beside a skip.

    Args:
        features: of a token.
        heads: of the attention.
        hidden: features between the two feed-forward layers; four times as many by default.
        causal: as of `Attention`.
        tanh: whether the GELU is the approximation by a tanh, as GPT-2 has it.
    """

    def __init__(
        self, features: int, heads: int, hidden: int | None = None, *, causal: bool = False, tanh: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(features)
        self.attn = Attention(features, heads, causal=causal)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = Mlp(features, hidden or 4 * features, tanh=tanh)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, tokens, features) -> the same."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class LateNormBlock(nn.Module):
    """As `Block`, with each LayerNorm behind the sum, as BERT has it; and with a mask."""

    def __init__(self, features: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        self.attn = Attention(features, heads)
        self.norm1 = nn.LayerNorm(features)
        self.mlp = Mlp(features, hidden or 4 * features)
        self.norm2 = nn.LayerNorm(features)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(N, tokens, features) -> the same; `mask` as `Attention` takes it."""
        x = self.norm1(x + self.attn(x, mask))
        return self.norm2(x + self.mlp(x))


def draw_weights(model: nn.Module) -> None:
    """Fresh values as ViT, BERT and GPT-2 begin with: normal with a deviation of 0.02, biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
