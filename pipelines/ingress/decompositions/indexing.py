"""Reading elements at given places: one index per element of a flattened axis, slices where places are regular."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import axis_of, check_comparisons, replaced
from loopmorph.pipelines.ingress.decompositions.windows import every

_aten = torch.ops.aten
_MASKS = (torch.bool, torch.uint8)


@dataclass(frozen=True)
class Places:
    """Where an indexing with several index tensors reads or writes.

    Attributes:
        order: the tensor's axes, those that are indexed behind each other.
        axis: the first of them in that order.
        count: how many they are.
        shape: of each index tensor.
        flat: the place within these axes, flattened, of each index; int64, flat itself.
    """

    order: tuple[int, ...]
    axis: int
    count: int
    shape: tuple[int, ...]
    flat: torch.Tensor


def places_of_indices(x: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> Places | None:
    """The places that `x[indices]` names; None for masks and where there is nothing to index."""
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if not given or x.numel() == 0 or any(index.dtype in _MASKS or index.numel() == 0 for _, index in given):
        return None
    axes = [axis for axis, _ in given]
    adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
    rest = [axis for axis in range(x.dim()) if axis not in axes]
    first = axes[0] if adjacent else 0
    flat = torch.zeros([], dtype=torch.int64, device=x.device)
    for axis, index in given:
        flat = flat * x.shape[axis] + wrapped(index.to(torch.int64), x.shape[axis])
    order = (*rest[:first], *axes, *rest[first:])
    return Places(order, first, len(axes), tuple(flat.shape), flat.reshape(-1))


def wrapped(index: torch.Tensor, extent: int) -> torch.Tensor:
    """Places that may be negative, counted from the front."""
    return torch.where(index < 0, index + extent, index)


def index_tensors(x: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> object:
    """`aten.index.Tensor`: several index tensors, None in between, negative places; masks are not known here."""
    places = places_of_indices(x, indices)
    if places is None:
        return NotImplemented
    ordered = x.permute(places.order)
    merged = ordered.flatten(places.axis, places.axis + places.count - 1)
    read = merged.index_select(places.axis, places.flat)
    return read.reshape(replaced(merged.shape, places.axis, *places.shape))


def take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`aten.take`: from the flattened tensor, of the index's shape."""
    return x.reshape(-1).index_select(0, wrapped(index, x.numel()).reshape(-1)).view(index.shape)


