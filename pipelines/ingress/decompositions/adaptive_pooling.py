"""Adaptive pooling, whose windows may differ in size, as poolings with one size each, or as reads at given places."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import along, in_float32, replaced
from loopmorph.pipelines.ingress.decompositions.pooling import core_max_pool
from loopmorph.pipelines.ingress.decompositions.windows import (
    Greatest,
    Windows,
    adaptive_windows,
    greatest,
    greatest_along,
    interleave,
    places_of,
)

_MOST_PARTS = 16  # poolings for one axis; more make large code, and a gather is as fast


def adaptive_avg_pool(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """`aten.adaptive_avg_pool{1,2,3}d`: `x` is `(C, *space)` or `(N, C, *space)`, `size` the space of the result."""
    return in_float32(x, lambda wide: _means(wide, size))


def _means(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    axes = _space(x, size)
    if all(outputs == 1 for outputs in size):
        return x.mean([axis - x.dim() for axis in reversed(axes)], keepdim=True)
    if any(outputs == 0 for outputs in size) or x.numel() == 0:
        return x.new_empty([*x.shape[: axes[0]], *size])
    window = _even_window(x, axes, size)
    if window is not None:
        return torch.ops.aten.avg_pool2d.default(x, window, window)
    for axis, outputs in _most_shrunk_first(x, axes, size):
        x = _mean_along(x, axis, outputs)
    return x


def adaptive_max_pool(x: torch.Tensor, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """`aten.adaptive_max_pool{1,2,3}d`: `x` is `(C, *space)` or `(N, C, *space)`, `size` the space of the result.

    Returns:
        The greatest elements, and the place of each in the flattened space, int64.
    """
    axes = _space(x, size)
    if x.numel() == 0 or any(outputs == 0 for outputs in size):
        shape = [*x.shape[: axes[0]], *size]
        return x.new_empty(shape), torch.empty(shape, dtype=torch.int64, device=x.device)
    return _max_values(x, axes, size), _max_places(x, axes, size)


def _max_values(x: torch.Tensor, axes: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    if all(outputs == 1 for outputs in size):
        return x.amax(tuple(axes), keepdim=True)
    window = _even_window(x, axes, size)
    if window is not None:
        return core_max_pool(x if x.dim() == 4 else x.unsqueeze(0), window, window, [0, 0], [1, 1]).reshape(
            [*x.shape[: axes[0]], *size]
        )
    for axis, outputs in _most_shrunk_first(x, axes, size):
        x = _max_along(x, axis, outputs)
    return x


def _max_places(x: torch.Tensor, axes: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """The last axis first: the first of the greatest of a row, then of the rows, is the first of the window."""
    found = Greatest(x, places_of(x, len(size)))
    for axis, outputs in reversed(list(zip(axes, size, strict=True))):
        windows = adaptive_windows(x.shape[axis], outputs)
        if len(windows) <= _MOST_PARTS:
            found = greatest_along(found, axis, windows)
        else:
            places = _elements(x, x.shape[axis], outputs)
            parts = [(found.values.index_select(axis, p), found.places.index_select(axis, p)) for p in places]
            found = greatest([Greatest(*part) for part in parts])
    return found.places


def _space(x: torch.Tensor, size: Sequence[int]) -> list[int]:
    return list(range(x.dim() - len(size), x.dim()))


def _even_window(x: torch.Tensor, axes: Sequence[int], size: Sequence[int]) -> list[int] | None:
    """The window of a pooling of two axes, if all are of one size."""
    pairs = [(x.shape[axis], outputs) for axis, outputs in zip(axes, size, strict=True)]
    even = len(pairs) == 2 and all(extent % outputs == 0 for extent, outputs in pairs)
    return [extent // outputs for extent, outputs in pairs] if even else None


def _most_shrunk_first(x: torch.Tensor, axes: Sequence[int], size: Sequence[int]) -> list[tuple[int, int]]:
    return sorted(zip(axes, size, strict=True), key=lambda pair: -x.shape[pair[0]] / pair[1])


def _max_along(x: torch.Tensor, axis: int, outputs: int) -> torch.Tensor:
    windows = adaptive_windows(x.shape[axis], outputs)
    if len(windows) <= _MOST_PARTS:
        return interleave([_pool(x, axis, w, _max_pool, torch.amax) for w in windows], axis)
    first, *rest = _elements(x, x.shape[axis], outputs)
    best = x.index_select(axis, first)
    for places in rest:
        best = torch.maximum(best, x.index_select(axis, places))
    return best


def _mean_along(x: torch.Tensor, axis: int, outputs: int) -> torch.Tensor:
    windows = adaptive_windows(x.shape[axis], outputs)
    if len(windows) <= _MOST_PARTS:
        return interleave([_pool(x, axis, w, _avg_pool, torch.mean) for w in windows], axis)
    starts, ends = _bounds(x, x.shape[axis], outputs)
    total = x.index_select(axis, starts)
    for k, places in list(enumerate(_elements(x, x.shape[axis], outputs)))[1:]:
        inside = along(starts + k < ends, axis, x.dim())
        total = torch.where(inside, total + x.index_select(axis, places), total)
    return total / along((ends - starts).to(x.dtype), axis, x.dim())


def _pool(
    x: torch.Tensor,
    axis: int,
    windows: Windows,
    pool: Callable[[torch.Tensor, Windows], torch.Tensor],
    whole: Callable[..., torch.Tensor],
) -> torch.Tensor:
    """One pooling along `axis` as a pooling of two axes, the other of which has windows of one element."""
    if windows.count == 1:
        return whole(x.narrow(axis, windows.start, windows.length), axis, keepdim=True)
    last = windows.start + (windows.count - 1) * windows.step + windows.length
    read = x.narrow(axis, windows.start, last - windows.start)
    if windows.length == 1:
        return Windows(0, 1, windows.step, windows.count).element(read, axis, 0)
    rows = read.reshape(1, read.shape[:axis].numel(), read.shape[axis], read.shape[axis + 1 :].numel())
    pooled = pool(rows, windows)
    return pooled.reshape(replaced(x.shape, axis, windows.count))


def _max_pool(rows: torch.Tensor, windows: Windows) -> torch.Tensor:
    return core_max_pool(rows, [windows.length, 1], [windows.step, 1], [0, 0], [1, 1])


def _avg_pool(rows: torch.Tensor, windows: Windows) -> torch.Tensor:
    return torch.ops.aten.avg_pool2d.default(rows, [windows.length, 1], [windows.step, 1])


def _bounds(x: torch.Tensor, extent: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First element of each window, and the one after its last, int64."""
    numbers = torch.arange(outputs, device=x.device) * extent
    return numbers // outputs, (numbers + (extent + outputs - 1)) // outputs


def _elements(x: torch.Tensor, extent: int, outputs: int) -> list[torch.Tensor]:
    """For each k the place of each window's k-th element, or of its last where it has fewer."""
    starts, ends = _bounds(x, extent, outputs)
    longest = max(-(-(i + 1) * extent // outputs) - i * extent // outputs for i in range(outputs))
    return [torch.minimum(starts + k, ends - 1) for k in range(longest)]


_aten = torch.ops.aten
DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten.adaptive_avg_pool1d.default: adaptive_avg_pool,
    _aten.adaptive_avg_pool2d.default: adaptive_avg_pool,
    _aten._adaptive_avg_pool2d.default: adaptive_avg_pool,
    _aten.adaptive_avg_pool3d.default: adaptive_avg_pool,
    _aten._adaptive_avg_pool3d.default: adaptive_avg_pool,
    _aten.adaptive_max_pool1d.default: adaptive_max_pool,
    _aten.adaptive_max_pool2d.default: adaptive_max_pool,
    _aten.adaptive_max_pool3d.default: adaptive_max_pool,
}
