"""Losses as ATen's kernels sum them: a margin that is NaN counts as kept, unlike in PyTorch's own decomposition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._ops import OpOverload

_aten = torch.ops.aten
_MEAN, _SUM = 1, 2  # at::Reduction


def multilabel_margin(x: torch.Tensor, target: torch.Tensor, reduction: int = _MEAN) -> torch.Tensor:
    """`aten.multilabel_margin_loss` of `(n, c)` or `(c,)`: of each label before the first -1, against what is none."""
    rows, labels = (x, target) if x.dim() > 1 else (x.reshape(1, -1), target.reshape(1, -1))
    classes = rows.shape[1]
    counts = (labels < 0).to(torch.int64).cumsum(1) == 0
    which = torch.where(counts, labels, torch.zeros_like(labels))
    named = (which.unsqueeze(2) == torch.arange(classes, device=x.device)) & counts.unsqueeze(2)
    others = torch.logical_not(named.any(1)).unsqueeze(1)
    missing = 1 - rows.gather(1, which).unsqueeze(2) + rows.unsqueeze(1)
    kept = counts.unsqueeze(2) & others & (missing > 0)
    losses = torch.where(kept, missing, torch.zeros_like(missing))
    return _reduced(losses.sum((1, 2)) / classes, reduction, single=x.dim() < 2)


def _reduced(losses: torch.Tensor, reduction: int, *, single: bool) -> torch.Tensor:
    if reduction == _MEAN:
        return losses.mean()
    if reduction == _SUM:
        return losses.sum()
    return losses.reshape([]) if single else losses


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten.multilabel_margin_loss.default: multilabel_margin,
}
