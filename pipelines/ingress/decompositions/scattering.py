"""Writing elements at given places: each element of the result looks for what is written to it.

A loop over the result with a comparison for each written element has no stores at places that depend on data, and no
order that matters: of several elements written to one place the last one stays, as it does in PyTorch on one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import along, axis_of, check_comparisons, replaced, with_an_axis
from loopmorph.pipelines.ingress.decompositions.indexing import places_of_indices, wrapped

_aten = torch.ops.aten
_REDUCTIONS = {"add": "sum", "multiply": "prod"}


def scatter(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> torch.Tensor:
    """`aten.scatter.src`: `x[.., index[.., j, ..], ..] = src[.., j, ..]`."""
    target, place, source, axis = _aligned("scatter", x, dim, index, src)
    last = _last(place, target.shape[-1])
    written = source.gather(-1, last.clamp(min=0))
    return torch.where(last >= 0, written, target).movedim(-1, axis).reshape(x.shape)


def scatter_value(x: torch.Tensor, dim: int, index: torch.Tensor, value: float) -> torch.Tensor:
    """`aten.scatter.value`."""
    target, place, _, axis = _aligned("scatter", x, dim, index, index)
    return torch.where(_last(place, target.shape[-1]) >= 0, value, target).movedim(-1, axis).reshape(x.shape)


def scatter_reduce(
    x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """`aten.scatter_reduce`: sum, prod, mean, amax or amin of what is written to each place."""
    target, place, source, axis = _aligned("scatter_reduce", x, dim, index, src)
    hits = _hits(place, target.shape[-1])
    counts = hits.to(torch.int64).sum(-1)
    found = _reduced(torch.where(hits, source.unsqueeze(-2), _start(reduce, x.dtype)), reduce, x.dtype)
    result = _joined(target, found, reduce) if include_self else found
    if reduce == "mean":
        number = (counts + include_self).clamp(min=1)
        result = torch.div(result, number, rounding_mode=None if x.is_floating_point() else "floor").to(x.dtype)
    return torch.where(counts > 0, result, target).movedim(-1, axis).reshape(x.shape)


def scatter_add(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> torch.Tensor:
    """`aten.scatter_add`."""
    return scatter_reduce(x, dim, index, src, "sum")


def scatter_with(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, *, reduce: str) -> torch.Tensor:
    """`aten.scatter.reduce`: `add` or `multiply`."""
    return scatter_reduce(x, dim, index, src, _REDUCTIONS[reduce])


def scatter_value_with(x: torch.Tensor, dim: int, index: torch.Tensor, value: float, *, reduce: str) -> torch.Tensor:
    """`aten.scatter.value_reduce`."""
    return scatter_with(x, dim, index, torch.full_like(index, value, dtype=x.dtype), reduce=reduce)


def index_add(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, *, alpha: float = 1) -> object:
    """`aten.index_add`: `x[.., index[j], ..] += alpha * source[.., j, ..]`."""
    source = with_an_axis(source)
    places = _expanded(index, source, axis_of(source, dim))
    return scatter_reduce(x, dim, places, source * alpha if alpha != 1 else source, "sum")


def index_reduce(
    x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """`aten.index_reduce`: prod, mean, amax or amin."""
    source = with_an_axis(source)
    places = _expanded(index, source, axis_of(source, dim))
    return scatter_reduce(x, dim, places, source, reduce, include_self=include_self)


def index_copy(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """`aten.index_copy`: `x[.., index[j], ..] = source[.., j, ..]`."""
    whole, axis = with_an_axis(x), axis_of(x, dim)
    check_comparisons("index_copy", whole.shape[axis], index.numel())
    last = _last(index.reshape(-1), whole.shape[axis])
    read = with_an_axis(source).index_select(axis, last.clamp(min=0))
    return torch.where(along(last >= 0, axis, whole.dim()), read, whole).reshape(x.shape)


def index_fill(x: torch.Tensor, dim: int, index: torch.Tensor, value: torch.Tensor | float) -> torch.Tensor:
    """`aten.index_fill` with a number or a tensor of one."""
    whole, axis = with_an_axis(x), axis_of(x, dim)
    check_comparisons("index_fill", whole.shape[axis], index.numel())
    places = wrapped(index.reshape(-1), whole.shape[axis])
    written = along(_last(places, whole.shape[axis]) >= 0, axis, whole.dim())
    filled = torch.where(written, value if isinstance(value, torch.Tensor) else float(value), whole)
    return filled.to(x.dtype).reshape(x.shape)


def index_put(
    x: torch.Tensor, indices: Sequence[torch.Tensor | None], values: torch.Tensor, accumulate: bool = False
) -> object:
    """`aten.index_put`: places as for `aten.index`; a mask only with one value for all it takes."""
    masks = [index for index in indices if index is not None and index.dtype == torch.bool]
    if masks:
        return _put_where(x, indices, values, accumulate)
    places = places_of_indices(x, indices)
    if places is None:
        return NotImplemented
    axis, last = places.axis, places.axis + places.count - 1
    ordered = x.permute(places.order)
    merged = ordered.flatten(axis, last)
    shape = replaced(merged.shape, axis, *places.shape)
    source = values.expand(shape).reshape(replaced(merged.shape, axis, places.flat.shape[0])).to(x.dtype)
    if accumulate:
        result = index_add(merged, axis, places.flat, source)
    else:
        result = index_copy(merged, axis, places.flat, source)
    assert isinstance(result, torch.Tensor)
    back = sorted(range(x.dim()), key=places.order.__getitem__)
    return result.reshape(ordered.shape).permute(back)


def _put_where(
    x: torch.Tensor, indices: Sequence[torch.Tensor | None], values: torch.Tensor, accumulate: bool
) -> object:
    mask, *others = indices
    if mask is None or others or values.dim() > x.dim() - mask.dim():
        return NotImplemented
    taken = mask.view([*mask.shape, *[1] * (x.dim() - mask.dim())])
    return torch.where(taken, x + values if accumulate else values, x)


def put(x: torch.Tensor, index: torch.Tensor, source: torch.Tensor, accumulate: bool = False) -> object:
    """`aten.put`: into the flattened tensor."""
    flat = index_put(x.reshape(-1), [index.reshape(-1)], source.reshape(-1), accumulate)
    return flat.view(x.shape) if isinstance(flat, torch.Tensor) else NotImplemented


def masked_scatter(x: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> object:
    """`aten.masked_scatter`: the k-th element that the mask takes becomes `source`'s k-th."""
    shape = torch.broadcast_shapes(x.shape, mask.shape)
    if source.numel() == 0 or math.prod(shape) == 0:
        return NotImplemented
    taken = mask.expand(shape).reshape(-1)
    number = (taken.to(torch.int64).cumsum(0) - 1).clamp(0, source.numel() - 1)
    read = source.reshape(-1).index_select(0, number).view(shape)
    return torch.where(mask, read, x)


