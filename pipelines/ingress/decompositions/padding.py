"""Padding as slices, repeated edges and concatenations; a negative amount crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import replaced

_aten = torch.ops.aten
_Edges = Callable[[torch.Tensor, int, int, int], torch.Tensor]


def constant_pad(x: torch.Tensor, pad: Sequence[int], value: float = 0) -> object:
    """`aten.constant_pad_nd`: negative amounts crop first, so that no access lies outside; others stay core."""
    if min(pad, default=0) >= 0:
        return NotImplemented
    for axis, before, after in _amounts(x, pad):
        x = _crop(x, axis, before, after)
    rest = [max(amount, 0) for amount in pad]
    return _aten.constant_pad_nd.default(x, rest, value) if any(rest) else x.clone()


def _repeated(x: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
    """The first and the last element along `axis` repeated."""
    extent = x.shape[axis]
    return _join(
        axis,
        x.narrow(axis, 0, 1).expand(replaced(x.shape, axis, before)) if before else None,
        x,
        x.narrow(axis, extent - 1, 1).expand(replaced(x.shape, axis, after)) if after else None,
    )


def _mirror(x: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
    extent = x.shape[axis]
    return _join(
        axis,
        _reversed(x, axis, 1, before) if before else None,
        x,
        _reversed(x, axis, extent - 1 - after, after) if after else None,
    )


def _wrap(x: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
    extent = x.shape[axis]
    return _join(
        axis,
        x.narrow(axis, extent - before, before) if before else None,
        x,
        x.narrow(axis, 0, after) if after else None,
    )


def _padding(edges: _Edges) -> Callable[[torch.Tensor, Sequence[int]], torch.Tensor]:
    def pad_axes(x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        """`aten.reflection_pad{1,2,3}d` or `aten.replication_pad{1,2,3}d`: edges of the whole, then crops."""
        for axis, before, after in _amounts(x, padding):
            whole = edges(x, axis, max(before, 0), max(after, 0))
            x = _crop(whole, axis, before, after)
        return x if any(padding) else x.clone()

    return pad_axes


def circular_pad(x: torch.Tensor, pad: Sequence[int]) -> torch.Tensor:
    """`aten._pad_circular`: what negative amounts leave comes round again."""
    for axis, before, after in _amounts(x, pad):
        x = _wrap(_crop(x, axis, before, after), axis, max(before, 0), max(after, 0))
    return x if any(pad) else x.clone()


def _amounts(x: torch.Tensor, pad: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """`(axis, before, after)` of every axis that changes, the last axis first."""
    for k in range(len(pad) // 2):
        before, after = pad[2 * k], pad[2 * k + 1]
        if before or after:
            yield x.dim() - 1 - k, before, after


def _crop(x: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
    start, end = max(-before, 0), x.shape[axis] - max(-after, 0)
    return x.narrow(axis, start, end - start) if end - start != x.shape[axis] else x


def _reversed(x: torch.Tensor, axis: int, start: int, length: int) -> torch.Tensor:
    part = x.narrow(axis, start, length)
    return part.flip(axis) if length > 1 else part


def _join(axis: int, *parts: torch.Tensor | None) -> torch.Tensor:
    present = [part for part in parts if part is not None]
    return torch.cat(present, axis) if len(present) > 1 else present[0]


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten.constant_pad_nd.default: constant_pad,
    _aten.reflection_pad1d.default: _padding(_mirror),
    _aten.reflection_pad2d.default: _padding(_mirror),
    _aten.reflection_pad3d.default: _padding(_mirror),
    _aten.replication_pad1d.default: _padding(_repeated),
    _aten.replication_pad2d.default: _padding(_repeated),
    _aten.replication_pad3d.default: _padding(_repeated),
    _aten._pad_circular.default: circular_pad,
}
