"""Renaming the indices of a tied dimension, so that the nests of the whole program stay as they are.

At iteration i each nest is to compute what it computed at iteration s(i), where s renames its iterations, and each
axis of a memref holds at index k what it held at index r(k). That fits where, for every access with index e,

    e(s(i)) = r(e(i))    for all i.

The walk proposes s and r: from a loop to the axes that it indexes, from an axis to the loops that make up its indices
(see `ties`). What nothing determines stays: where groups trade places, the channels within each of them. The check then
holds every access to the equation, whatever its index is, so that the walk need not know of all of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from loopmorph.passes.affine_expr import evaluate, used_dims
from loopmorph.passes.analysis.coupling.pins import pin_of_access, pin_of_memref, pin_of_nest, pin_of_values
from loopmorph.passes.analysis.coupling.program_accesses import AxisKey, ProgramAccesses
from loopmorph.passes.analysis.coupling.tied_loops import refusal
from loopmorph.passes.analysis.dependence.dependence import renaming_violations
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.nest_text import index_text

_OPEN = -1  # in the order of an axis: not determined yet


@dataclass(frozen=True)
class _Digit:
    """The old value of an iterator: `old[i_p for p in loops]`, where i_p is the new value of loop p (ascending)."""

    loops: tuple[int, ...]
    old: np.ndarray

    @property
    def stays(self) -> bool:
        return len(self.loops) == 1 and _stays(self.old)


class Renaming:
    """What follows through a program from a loop whose index k becomes what index `order[k]` was.

    Args:
        program: its accesses.
        nest: the nest.
        loop: the loop that the walk starts from.
    """

    def __init__(self, program: ProgramAccesses, nest: Nest, loop: Loop) -> None:
        self.program = program
        self.nest = nest
        self.loop = loop
        self.digits: dict[ir.Operation, _Digit] = {}
        self.axes: dict[AxisKey, np.ndarray] = {}
        self.renamed: dict[ir.Operation, Nest] = {}
        self.pending_nests: deque[Nest] = deque()
        self.pending_axes: deque[AxisKey] = deque()

    def follow(self, order: np.ndarray) -> dict[AxisKey, np.ndarray]:
        """The new order of each memref axis that gets one: at each index the old index, int64.

        Args:
            order: a permutation of the loop's range.

        Raises:
            IllegalTransform: the first conflict: a dimension tied to the network's input or output, an access that
                reads it in order (a window), groups that the order does not respect, a nest whose iterations depend on
                each other.
        """
        self._rename_loop(self.nest, self.loop.position, _Digit((self.loop.position,), order))
        while self.pending_nests or self.pending_axes or self._settle():
            if self.pending_nests:
                self._from_nest(self.pending_nests.popleft())
            elif self.pending_axes:
                self._from_axis(*self.pending_axes.popleft())
        self._check()
        return {key: old for key, old in self.axes.items() if not _stays(old)}

    # -- the walk

    def _rename_loop(self, nest: Nest, position: int, digit: _Digit) -> None:
        loop = nest.loops[position]
        if loop.op.operation in self.digits:
            return
        if not digit.stays:
            self._require_free(nest, loop)
            self.renamed[nest.root.operation] = nest
        self.digits[loop.op.operation] = digit
        if nest.root.operation in self.renamed:
            self.pending_nests.append(nest)

    def _rename_axis(self, nest: Nest, access: Access, axis: int) -> None:
        key = (access.memref, axis)
        before = self.axes.get(key, np.full(_extent(access, axis), _OPEN))
        new, old = self._indices(nest, access, axis)
        wanted = np.full(len(before), _OPEN)
        wanted[new] = old
        if not np.array_equal(wanted[new], old):
            raise self._conflict(self._mismatch(nest, access, axis))
        after = np.where(before == _OPEN, wanted, before)
        if np.array_equal(before, after):
            return
        pin = pin_of_memref(access.memref, self.program.accesses, nest)
        if pin is not None and not _stays(after):
            raise self._conflict(pin)
        self.axes[key] = after
        if not _stays(after):
            self.pending_axes.append(key)

    def _from_nest(self, nest: Nest) -> None:
        """To the axes whose indices are made of loops that are all known."""
        for access, axis in self._renamed_uses(nest):
            if not self._open_loops(nest, access, axis):
                self._rename_axis(nest, access, axis)

    def _from_axis(self, memref: ir.Value, axis: int) -> None:
        """To the loops whose iterations an index of the axis determines."""
        order = self.axes[memref, axis]
        for nest, access in self.program.accesses[memref]:
            positions = sorted(used_dims(access.exprs[axis]))
            if self.program.tie(nest, access, axis).kind == "leading":
                (position,) = positions
                index = np.arange(nest.loops[position].extent or 0)
                inner = len(index) // len(order)
                old = order[index // inner] * inner + index % inner
                if order.min() != _OPEN:
                    self._rename_loop(nest, position, _Digit((position,), old))
                continue
            for position, digit in self._inverted(nest, access, axis, order).items():
                self._rename_loop(nest, position, digit)

    def _inverted(self, nest: Nest, access: Access, axis: int, order: np.ndarray) -> dict[int, _Digit]:
        """What the iterators of an index have to be renamed by, if each index belongs to one iteration of them."""
        positions = sorted(used_dims(access.exprs[axis]))
        extents = [nest.loops[p].extent or 0 for p in positions]
        if not 0 < math.prod(extents) <= len(order):
            return {}
        reached = np.broadcast_to(evaluate(access.exprs[axis], _grid(nest, positions)), extents).ravel()
        iteration = np.full(len(order), _OPEN)
        iteration[reached] = np.arange(len(reached))
        old = iteration[order[reached]]
        apart = np.array_equal(iteration[reached], np.arange(len(reached)))
        if not apart or order[reached].min(initial=0) == _OPEN or old.min(initial=0) == _OPEN or _stays(old):
            return {}
        return _digits(positions, extents, old)

    def _settle(self) -> bool:
        """Lets one thing that nothing determines stay as it is; whether there was any.

        First the iterators beside a renamed one, then the other slices of a concatenation.
        """
        for nest in self.renamed.values():
            for access, axis in self._renamed_uses(nest):
                for position in self._open_loops(nest, access, axis):
                    self._rename_loop(nest, position, _unchanged(nest, position))
                    return True
        for key, order in self.axes.items():
            if order.min() == _OPEN:
                self.axes[key] = np.where(order == _OPEN, np.arange(len(order)), order)
                self.pending_axes.append(key)
                return True
        return False

    def _renamed_uses(self, nest: Nest) -> list[tuple[Access, int]]:
        """The accesses of a nest, with the axis, that a renamed loop indexes."""
        moved = {loop.position for loop in nest.loops if not self._digit(nest, loop.position).stays}
        return [(a, axis) for a in nest.accesses for axis, expr in enumerate(a.exprs) if moved & used_dims(expr)]

    def _open_loops(self, nest: Nest, access: Access, axis: int) -> list[int]:
        return [p for p in sorted(used_dims(access.exprs[axis])) if nest.loops[p].op.operation not in self.digits]

    def _digit(self, nest: Nest, position: int) -> _Digit:
        return self.digits.get(nest.loops[position].op.operation) or _unchanged(nest, position)

    def _indices(self, nest: Nest, access: Access, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each iteration that tells indices of an axis apart, the new index and the old one."""
        expr = access.exprs[axis]
        new, old = self._iterations(nest, used_dims(expr))
        pair = np.broadcast_arrays(evaluate(expr, new), evaluate(expr, old))
        return pair[0].ravel(), pair[1].ravel()

    def _iterations(self, nest: Nest, positions: Iterable[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """New and old value of every iterator, on the grid of those that `positions` depend on; 0 for all others."""
        digits = {p: self._digit(nest, p) for p in positions}
        grid = sorted({q for digit in digits.values() for q in digit.loops})
        new = _grid(nest, grid)
        old = [*new]
        for position, digit in digits.items():
            shape = [nest.loops[q].extent or 0 if q in digit.loops else 1 for q in grid]
            old[position] = digit.old.reshape(shape)
        return new, old

    # -- the check

    def _require_free(self, nest: Nest, loop: Loop) -> None:
        pin = pin_of_nest(nest)
        if pin is not None:
            raise self._conflict(f"iterator '{loop.iterator}' of {nest.label}: {pin}")
        pin = pin_of_values(nest, loop)
        if pin is not None:
            raise self._conflict(pin)

    def _check(self) -> None:
        touched = {memref for (memref, _), order in self.axes.items() if not _stays(order)}
        concerned = dict(self.renamed)
        concerned.update({n.root.operation: n for memref in touched for n, _ in self.program.accesses[memref]})
        for nest in concerned.values():
            pin = pin_of_nest(nest)
            if pin is not None:
                raise self._conflict(f"{nest.label}: {pin}")
            for access in nest.accesses:
                for axis in range(len(access.exprs)):
                    self._check_access(nest, access, axis)
        for nest in self.renamed.values():
            self._check_iterations(nest)

    def _check_access(self, nest: Nest, access: Access, axis: int) -> None:
        positions = used_dims(access.exprs[axis])
        order = self.axes.get((access.memref, axis), np.arange(_extent(access, axis)))
        if _stays(order) and all(self._digit(nest, p).stays for p in positions):
            return
        new, old = self._indices(nest, access, axis)
        if not np.array_equal(order[new], old):
            raise self._conflict(self._mismatch(nest, access, axis))

    def _check_iterations(self, nest: Nest) -> None:
        """Raises:
        IllegalTransform: the iterations do not trade places one for one, or depend on each other.
        """
        moved = [loop for loop in nest.loops if not self._digit(nest, loop.position).stays]
        for positions in self._tied_loops(nest, moved):
            _, old = self._iterations(nest, positions)
            extents = [nest.loops[p].extent or 0 for p in positions]
            numbers = np.ravel_multi_index(np.broadcast_arrays(*(old[p] for p in positions)), extents)
            if len(np.unique(numbers)) != numbers.size:
                names = " and ".join(nest.loops[p].iterator for p in positions)
                raise self._conflict(f"{nest.label} would run iterations of {names} twice and leave out others")
        violated = next(renaming_violations(nest, moved), None)
        if violated is not None:
            raise self._conflict(f"{nest.label} goes through it in order: {violated.describe(nest)}")

    def _tied_loops(self, nest: Nest, moved: Sequence[Loop]) -> list[list[int]]:
        """The loops, by position, in groups whose old values depend on each other's new ones alone.

        Groups trade places on their own: a nest of many parts has as many, and no grid could hold all of them.
        """
        groups: list[set[int]] = []
        for loop in moved:
            group = {loop.position, *self._digit(nest, loop.position).loops}
            shared = [other for other in groups if other & group]
            groups = [other for other in groups if not other & group] + [group.union(*shared)]
        return [sorted(group) for group in groups]

    # -- what is said of a conflict

    def _conflict(self, reason: str) -> IllegalTransform:
        return refusal(self.program, self.nest, self.loop, reason)

    def _mismatch(self, nest: Nest, access: Access, axis: int) -> str:
        access, axis = self._cause(nest, access, axis)
        relation = self.program.tie(nest, access, axis)
        if relation.kind == "other":
            return pin_of_access(nest, access, axis)
        verb = "writes" if access.kind == "store" else "reads"
        what = f"the tied dimension of extent {_extent(access, axis)}"
        where = f"{nest.label} {verb} {what} at '{index_text(access.exprs[axis], nest.iterators)}'"
        if relation.kind == "slice":
            return f"{where}: the indices of a slice have to stay within it"
        if relation.kind == "digits" and len(relation.loops) == 1:
            return f"{where}, which another access ties to it in another order"
        return f"{where}: only whole blocks may trade places, and the same indices within all of them"

    def _cause(self, nest: Nest, access: Access, axis: int) -> tuple[Access, int]:
        """The index that mixed the iterators of another one with its own; that one where none did."""
        own = used_dims(access.exprs[axis])
        mixed = [loops for p in own if not own.issuperset(loops := self._digit(nest, p).loops)]
        indices = [
            (a, k)
            for a in nest.accesses
            for k, expr in enumerate(a.exprs)
            if mixed and used_dims(expr).issuperset(mixed[0])
        ]
        return indices[0] if indices else (access, axis)


def _grid(nest: Nest, positions: Sequence[int]) -> list[np.ndarray]:
    """The value of every iterator on the grid of some of them, one axis for each; 0 for all others."""
    values: list[np.ndarray] = [np.zeros([1] * len(positions), dtype=np.int64)] * len(nest.loops)
    for k, position in enumerate(positions):
        shape = [-1 if j == k else 1 for j in range(len(positions))]
        values[position] = np.arange(nest.loops[position].extent or 0).reshape(shape)
    return values


def _digits(positions: Sequence[int], extents: Sequence[int], old: np.ndarray) -> dict[int, _Digit]:
    """The old value of each of some iterators, ascending, from the row-major number of their old iteration."""
    found = {}
    for position, values in zip(positions, np.unravel_index(old, extents), strict=True):
        loops = list(positions)
        grid: np.ndarray = values.reshape(extents)
        for k in reversed(range(len(loops))):
            first = grid.take([0], axis=k)
            if loops[k] != position and np.array_equal(np.broadcast_to(first, grid.shape), grid):
                grid = grid.take(0, axis=k)
                del loops[k]
        found[position] = _Digit(tuple(loops), grid)
    return found


def _unchanged(nest: Nest, position: int) -> _Digit:
    return _Digit((position,), np.arange(nest.loops[position].extent or 0))


def _stays(order: np.ndarray | Sequence[int]) -> bool:
    """Whether each index that is determined is its own old one."""
    index = np.arange(len(order))
    return bool(np.all((order == index) | (order == _OPEN)))


def _extent(access: Access, axis: int) -> int:
    return ir.MemRefType(access.memref.type).shape[axis]
