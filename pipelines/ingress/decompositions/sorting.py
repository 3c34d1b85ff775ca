"""Sorting by counting: an element's rank is the number of elements that come before it.

An axis of n elements costs n * n comparisons, all alike and without a branch. NaN is the greatest, and equal elements
keep their order, so that places are those of a stable sort.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._ops import OpOverload

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.decompositions.axes import axis_of, check_comparisons, with_an_axis

_aten = torch.ops.aten
_LONGEST = 4096
_Pair = tuple[torch.Tensor, torch.Tensor]


def _ranks(x: torch.Tensor, descending: bool) -> torch.Tensor:
    """How many elements of the last axis come before each, int64, of `x`'s shape."""
    extent = x.shape[-1]
    mine, other = x.unsqueeze(-1), x.unsqueeze(-2)
    before = other > mine if descending else other < mine
    same = other == mine
    if x.is_floating_point():
        mine_is_nan, other_is_nan = mine.isnan(), other.isnan()
        nan_first = other_is_nan & ~mine_is_nan if descending else mine_is_nan & ~other_is_nan
        before, same = before | nan_first, same | (mine_is_nan & other_is_nan)
    numbers = torch.arange(extent, device=x.device)
    earlier = numbers.unsqueeze(0) < numbers.unsqueeze(1)
    return (before | (same & earlier)).to(torch.int64).sum(-1)


def _ordered(name: str, x: torch.Tensor, dim: int, first: int, count: int, descending: bool) -> _Pair:
    """Elements `first` to `first + count` of the sorted axis, and where they were.

    Raises:
        ImportRefused: the axis is too long.
    """
    whole = with_an_axis(x)
    axis = axis_of(whole, dim)
    last = whole.movedim(axis, -1)
    extent = last.shape[-1]
    _check(name, last)
    if last.dtype == torch.bool:
        last = last.to(torch.uint8)
    wanted = torch.arange(first, first + count, device=x.device)
    numbers = torch.arange(extent, device=x.device)
    found = _ranks(last, descending).unsqueeze(-2) == wanted.unsqueeze(-1)
    places = torch.where(found, numbers, 0).sum(-1)
    values = last.gather(-1, places).to(x.dtype)
    return values.movedim(-1, axis).contiguous(), places.movedim(-1, axis).contiguous()


def _check(name: str, x: torch.Tensor) -> None:
    """Checks that the last axis can be sorted.

    Raises:
        ImportRefused: it is too long, or there are too many elements.
    """
    if x.shape[-1] > _LONGEST:
        raise ImportRefused(f"{name}: an axis of {x.shape[-1]} elements; up to {_LONGEST} are supported")
    check_comparisons(name, x.numel(), x.shape[-1])


def _extent(x: torch.Tensor, dim: int) -> int:
    return x.shape[axis_of(x, dim)] if x.dim() else 1


def sort(x: torch.Tensor, dim: int = -1, descending: bool = False) -> _Pair:
    """`aten.sort`: any shape; as a stable sort."""
    values, places = _ordered("sort", x, dim, 0, _extent(x, dim), descending)
    return values.reshape(x.shape), places.reshape(x.shape)


def sort_stable(x: torch.Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False) -> _Pair:
    """`aten.sort.stable`."""
    return sort(x, dim, descending)


def argsort(x: torch.Tensor, dim: int = -1, descending: bool = False) -> torch.Tensor:
    """`aten.argsort`."""
    return sort(x, dim, descending)[1]


def argsort_stable(x: torch.Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> torch.Tensor:
    """`aten.argsort.stable`."""
    return sort(x, dim, descending)[1]


def topk(x: torch.Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> _Pair:
    """`aten.topk`: always in order; of equal elements the first ones."""
    values, places = _ordered("topk", x, dim, 0, k, largest)
    return (values, places) if x.dim() else (values.reshape([]), places.reshape([]))


def kthvalue(x: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> _Pair:
    """`aten.kthvalue`: the k-th smallest, counted from 1."""
    return _one("kthvalue", x, dim, k - 1, keepdim)


def median_along(x: torch.Tensor, dim: int = -1, keepdim: bool = False) -> _Pair:
    """`aten.median.dim`: the lower of two middle elements, or the first NaN."""
    middle, where = _one("median", x, dim, (_extent(x, dim) - 1) // 2, True)
    if x.is_floating_point() and x.dim():
        unknown = x.isnan().to(torch.int64)
        place = unknown.argmax(dim, keepdim=True)
        is_known = unknown.amax(dim, keepdim=True) == 0
        middle, where = torch.where(is_known, middle, torch.nan), torch.where(is_known, where, place)
    if not keepdim and x.dim():
        middle, where = middle.squeeze(dim), where.squeeze(dim)
    return middle, where


def median(x: torch.Tensor) -> torch.Tensor:
    """`aten.median`: of all elements."""
    return median_along(x.reshape(-1), 0)[0]


def nanmedian_along(x: torch.Tensor, dim: int = -1, keepdim: bool = False) -> _Pair:
    """`aten.nanmedian.dim`: the lower of two middle elements of those that are known."""
    if not x.is_floating_point() or x.dim() == 0:
        return median_along(x, dim, keepdim)
    axis = axis_of(x, dim)
    last = x.movedim(axis, -1)
    _check("nanmedian", last)
    middle = (((~last.isnan()).to(torch.int64).sum(-1, keepdim=True) - 1).clamp(min=0)) // 2
    found = _ranks(last, False) == middle
    place = torch.where(found, torch.arange(last.shape[-1], device=x.device), 0).sum(-1, keepdim=True)
    value = last.gather(-1, place).movedim(-1, axis)
    place = place.movedim(-1, axis)
    return (value, place) if keepdim else (value.squeeze(axis), place.squeeze(axis))


def nanmedian(x: torch.Tensor) -> torch.Tensor:
    """`aten.nanmedian`: of all elements that are known."""
    return nanmedian_along(x.reshape(-1), 0)[0]


def _one(name: str, x: torch.Tensor, dim: int, rank: int, keepdim: bool) -> _Pair:
    values, places = _ordered(name, x, dim, rank, 1, False)
    if not keepdim or x.dim() == 0:
        axis = axis_of(x, dim)
        values, places = values.squeeze(axis), places.squeeze(axis)
    return values, places


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten.sort.default: sort,
    _aten.sort.stable: sort_stable,
    _aten.argsort.default: argsort,
    _aten.argsort.stable: argsort_stable,
    _aten.topk.default: topk,
    _aten.kthvalue.default: kthvalue,
    _aten.median.default: median,
    _aten.median.dim: median_along,
    _aten.nanmedian.default: nanmedian,
    _aten.nanmedian.dim: nanmedian_along,
}
