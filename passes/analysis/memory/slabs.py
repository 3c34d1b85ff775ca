"""Which part of a memref each thread touches when the iterations of one loop are cut into contiguous chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch_mlir import ir

from loopmorph.passes.affine_expr import LinearForm, linear_form
from loopmorph.passes.analysis.bounds import constants, known_limits
from loopmorph.passes.nest import Access, Loop, Nest


@dataclass(frozen=True)
class Spread:
    """An axis of a memref along which each iteration of a loop has elements of its own.

    Iteration `i` touches elements `stride * i + low` to `stride * i + high`, both included, of this axis and no others;
    `high - low < stride`.
    """

    axis: int
    stride: int
    low: int
    high: int


@dataclass(frozen=True)
class Slabs:
    """For each thread the elements, both ends included, that it touches along one axis; (0, -1) for none."""

    axis: int
    ranges: tuple[tuple[int, int], ...]

    def apart(self, other: Slabs) -> bool:
        """Whether no two different threads touch the same element, one by `self` and one by `other`."""
        pairs = [(a, b) for t, a in enumerate(self.ranges) for u, b in enumerate(other.ranges) if t != u]
        return self.axis == other.axis and all(max(a[0], b[0]) > min(a[1], b[1]) for a, b in pairs)


def chunk_ends(extent: int, threads: int) -> list[int]:
    """Where the chunks of `extent` iterations begin, and the end; the lengths differ by at most one."""
    return [extent * t // threads for t in range(threads + 1)]


def spread(nest: Nest, loop: Loop, accesses: Sequence[Access]) -> Spread | None:
    """How the iterations of `loop` spread over the one memref of `accesses`; None where no axis separates them."""
    if any(loop.position not in a.loops for a in accesses):
        return None
    limits = known_limits(nest)
    spans = [limits.get(other.variable) for other in nest.loops]
    for axis in range(len(accesses[0].exprs)):
        found = _along(axis, loop, accesses, spans)
        if found is not None:
            return found
    return None


def slabs(nest: Nest, loop: Loop, accesses: Sequence[Access], threads: int) -> Slabs | None:
    """The parts of the one memref of `accesses` when `loop`, of constant bounds, is cut into chunks."""
    found, bounds = spread(nest, loop, accesses), nest.bounds(loop)
    lower = constants(bounds.lower)
    if found is None or loop.extent is None or len(lower) != 1:
        return None
    ends = chunk_ends(loop.extent, threads)
    ranges = []
    for begin, end in pairwise(ends):
        first, last = (lower[0] + bounds.step * k for k in (begin, end - 1))
        empty = begin == end
        ranges.append((0, -1) if empty else (found.stride * first + found.low, found.stride * last + found.high))
    return Slabs(found.axis, tuple(ranges))


def by_memref(accesses: Sequence[Access]) -> dict[ir.Value, list[Access]]:
    """The accesses of each memref."""
    groups: dict[ir.Value, list[Access]] = {}
    for access in accesses:
        groups.setdefault(access.memref, []).append(access)
    return groups


def _along(axis: int, loop: Loop, accesses: Sequence[Access], spans: Sequence[int | None]) -> Spread | None:
    strides: set[int] = set()
    lows, highs = [], []
    for access in accesses:
        form = linear_form(access.exprs[axis])
        reach = None if form is None else _reach(form, loop.position, spans)
        if form is None or reach is None:
            return None
        strides.add(form.coefficients.get(loop.position, 0))
        lows.append(reach[0])
        highs.append(reach[1] + (access.lanes - 1 if axis == len(access.exprs) - 1 else 0))
    stride, low, high = strides.pop(), min(lows), max(highs)
    return Spread(axis, stride, low, high) if not strides and high - low < stride else None


def _reach(form: LinearForm, position: int, spans: Sequence[int | None]) -> tuple[int, int] | None:
    """Smallest and largest value of a linear form without its term in the iterator at `position`."""
    low = high = form.constant
    for d, coefficient in form.coefficients.items():
        span = spans[d]
        if d == position:
            continue
        if span is None:
            return None
        end = coefficient * (span - 1)
        low, high = low + min(0, end), high + max(0, end)
    return low, high
