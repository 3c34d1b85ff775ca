"""Which index of a loop each index of the memref axes tied to it stands for.

The walk goes through a change that has been found possible (a `Shrinkage`), along the loops and axes that it concerns,
and carries along, for each index of what it meets, the index of the first loop. Where two iterators make up an axis
(`g * 16 + c`), they are followed together, so that the groups are told apart as far as the accesses tell them apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

import numpy as np
from torch_mlir import ir

from loopmorph.passes.analysis.coupling.program_accesses import AxisKey, ProgramAccesses
from loopmorph.passes.analysis.coupling.propagation import Shrinkage
from loopmorph.passes.analysis.coupling.ties import Tie, digit_parts, span
from loopmorph.passes.nest import Loop, Nest

NONE = -1
_Rows = np.ndarray  # row r, column i: an index of the first loop that index i stands for, or NONE


def class_indices(program: ProgramAccesses, plan: Shrinkage, nest: Nest, loop: Loop) -> dict[AxisKey, np.ndarray]:
    """For each memref axis of a change, the index of the loop that each of its own indices stands for.

    Args:
        program: its accesses.
        plan: what follows when `loop` keeps a part of its indices.
        nest: the nest.
        loop: its loop that the change begins with.

    Returns:
        Arrays of int, (rows, extent of the axis); -1 where an index stands for none, since it is another slice of a
        concatenation. An axis has several rows where its indices stand for several of the loop: one for each group.
    """
    walk = _Walk(program, plan)
    walk.reach_loops(nest, (loop.position,), np.arange(loop.extent or 0)[None])
    while walk.pending:
        walk.go_on(*walk.pending.popleft())
    return walk.axes


class _Walk:
    def __init__(self, program: ProgramAccesses, plan: Shrinkage) -> None:
        self.program = program
        self.changed: Collection[ir.Operation] = {loop.op.operation for _, loop, _ in plan.loops}
        self.concerned: Collection[AxisKey] = {(memref, axis) for memref, axis, _ in plan.axes}
        self.axes: dict[AxisKey, _Rows] = {}
        self.loops: dict[tuple[ir.Operation, tuple[int, ...]], _Rows] = {}
        self.pending: deque[AxisKey] = deque()

    def go_on(self, memref: ir.Value, axis: int) -> None:
        """From an axis to the loops that index it."""
        rows = self.axes[memref, axis]
        for nest, access in self.program.accesses[memref]:
            relation = self.program.tie(nest, access, axis)
            if relation.kind in ("digits", "slice"):
                self.reach_loops(nest, relation.loops, rows[:, relation.offset :][:, : span(nest, relation.loops)])
            elif relation.loops and (parts := digit_parts(relation, nest.loops[relation.loops[0]], rows.shape[1])):
                above, _, below = parts
                self.reach_loops(nest, relation.loops, np.tile(np.repeat(rows, below, axis=1), above))

    def reach_loops(self, nest: Nest, loops: tuple[int, ...], rows: _Rows) -> None:
        """From the loops that make up an index to the other axes that those of them index that change."""
        key = (nest.root.operation, loops)
        added = _united(self.loops.get(key), rows[(rows != NONE).any(axis=1)])
        if added is None:
            return
        self.loops[key] = added
        changed = {p for p in loops if nest.loops[p].op.operation in self.changed}
        for access in nest.accesses:
            for axis in range(len(access.exprs)):
                relation = self.program.tie(nest, access, axis)
                if changed.intersection(relation.loops) and (access.memref, axis) in self.concerned:
                    self._reach_axis(access.memref, axis, _of_index(nest, loops, added, relation), relation)

    def _reach_axis(self, memref: ir.Value, axis: int, rows: _Rows, relation: Tie) -> None:
        extent = ir.MemRefType(memref.type).shape[axis]
        if relation.kind in ("leading", "trailing"):
            above = rows.shape[1] // (extent * relation.below)
            rows = rows.reshape(len(rows), above, extent, relation.below)[..., 0].reshape(-1, extent)
        whole = np.full((len(rows), extent), NONE)
        whole[:, relation.offset : relation.offset + rows.shape[1]] = rows
        added = _united(self.axes.get((memref, axis)), whole)
        if added is not None:
            self.axes[memref, axis] = added
            self.pending.append((memref, axis))


def _of_index(nest: Nest, loops: Sequence[int], rows: _Rows, relation: Tie) -> _Rows:
    """The rows of an index over the loops of `relation`, from those of an index over `loops`.

    Iterators that only the old index has give more rows; what only the new one has makes no difference.
    """
    extents = [nest.loops[p].extent or 1 for p in loops]
    grid = rows.reshape(len(rows), *extents)
    left = [k for k, p in enumerate(loops) if p not in relation.loops]
    shared = [loops.index(p) for p in relation.loops if p in loops]
    grid = grid.transpose(0, *(1 + k for k in left), *(1 + k for k in shared))
    grid = grid.reshape(-1, *((nest.loops[p].extent or 1) if p in loops else 1 for p in relation.loops))
    full = np.broadcast_to(grid, (len(grid), *(nest.loops[p].extent or 1 for p in relation.loops)))
    return full.reshape(len(grid), -1)


def _united(known: _Rows | None, rows: _Rows) -> _Rows | None:
    """The rows that are known and the new ones, in order; None where there is no new one."""
    if not len(rows):
        return None
    found = np.unique(rows if known is None else np.concatenate([known, rows]), axis=0)
    return None if known is not None and len(found) == len(known) else found
