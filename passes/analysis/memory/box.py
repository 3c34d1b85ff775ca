"""Boxes: the regions of a memref that nests touch, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.affine_expr import linear_form, used_dims, value_range


@dataclass(frozen=True)
class Box:
    """The elements whose index on every axis a lies in `begin[a] .. end[a] - 1`."""

    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of elements along each axis."""
        return tuple(e - b for b, e in zip(self.begin, self.end, strict=True))

    @property
    def points(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def overlaps(self, other: Box) -> bool:
        """Whether an element lies in both."""
        begin, end = _common(self, other)
        return all(b < e for b, e in zip(begin, end, strict=True))

    def minus(self, other: Box) -> list[Box]:
        """What `other` leaves of this box, as boxes that do not overlap: first those that differ on the first axis."""
        if not self.overlaps(other):
            return [self]
        pieces = []
        begin, end = list(self.begin), list(self.end)
        for axis, (low, high) in enumerate(zip(*_common(self, other), strict=True)):
            for piece_begin, piece_end in ((begin[axis], low), (high, end[axis])):
                if piece_begin < piece_end:
                    ends = (*end[:axis], piece_end, *end[axis + 1 :])
                    pieces.append(Box((*begin[:axis], piece_begin, *begin[axis + 1 :]), ends))
            begin[axis], end[axis] = low, high
        return pieces


def whole(shape: Sequence[int]) -> Box:
    """All elements of a memref of that shape."""
    return Box((0,) * len(shape), tuple(shape))


def remainder(box: Box, holes: Iterable[Box]) -> list[Box]:
    """What is left of a box without the holes."""
    left = [box]
    for hole in holes:
        left = [piece for part in left for piece in part.minus(hole)]
    return left


def hull(exprs: Sequence[ir.AffineExpr], limits: Sequence[int | None], shape: Sequence[int]) -> Box:
    """A box around all that an access touches.

    Args:
        exprs: the access map's results, over the nest's loops.
        limits: for each loop the number that its iterator, at least 0, stays below; None where unknown.
        shape: the memref's shape: the box where a limit is unknown.
    """
    known = [limit if limit is not None else 1 for limit in limits]
    ranges = []
    for expr, extent in zip(exprs, shape, strict=True):
        exact = all(limits[d] is not None for d in used_dims(expr))
        ranges.append(value_range(expr, known) if exact else (0, extent - 1))
    return Box(tuple(low for low, _ in ranges), tuple(high + 1 for _, high in ranges))


def filled(exprs: Sequence[ir.AffineExpr], extents: Sequence[int]) -> Box | None:
    """The box that an access in a rectangular nest touches every element of; None where that is no box or unclear.

    Args:
        exprs: the access map's results, over the nest's loops.
        extents: extents of the loops.
    """
    begin, end, seen = [], [], set[int]()
    for expr in exprs:
        form = linear_form(expr)
        if form is None:
            return None
        moving = {d: c for d, c in form.coefficients.items() if extents[d] > 1}
        if any(c != 1 for c in moving.values()) or len(moving) > 1 or seen & moving.keys():
            return None
        seen |= moving.keys()
        begin.append(form.constant)
        end.append(form.constant + math.prod(extents[d] for d in moving))
    return Box(tuple(begin), tuple(end))


def _common(a: Box, b: Box) -> tuple[tuple[int, ...], tuple[int, ...]]:
    begin = tuple(max(x, y) for x, y in zip(a.begin, b.begin, strict=True))
    return begin, tuple(min(x, y) for x, y in zip(a.end, b.end, strict=True))
