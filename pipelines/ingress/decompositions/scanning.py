"""Cumulative operations along an axis by doubling: after step k an element has seen the 2^k elements up to itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import along, axis_of, in_float32, with_an_axis

_aten = torch.ops.aten
_Parts = tuple[torch.Tensor, ...]
_Combine = Callable[[_Parts, _Parts], _Parts]


def _scan(parts: _Parts, axis: int, combine: _Combine) -> _Parts:
    """`combine(earlier, later)` of all elements up to each; it has to be associative."""
    seen, extent = 1, parts[0].shape[axis]
    while seen < extent and parts[0].numel():
        rest = extent - seen
        earlier, later = (tuple(x.narrow(axis, first, rest) for x in parts) for first in (0, seen))
        both = combine(earlier, later)
        parts = tuple(torch.cat([x.narrow(axis, 0, seen), y], axis) for x, y in zip(parts, both, strict=True))
        seen *= 2
    return parts


def _scan_one(x: torch.Tensor, dim: int, combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    if x.dim() == 0 or x.numel() == 0:
        return x.clone()
    return _scan((x,), axis_of(x, dim), lambda earlier, later: (combine(*earlier, *later),))[0]


def _promoted(x: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Sums and products of integers are int64 unless a type is given."""
    if dtype is None and not x.is_floating_point() and not x.is_complex():
        dtype = torch.int64
    return x if dtype is None else x.to(dtype)


def cumsum(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`aten.cumsum`: any shape; half types are summed in float32."""
    return in_float32(_promoted(x, dtype), lambda wide: _scan_one(wide, dim, torch.add))


def cumprod(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`aten.cumprod`: any shape; half types are multiplied in float32."""
    return in_float32(_promoted(x, dtype), lambda wide: _scan_one(wide, dim, torch.mul))


def logcumsumexp(x: torch.Tensor, dim: int) -> torch.Tensor:
    """`aten.logcumsumexp`: any shape, a floating type."""
    return in_float32(x, lambda wide: _scan_one(wide, dim, torch.logaddexp))


def _cumulative_extreme(
    at_least: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]:
    def later_wins(earlier: _Parts, later: _Parts) -> _Parts:
        wins = at_least(later[0], earlier[0])
        if later[0].is_floating_point():
            wins = (wins & ~earlier[0].isnan()) | later[0].isnan()
        return tuple(torch.where(wins, new, old) for new, old in zip(later, earlier, strict=True))

    def extreme(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`aten.cummax`, `aten.cummin`: the last of equal elements counts, and a NaN stays.

        Returns:
            The extremes, and their places along the axis, int64.
        """
        whole = with_an_axis(x)
        axis = axis_of(whole, dim)
        places = along(torch.arange(whole.shape[axis], device=x.device), axis, whole.dim()).expand(whole.shape)
        values, places = _scan((whole, places), axis, later_wins)
        return values.reshape(x.shape).clone(), places.reshape(x.shape).clone()

    return extreme


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten.cumsum.default: cumsum,
    _aten.cumprod.default: cumprod,
    _aten.logcumsumexp.default: logcumsumexp,
    _aten.cummax.default: _cumulative_extreme(torch.ge),
    _aten.cummin.default: _cumulative_extreme(torch.le),
}
