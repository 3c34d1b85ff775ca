"""Reductions of windows along one axis, and the greatest element of a window with its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Windows:
    """`count` windows of `length` elements, the first at `start`, `step` apart, their elements `dilation` apart."""

    start: int
    length: int
    step: int
    count: int
    dilation: int = 1

    def element(self, x: torch.Tensor, axis: int, k: int) -> torch.Tensor:
        """The `k`-th element of every window: the axis has `count` elements."""
        return every(x, axis, self.start + k * self.dilation, self.step, self.count)


def every(x: torch.Tensor, axis: int, start: int, step: int, count: int) -> torch.Tensor:
    """`count` elements along `axis` from `start` on, `step` apart."""
    if count == 1 or step == 1:
        return x.narrow(axis, start, count) if (start, count) != (0, x.shape[axis]) else x
    return torch.ops.aten.slice.Tensor(x, axis, start, start + (count - 1) * step + 1, step)


def interleave(parts: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Element `i` of the result's axis is element `i // len(parts)` of part `i % len(parts)`; all of one shape."""
    if len(parts) == 1:
        return parts[0]
    return torch.stack(list(parts), axis + 1).flatten(axis, axis + 1)


def adaptive_windows(extent: int, outputs: int) -> list[Windows]:
    """The windows of adaptive pooling, `[floor(i e / o), ceil((i + 1) e / o))`, by their place in the period.

    Sizes and distances of the windows come again after `outputs / gcd` of them, so that each list entry is a pooling
    with one size and one stride; window `i` belongs to entry `i % len(list)`.
    """
    count = math.gcd(extent, outputs)
    period = outputs // count
    step = extent // count
    starts = [i * extent // outputs for i in range(period)]
    ends = [-(-(i + 1) * extent // outputs) for i in range(period)]
    return [Windows(s, e - s, step, count) for s, e in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class Greatest:
    """The greatest elements, and the place of each in the tensor that they come from.

    Attributes:
        values: any shape.
        places: int64, the same shape.
    """

    values: torch.Tensor
    places: torch.Tensor


def greatest(parts: Sequence[Greatest]) -> Greatest:
    """Element-wise the first of the greatest, or the last NaN, as PyTorch's pooling walks over a window."""
    best = parts[0]
    for each in parts[1:]:
        better = each.values > best.values
        if each.values.is_floating_point():
            better = better | each.values.isnan()
        best = Greatest(
            torch.where(better, each.values, best.values),
            torch.where(better, each.places, best.places),
        )
    return best


def greatest_along(x: Greatest, axis: int, windows: Sequence[Windows]) -> Greatest:
    """The greatest element of each window along one axis; window `i` belongs to entry `i % len(windows)`."""
    found = [
        greatest(
            [Greatest(w.element(x.values, axis, k), w.element(x.places, axis, k)) for k in range(w.length)],
        )
        for w in windows
    ]
    return Greatest(interleave([f.values for f in found], axis), interleave([f.places for f in found], axis))


def places_of(x: torch.Tensor, axes: int) -> torch.Tensor:
    """The flat place of each element within the last `axes` axes, int64, of `x`'s shape."""
    extents = x.shape[x.dim() - axes :]
    places = torch.arange(math.prod(extents), device=x.device).view(extents)
    return places.expand(x.shape)