def roll(x: torch.Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> torch.Tensor:
    """`aten.roll`; without axes, of the flattened tensor."""
    if not dims:
        return roll(x.reshape(-1), shifts, [0]).view(x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = axis_of(x, dim)
        extent = x.shape[axis]
        front = shift % extent if extent else 0
        if front:
            x = torch.cat([x.narrow(axis, extent - front, front), x.narrow(axis, 0, extent - front)], axis)
    return x.clone()


def repeat_interleave(
    x: torch.Tensor, repeats: int, dim: int | None = None, *, output_size: int | None = None
) -> torch.Tensor:
    """`aten.repeat_interleave.self_int`; without an axis, of the flattened tensor."""
    if dim is None:
        return repeat_interleave(x.reshape(-1), repeats, 0)
    axis = axis_of(x, dim)
    wide = x.unsqueeze(axis + 1).expand(replaced(x.shape, axis, x.shape[axis], repeats))
    return wide.reshape(replaced(x.shape, axis, x.shape[axis] * repeats))


def diagonal(x: torch.Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> torch.Tensor:
    """`aten.diagonal`: every (columns + 1)-th element of the two axes, flattened, as the last axis."""
    matrices = x.movedim((dim1, dim2), (-2, -1))
    rows, columns = matrices.shape[-2:]
    first_row, first_column = max(-offset, 0), max(offset, 0)
    count = max(min(rows - first_row, columns - first_column), 0)
    if count == 0 or x.numel() == 0:
        return matrices.new_empty([*matrices.shape[:-2], count])
    return every(matrices.flatten(-2), x.dim() - 2, first_row * columns + first_column, columns + 1, count)


def as_strided(
    x: torch.Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> object:
    """`aten.as_strided` of a tensor that lies in memory as it is indexed, from the start of that memory on."""
    last = (storage_offset or 0) + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    if not x.is_contiguous() or x.storage_offset() or last >= x.numel() or 0 in size:
        return NotImplemented
    places = torch.full([], storage_offset or 0, dtype=torch.int64, device=x.device)
    for extent, step in zip(size, stride, strict=True):
        places = places.unsqueeze(-1) + torch.arange(extent, device=x.device) * step
    return x.reshape(-1).index_select(0, places.reshape(-1)).view(list(size))


def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """`aten.native_channel_shuffle`: the channels of `(N, C, *space)`, a group's first ones first."""
    split = x.view([x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]])
    return split.transpose(1, 2).reshape(x.shape)


def permute_copy(x: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """`aten.permute_copy`."""
    return x.permute(list(dims)).clone()


def one_hot(x: torch.Tensor, num_classes: int = -1) -> object:
    """`aten.one_hot` of a given number of classes: int64, with a new last axis."""
    if num_classes < 0:
        return NotImplemented
    return (x.unsqueeze(-1) == torch.arange(num_classes, device=x.device)).to(torch.int64)


def searchsorted(
    boundaries: torch.Tensor,
    x: torch.Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: torch.Tensor | None = None,
) -> torch.Tensor:
    """`aten.searchsorted` by ATen's own bisection (`cus_lower_bound`), for boundaries in no order its result, too."""
    if sorter is not None:
        boundaries = boundaries.gather(-1, sorter)
    count, after = boundaries.shape[-1], right or side == "right"
    low = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    high = torch.full(x.shape, count, dtype=torch.int64, device=x.device)
    for _ in range(count.bit_length()):
        middle = torch.div(low + high, 2, rounding_mode="floor")
        limit = _boundary(boundaries, torch.clamp(middle, max=count - 1))
        stays = limit > x if after else limit >= x
        low, high = (
            torch.where((low < high) & torch.logical_not(stays), middle + 1, low),
            torch.where((low < high) & stays, middle, high),
        )
    return low.to(torch.int32) if out_int32 else low


def _boundary(boundaries: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    if boundaries.dim() > 1:
        return boundaries.gather(-1, places)
    return boundaries.index_select(0, places.reshape(-1)).reshape(places.shape)


def bucketize(
    x: torch.Tensor, boundaries: torch.Tensor, *, out_int32: bool = False, right: bool = False
) -> torch.Tensor:
    """`aten.bucketize`: `aten.searchsorted` with the arguments the other way round."""
    return searchsorted(boundaries, x, out_int32=out_int32, right=right)


def embedding_bag(
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`aten._embedding_bag`: the sum, mean or maximum of the rows of each bag, `(bags, width)`.

    Returns:
        The result, and three empty tensors in the place of what only a gradient needs.

    Raises:
        ImportRefused: too many pairs of a bag and a row.
    """
    bags = offsets.shape[0] - include_last_offset
    count, width = indices.shape[0], weight.shape[1]
    check_comparisons("embedding_bag", bags, count, width)
    starts = offsets.narrow(0, 0, bags) if include_last_offset else offsets
    numbers = torch.arange(count, device=indices.device)
    bag = (starts.unsqueeze(0) <= numbers.unsqueeze(1)).to(torch.int64).sum(1) - 1
    belongs = bag.unsqueeze(0) == torch.arange(bags, device=indices.device).unsqueeze(1)
    if padding_idx >= 0:
        belongs = belongs & (indices != padding_idx).unsqueeze(0)
    rows = weight.index_select(0, indices)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(1)
    result = _reduced_bags(rows, belongs, mode)
    return result, indices.new_empty(0), indices.new_empty(0), indices.new_empty(0)


def _reduced_bags(rows: torch.Tensor, belongs: torch.Tensor, mode: int) -> torch.Tensor:
    counts = belongs.to(torch.int64).sum(1, keepdim=True)
    each, rows = belongs.unsqueeze(-1), rows.unsqueeze(0)
    if mode == 2:
        return torch.where(counts > 0, torch.where(each, rows, -math.inf).amax(1), 0.0)
    total = torch.where(each, rows, 0.0).sum(1)
    return total / counts.clamp(min=1).to(total.dtype) if mode == 1 else total


def _scalar_first(rule: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def with_number(*args: Any, **kwargs: Any) -> torch.Tensor:
        """The `Scalar` overload: a number in the place of the tensor of values."""
        device = next(each.device for each in args if isinstance(each, torch.Tensor))
        tensors = [a if isinstance(a, torch.Tensor) else torch.full([], a, device=device) for a in args]
        return rule(*tensors, **kwargs)

    return with_number


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten._embedding_bag.default: embedding_bag,
    _aten._embedding_bag_forward_only.default: embedding_bag,
    _aten._unsafe_index.Tensor: index_tensors,
    _aten.as_strided.default: as_strided,
    _aten.as_strided_copy.default: as_strided,
    _aten.bucketize.Scalar: _scalar_first(bucketize),
    _aten.bucketize.Tensor: bucketize,
    _aten.diagonal.default: diagonal,
    _aten.index.Tensor: index_tensors,
    _aten.native_channel_shuffle.default: channel_shuffle,
    _aten.one_hot.default: one_hot,
    _aten.permute_copy.default: permute_copy,
    _aten.repeat_interleave.self_int: repeat_interleave,
    _aten.roll.default: roll,
    _aten.searchsorted.Scalar: _scalar_first(searchsorted),
    _aten.searchsorted.Tensor: searchsorted,
    _aten.take.default: take,
}
