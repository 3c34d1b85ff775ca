"""Cumulative operations along an axis by doubling: after step k an element has seen the 2^k elements up to itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import axis_of, in_float32, with_an_axis

_aten = torch.ops.aten
_Combine = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _scan(x: torch.Tensor, dim: int, combine: _Combine) -> torch.Tensor:
    """`combine(earlier, later)` of all elements up to each; it has to be associative."""
    axis, seen = axis_of(x, dim), 1
    if x.dim() == 0 or x.numel() == 0:
        return x.clone()
    extent = x.shape[axis]
    while seen < extent:
        both = combine(x.narrow(axis, 0, extent - seen), x.narrow(axis, seen, extent - seen))
        x = torch.cat([x.narrow(axis, 0, seen), both], axis)
        seen *= 2
    return x


def _promoted(x: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Sums and products of integers are int64 unless a type is given."""
    if dtype is None and not x.is_floating_point() and not x.is_complex():
        dtype = torch.int64
    return x if dtype is None else x.to(dtype)


def cumsum(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`aten.cumsum`: any shape; half types are summed in float32."""
    return in_float32(_promoted(x, dtype), lambda wide: _scan(wide, dim, torch.add))


def cumprod(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`aten.cumprod`: any shape; half types are multiplied in float32."""
    return in_float32(_promoted(x, dtype), lambda wide: _scan(wide, dim, torch.mul))


def logcumsumexp(x: torch.Tensor, dim: int) -> torch.Tensor:
    """`aten.logcumsumexp`: any shape, a floating type."""
    return in_float32(x, lambda wide: _scan(wide, dim, torch.logaddexp))


def _cumulative_extreme(at_least: _Combine) -> Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]:
    def extreme(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`aten.cummax`, `aten.cummin`: the last of equal elements counts, and a NaN stays.

        Returns:
            The extremes, and their places along the axis, int64.
        """
        whole = with_an_axis(x)
        axis = axis_of(whole, dim)
        shape = [-1] + [1] * (whole.dim() - 1 - axis)
        places = torch.arange(whole.shape[axis], device=x.device).view(shape).expand(whole.shape)
        values, seen, extent = whole, 1, whole.shape[axis]
        while seen < extent and whole.numel():
            rest = extent - seen
            earlier, later = values.narrow(axis, 0, rest), values.narrow(axis, seen, rest)
            wins = at_least(later, earlier)
            if x.is_floating_point():
                wins = (wins & ~earlier.isnan()) | later.isnan()
            both = torch.where(wins, later, earlier)
            where = torch.where(wins, places.narrow(axis, seen, rest), places.narrow(axis, 0, rest))
            values = torch.cat([values.narrow(axis, 0, seen), both], axis)
            places = torch.cat([places.narrow(axis, 0, seen), where], axis)
            seen *= 2
        return values.reshape(x.shape).clone(), places.reshape(x.shape).clone()

    return extreme


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten.cumsum.default: cumsum,
    _aten.cumprod.default: cumprod,
    _aten.logcumsumexp.default: logcumsumexp,
    _aten.cummax.default: _cumulative_extreme(torch.ge),
    _aten.cummin.default: _cumulative_extreme(torch.le),
}
