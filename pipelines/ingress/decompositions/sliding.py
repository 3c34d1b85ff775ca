"""Sliding windows made axes, and put back: slices, stacks and sums of padded tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import axis_of
from loopmorph.pipelines.ingress.decompositions.windows import every

_aten = torch.ops.aten


def unfold(x: torch.Tensor, dim: int, size: int, step: int) -> torch.Tensor:
    """`aten.unfold`: windows along an axis, whose elements become a new last axis."""
    if x.dim() == 0:
        return x.expand([size]).clone()
    axis = axis_of(x, dim)
    count = (x.shape[axis] - size) // step + 1
    if size <= count:
        return torch.stack([every(x, axis, k, step, count) for k in range(size)], -1)
    windows = [x.narrow(axis, k * step, size).movedim(axis, -1) for k in range(count)]
    return torch.stack(windows, axis)


def im2col(
    x: torch.Tensor, kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> torch.Tensor:
    """`aten.im2col` (`nn.Unfold`): `(N, C, H, W)` or `(C, H, W)` to `(N, C * kh * kw, windows)`."""
    kernel, dilation, padding, stride = _pairs(kernel, dilation, padding, stride)
    batched = x if x.dim() == 4 else x.unsqueeze(0)
    if any(padding):
        batched = torch.constant_pad_nd(batched, [padding[1], padding[1], padding[0], padding[0]])
    for axis, k, d, s in zip((2, 4), kernel, dilation, stride, strict=True):
        count = (batched.shape[axis] - d * (k - 1) - 1) // s + 1
        parts = [every(batched, axis, d * i, s, count) for i in range(k)]
        batched = torch.stack(parts, axis)  # (N, C, kh, oh, W), then (N, C, kh, oh, kw, ow)
    columns = batched.permute(0, 1, 2, 4, 3, 5)
    n, c, kh, kw, oh, ow = columns.shape
    result = columns.reshape(n, c * kh * kw, oh * ow)
    return result if x.dim() == 4 else result.squeeze(0)


def col2im(
    x: torch.Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> torch.Tensor:
    """`aten.col2im` (`nn.Fold`): `(N, C * kh * kw, windows)`, or without N, to `(N, C, *size)`; overlaps add up."""
    kernel, dilation, padding, stride, size = _pairs(kernel, dilation, padding, stride, size)
    batched = x if x.dim() == 3 else x.unsqueeze(0)
    counts = [
        (extent + 2 * p - d * (k - 1) - 1) // s + 1
        for extent, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
    ]
    grid = batched.reshape(batched.shape[0], -1, *kernel, *counts).permute(0, 1, 2, 4, 3, 5)
    grid = _put_back(grid, 4, size[1] + 2 * padding[1], dilation[1], stride[1])  # (N, C, kh, oh, W)
    grid = _put_back(grid, 2, size[0] + 2 * padding[0], dilation[0], stride[0])  # (N, C, H, W)
    grid = grid.narrow(2, padding[0], size[0]).narrow(3, padding[1], size[1])
    return grid.contiguous() if x.dim() == 3 else grid.squeeze(0).contiguous()


def _put_back(x: torch.Tensor, axis: int, extent: int, dilation: int, stride: int) -> torch.Tensor:
    """Sums `x[.., k, i, ..]`, axes `axis` and `axis + 1`, at `k * dilation + i * stride` of one axis."""
    kernel, count = x.shape[axis], x.shape[axis + 1]
    behind = 2 * (x.dim() - 2 - axis)
    if kernel == stride and dilation == 1:
        joined = x.transpose(axis, axis + 1).flatten(axis, axis + 1)
        return torch.constant_pad_nd(joined, [0] * behind + [0, extent - kernel * count])
    total = None
    for k in range(kernel):
        spread = x.select(axis, k)
        if stride > 1:
            wide = torch.constant_pad_nd(spread.unsqueeze(axis + 1), [0] * behind + [0, stride - 1])
            spread = wide.flatten(axis, axis + 1).narrow(axis, 0, (count - 1) * stride + 1)
        before = k * dilation
        placed = torch.constant_pad_nd(spread, [0] * behind + [before, extent - before - spread.shape[axis]])
        total = placed if total is None else total + placed
    assert total is not None  # a window has an element
    return total


def _pairs(*values: Sequence[int]) -> list[Sequence[int]]:
    return [list(value) * 2 if len(value) == 1 else value for value in values]


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten.unfold.default: unfold,
    _aten.im2col.default: im2col,
    _aten.col2im.default: col2im,
}
