"""Which part of a dimension a division by a factor keeps: the segments of which each keeps its share.

A dimension that a grouped nest indexes as `g * 16 + c` is made of blocks, one that is a concatenation of slices. The
walk goes from the loop to all that is tied to the whole of its range and carries along, for each index of what it
meets, the index of the loop that it stands for; so it learns where, in the loop's own range, segments begin.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TypeVar

import numpy as np
from torch_mlir import ir

from loopmorph.passes.analysis.coupling.keep_set import KeepSet, cut_shares
from loopmorph.passes.analysis.coupling.pins import pin_of_memref, pin_of_nest
from loopmorph.passes.analysis.coupling.program_accesses import AxisKey, ProgramAccesses
from loopmorph.passes.analysis.coupling.ties import Tie, digit_parts, span
from loopmorph.passes.analysis.roles import is_reduction, is_window
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest

# Row r, column i: an index of the loop that index i of a dimension stands for; one row for each block of its own.
_Origins = np.ndarray
_Key = TypeVar("_Key")


def shares(program: ProgramAccesses, nest: Nest, loop: Loop, factor: int) -> KeepSet:
    """One of `factor` parts of each segment of the loop's range: the central one of a window, else the first.

    Raises:
        IllegalTransform: an extent tied to the loop's, or a segment, is not divisible by the factor.
    """
    walk = _Walk(program, nest, loop, factor)
    walk.run()
    extent = loop.extent or 0
    bounds = [*sorted(walk.cuts), extent]
    for begin, end in pairwise(bounds):
        if (end - begin) % factor:
            reason = f"its dimension is in parts, and the part {begin}..{end - 1} is not divisible by {factor}"
            raise IllegalTransform(walk.subject, reason)
    return cut_shares(extent, walk.cuts, factor, central=is_window(nest, loop.position))


class _Walk:
    def __init__(self, program: ProgramAccesses, nest: Nest, loop: Loop, factor: int) -> None:
        self.program = program
        self.nest = nest
        self.loop = loop
        self.factor = factor
        self.subject = f"{nest.label}, iterator '{loop.iterator}'"
        self.cuts: set[int] = {0}
        self.loops: dict[ir.Operation, _Origins] = {}
        self.axes: dict[AxisKey, _Origins] = {}
        self.pending_loops: deque[tuple[Nest, Loop]] = deque()
        self.pending_axes: deque[AxisKey] = deque()

    def run(self) -> None:
        self._reach_loop(self.nest, self.loop, np.arange(self.loop.extent or 0)[None])
        while self.pending_loops or self.pending_axes:
            if self.pending_loops:
                self._from_loop(*self.pending_loops.popleft())
            else:
                self._from_axis(*self.pending_axes.popleft())

    def _reach_loop(self, nest: Nest, loop: Loop, origins: _Origins) -> None:
        self._check(nest, loop)
        if _added(self.loops, loop.op.operation, origins):
            self.pending_loops.append((nest, loop))

    def _reach_axis(self, memref: ir.Value, axis: int, origins: _Origins, via: Nest) -> None:
        fixed = pin_of_memref(memref, self.program.accesses, via) is not None
        if not fixed and _added(self.axes, (memref, axis), origins):
            self.pending_axes.append((memref, axis))

    def _check(self, nest: Nest, loop: Loop) -> None:
        where = f"iterator '{loop.iterator}' of {nest.label}"
        pin = pin_of_nest(nest)
        if pin is not None:
            raise IllegalTransform(self.subject, f"{where}: {pin}")
        if loop.extent is None or loop.extent % self.factor:
            reason = f"the extent {loop.extent} of {where} is not divisible by {self.factor}"
            raise IllegalTransform(self.subject, reason)

    def _from_loop(self, nest: Nest, loop: Loop) -> None:
        origins = self.loops[loop.op.operation]
        start = loop.op.operation == self.loop.op.operation
        sliced = start and is_reduction(nest, loop.position)
        for access, axis in self.program.uses_of(nest, loop, parameters_only=sliced):
            relation = self.program.tie(nest, access, axis)
            extent = ir.MemRefType(access.memref.type).shape[axis]
            if relation.kind == "digits":
                inner = span(nest, relation.loops[relation.loops.index(loop.position) + 1 :])
                digit = np.arange(extent) // inner % (loop.extent or 1)
                self._reach_axis(access.memref, axis, origins[:, digit], nest)
            elif (parts := digit_parts(relation, loop, extent)) is not None:
                grid = origins.reshape(len(origins), *parts)
                digit = grid[:, :1, :, :1]
                alone = relation.kind == "leading" or (grid == digit).all()
                if alone and (digit != digit[:, :, :1]).any():  # the digit tells the loop's indices apart
                    self._reach_axis(access.memref, axis, digit.reshape(-1, extent), nest)

    def _from_axis(self, memref: ir.Value, axis: int) -> None:
        origins = self.axes[memref, axis]
        for nest, access in self.program.accesses[memref]:
            relation = self.program.tie(nest, access, axis)
            if relation.kind in ("digits", "slice"):
                self._to_digits(nest, access, relation, origins)
            elif relation.kind == "leading":
                (position,) = relation.loops
                times = (nest.loops[position].extent or 1) // origins.shape[1]
                self._reach_loop(nest, nest.loops[position], np.repeat(origins, times, axis=1))
            elif relation.kind == "trailing":
                loop = nest.loops[relation.loops[0]]
                parts = digit_parts(relation, loop, origins.shape[1])
                if parts is not None:
                    above, _, below = parts
                    grid = np.tile(np.repeat(origins, below, axis=1), above)
                    self._reach_loop(nest, loop, grid)

    def _to_digits(self, nest: Nest, access: Access, relation: Tie, origins: _Origins) -> None:
        covered = span(nest, relation.loops)
        end = relation.offset + covered
        if relation.kind == "slice":
            self._cut(origins, [relation.offset, *([end] if end < origins.shape[1] else [])])
        slice_ = origins[:, relation.offset : end]
        changed = [p for p in relation.loops if nest.loops[p].op.operation in self.loops]
        position = changed[0] if changed else self._digit_to_shrink(nest, relation)
        outer, extent = relation.loops[: relation.loops.index(position)], nest.loops[position].extent or 1
        blocks = span(nest, outer)
        self._cut(slice_, list(range(0, covered, covered // blocks)))
        grid = slice_.reshape(len(slice_), blocks, extent, -1)[..., 0]
        self._reach_loop(nest, nest.loops[position], grid.reshape(-1, extent))

    def _digit_to_shrink(self, nest: Nest, relation: Tie) -> int:
        """The innermost digit that the factor divides: the channels of a group before the groups."""
        for position in reversed(relation.loops):
            if (nest.loops[position].extent or 1) % self.factor == 0:
                return position
        sizes = " x ".join(str(nest.loops[p].extent) for p in relation.loops)
        names = " x ".join(nest.loops[p].iterator for p in relation.loops)
        reason = f"the extent {sizes} of {names} in {nest.label} is not divisible by {self.factor}"
        raise IllegalTransform(self.subject, reason)

    def _cut(self, origins: _Origins, places: list[int]) -> None:
        """Notes where segments begin; within one index of the loop (of a flattened map) there is nothing to cut."""
        for place in places:
            column = origins[:, place]
            self.cuts.update(column[column != origins[:, place - 1]].tolist() if place else column.tolist())


def _added(known: dict[_Key, _Origins], key: _Key, origins: _Origins) -> bool:
    """Adds rows of origins to those known of a dimension; whether any is new."""
    rows = _distinct(origins)
    if key in known:
        rows = _distinct(np.concatenate([known[key], rows]))
        if len(rows) == len(known[key]):
            return False
    known[key] = rows
    return True


def _distinct(rows: _Origins) -> _Origins:
    """`np.unique(rows, axis=0)`, which takes long for the one row, or the two alike, that there mostly are."""
    if (rows == rows[:1]).all():
        return rows[:1]
    return np.unique(rows, axis=0)
