"""Attention whose queries, keys and values one linear layer gives: what a pruner has to be told, and what follows it.

The layout is timm's: the projection's outputs are (3, heads, features of a head), and the heads side by side are read
by a second linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

_HEADS = ("heads", "num_heads")
# What modules call the numbers that pruning changes.
_OF_A_HEAD = ("head_dim", "head_size", "head_features")
_OF_ALL_HEADS = ("attn_dim", "inner_dim", "all_head_size")


@dataclass(frozen=True)
class FusedAttention:
    """Attention of several heads.

    Attributes:
        module: the attention.
        qkv: its layer that gives queries, keys and values.
        heads: their number.
    """

    module: nn.Module
    qkv: nn.Linear
    heads: int

    @property
    def head_features(self) -> int:
        """Features of a head, as the weights have them."""
        return self.qkv.out_features // (3 * self.heads)

    def follow(self, before: int) -> None:
        """Adapts the numbers that the module keeps beside its weights.

        Args:
            before: features of a head, before its layers were pruned.
        """
        for names, heads in ((_OF_A_HEAD, 1), (_OF_ALL_HEADS, self.heads)):
            for name in names:
                if vars(self.module).get(name) == heads * before:
                    setattr(self.module, name, heads * self.head_features)


def fused_attentions(model: nn.Module) -> list[FusedAttention]:
    """Those of a network: modules that know their number of heads, with a linear layer that gives three times as many
    features as another one of theirs reads."""
    found = ((module, _heads(module), _projection(module)) for module in model.modules())
    return [
        FusedAttention(module, qkv, heads)
        for module, heads, qkv in found
        if heads and qkv is not None and qkv.out_features % (3 * heads) == 0
    ]


def _heads(module: nn.Module) -> int:
    """Number of heads; 0 where the module has none."""
    numbers = (vars(module).get(name) for name in _HEADS)
    return next((each for each in numbers if type(each) is int and each > 0), 0)


def _projection(module: nn.Module) -> nn.Linear | None:
    layers = [each for each in module.children() if isinstance(each, nn.Linear)]
    for each in layers:
        if any(each.out_features == 3 * other.in_features for other in layers if other is not each):
            return each
    return None
