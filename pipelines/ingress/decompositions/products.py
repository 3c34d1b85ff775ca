"""Products and distances that torch-mlir has no rule for."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import check_comparisons

_aten = torch.ops.aten


def addmv(x: torch.Tensor, matrix: torch.Tensor, vector: torch.Tensor, *, beta: float = 1, alpha: float = 1) -> object:
    """`aten.addmv`: `beta * x + alpha * matrix @ vector`, where a `beta` of 0 leaves `x` unread."""
    product = torch.mv(matrix, vector)
    product = product * alpha if alpha != 1 else product
    return product if beta == 0 else (x * beta if beta != 1 else x) + product


def conv_tbc(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, pad: int = 0) -> torch.Tensor:
    """`aten.conv_tbc`: a convolution along time; `x` is `(time, N, ci)`, `weight` `(kernel, ci, co)`."""
    result = torch.nn.functional.conv1d(x.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return result.permute(2, 0, 1).contiguous()


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> object:
    """`aten.linear` of rows that lie apart (of a transposed tensor): one product of matrices, as of those side by side.

    PyTorch would repeat the weight for each sample and multiply in batches, and nothing could lay that weight out.
    """
    if x.dim() < 3 or weight.dim() != 2 or x.is_contiguous():
        return NotImplemented
    rows = x.reshape(-1, x.shape[-1])
    product = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
    return product.reshape(*x.shape[:-1], weight.shape[0])


def distances(x: torch.Tensor, y: torch.Tensor, p: float, compute_mode: int | None = None) -> object:
    """`aten._cdist_forward`: p-norms of the differences of all rows, `(.., m, c)` and `(.., n, c)` to `(.., m, n)`.

    Raises:
        ImportRefused: too many pairs.
    """
    if x.numel() == 0 or y.numel() == 0:
        return NotImplemented
    check_comparisons("cdist", math.prod(x.shape), y.shape[-2])
    return _norm(x.unsqueeze(-2) - y.unsqueeze(-3), p)


def distance(x: torch.Tensor, y: torch.Tensor, p: float = 2) -> object:
    """`aten.dist`: the p-norm of the difference of all elements."""
    difference = (x - y).reshape(-1)
    return _norm(difference, p) if difference.numel() and p >= 0 else NotImplemented


def distances_within(x: torch.Tensor, p: float = 2) -> object:
    """`aten._pdist_forward`: distances of each row of `(n, c)` and those after it, `(n * (n - 1) / 2,)`.

    Raises:
        ImportRefused: too many pairs.
    """
    rows = x.shape[0]
    if rows < 2 or x.numel() == 0:
        return NotImplemented
    check_comparisons("pdist", rows, x.numel())
    first, second = torch.triu_indices(rows, rows, 1, device=x.device).unbind()
    return _norm(x.index_select(0, first) - x.index_select(0, second), p)


def _norm(difference: torch.Tensor, p: float) -> torch.Tensor:
    size = difference.abs()
    if p == 0:
        return torch.where(size.isnan(), size, (size != 0).to(size.dtype)).sum(-1)
    if p == 1:
        return size.sum(-1)
    if p == 2:
        return (size * size).sum(-1).sqrt()
    return size.amax(-1) if p == math.inf else size.pow(p).sum(-1).pow(1 / p)


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten._cdist_forward.default: distances,
    _aten._pdist_forward.default: distances_within,
    _aten.addmv.default: addmv,
    _aten.conv_tbc.default: conv_tbc,
    _aten.dist.default: distance,
    _aten.linear.default: linear,
}