def diagonal_scatter(x: torch.Tensor, src: torch.Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> torch.Tensor:
    """`aten.diagonal_scatter`: `src`, whose last axis is the diagonal, by the row that each element belongs to."""
    matrices = x.movedim((dim1, dim2), (-2, -1))
    rows, columns = matrices.shape[-2:]
    first_row = max(-offset, 0)
    row, column = torch.arange(rows, device=x.device).unsqueeze(1), torch.arange(columns, device=x.device)
    below = torch.constant_pad_nd(src, [first_row, rows - first_row - src.shape[-1]]).unsqueeze(-1)
    return torch.where(column == row + offset, below, matrices).movedim((-2, -1), (dim1, dim2))


def max_unpool(x: torch.Tensor, places: torch.Tensor, size: Sequence[int], *rest: object) -> object:
    """`aten.max_unpool2d`, `aten.max_unpool3d`: zeros but for `x`'s elements at the places of their planes."""
    if x.numel() == 0:
        return NotImplemented
    lead = x.shape[: x.dim() - len(size)]
    plane = math.prod(size)
    check_comparisons("max_unpool", x.numel(), plane)
    flat, place = (each.reshape(*lead, -1) for each in (x, places))
    return scatter(x.new_zeros([*lead, plane]), -1, place, flat).reshape(*lead, *size)


def _aligned(
    name: str, x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Target, places and source with the axis last and equal other axes, where places -1 mean nowhere; the axis."""
    target, place, source = with_an_axis(x), with_an_axis(index), with_an_axis(src)
    axis = axis_of(x, dim)
    missing = [0 if k == axis else target.shape[k] - place.shape[k] for k in range(target.dim())]
    for k, extent in enumerate(place.shape):
        if source.shape[k] != extent:
            source = source.narrow(k, 0, extent)
    if any(missing):
        amounts = [amount for each in reversed(missing) for amount in (0, each)]
        place, source = torch.constant_pad_nd(place, amounts, -1), torch.constant_pad_nd(source, amounts)
    check_comparisons(name, place.numel(), target.shape[axis])
    return target.movedim(axis, -1), place.movedim(axis, -1), source.movedim(axis, -1), axis


def _hits(place: torch.Tensor, extent: int) -> torch.Tensor:
    """Whether element j is written to place i: a new axis i before the last one."""
    return place.unsqueeze(-2) == torch.arange(extent, device=place.device).unsqueeze(-1)


def _last(place: torch.Tensor, extent: int) -> torch.Tensor:
    """For each place the last element that is written there, -1 for none; int64."""
    numbers = torch.arange(place.shape[-1], device=place.device)
    return torch.where(_hits(place, extent), numbers, -1).amax(-1)


def _expanded(index: torch.Tensor, source: torch.Tensor, axis: int) -> torch.Tensor:
    return along(index, axis, source.dim()).expand(source.shape)


def _start(reduce: str, dtype: torch.dtype) -> float:
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.is_floating_point:
        return -math.inf if reduce == "amax" else math.inf
    return torch.iinfo(dtype).min if reduce == "amax" else torch.iinfo(dtype).max


def _reduced(values: torch.Tensor, reduce: str, dtype: torch.dtype) -> torch.Tensor:
    if reduce == "amax":
        return values.amax(-1)
    if reduce == "amin":
        return values.amin(-1)
    return values.prod(-1, dtype=dtype) if reduce == "prod" else values.sum(-1, dtype=dtype)


def _joined(x: torch.Tensor, found: torch.Tensor, reduce: str) -> torch.Tensor:
    if reduce == "amax":
        return torch.maximum(x, found)
    if reduce == "amin":
        return torch.minimum(x, found)
    return x * found if reduce == "prod" else x + found


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten._unsafe_index_put.default: index_put,
    _aten.diagonal_scatter.default: diagonal_scatter,
    _aten.index_add.default: index_add,
    _aten.index_copy.default: index_copy,
    _aten.index_fill.int_Scalar: index_fill,
    _aten.index_fill.int_Tensor: index_fill,
    _aten.index_put.default: index_put,
    _aten.index_reduce.default: index_reduce,
    _aten.masked_scatter.default: masked_scatter,
    _aten.max_unpool2d.default: max_unpool,
    _aten.max_unpool3d.default: max_unpool,
    _aten.put.default: put,
    _aten.scatter.reduce: scatter_with,
    _aten.scatter.src: scatter,
    _aten.scatter.value: scatter_value,
    _aten.scatter.value_reduce: scatter_value_with,
    _aten.scatter_add.default: scatter_add,
    _aten.scatter_reduce.two: scatter_reduce,
}
