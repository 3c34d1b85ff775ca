"""Merging the indices of a tied dimension: which of them become one, and what that makes of each parameter.

With a factor b every segment of the dimension (all of it, a block of a group, a slice of a concatenation) is cut into
b parts; the k-th indices of all parts become one. The program keeps the loops and shapes that it has when only the
first parts stay; but each parameter takes the mean of its merged elements or, along a dimension that its nest sums
over, their sum: if the merged channels were equal, every layer computes what it computed before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.coupling.coupling import Coupling
from loopmorph.passes.analysis.coupling.keep_set import KeepSet
from loopmorph.passes.analysis.coupling.program_accesses import AxisKey, ProgramAccesses
from loopmorph.passes.analysis.coupling.propagation import Shrinkage
from loopmorph.passes.analysis.coupling.segments import shares
from loopmorph.passes.analysis.roles import is_reduction, is_window
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Loop, Nest


@dataclass(frozen=True)
class Merging:
    """What has to change for the indices of a dimension to be merged.

    Attributes:
        parts: for each part what would change if only that one stayed. Loops and accesses become those of the first.
        summed: the axes of parameters along which the merged elements are added; along others their mean is taken.
    """

    parts: tuple[Shrinkage, ...]
    summed: frozenset[AxisKey]


def merge(program: Coupling, nest: Nest, loop: Loop, factor: int) -> Merging:
    """Follows through the program that `factor` indices of `loop` become one.

    Raises:
        IllegalTransform: as for `Coupling.shrink`; a window, whose taps are not alike; a parameter whose axis is summed
            over in one place and indexes results in another.
    """
    if is_window(nest, loop.position):
        reason = "its taps see different places, so that their mean has no meaning"
        raise IllegalTransform(f"{nest.label}, iterator '{loop.iterator}'", reason)
    heads = shares(program, nest, loop, factor).intervals
    parts = [[(b + k * (e - b), e + k * (e - b)) for b, e in heads] for k in range(factor)]
    kept = tuple(program.keep(nest, loop, intervals) for intervals in parts)
    return Merging(kept, summed_axes(program, kept[0]))


def kept_axes(plan: Shrinkage) -> dict[ir.Value, list[KeepSet]]:
    """What each memref that shrinks keeps of each of its axes."""
    keeps: dict[ir.Value, list[KeepSet]] = {}
    for memref, axis, kept in plan.axes:
        whole = [KeepSet.whole(extent) for extent in ir.MemRefType(memref.type).shape]
        keeps.setdefault(memref, whole)[axis] = kept
    return keeps


def summed_axes(program: ProgramAccesses, plan: Shrinkage) -> frozenset[AxisKey]:
    """Those of the shrinking axes of parameters that are summed over where they are read: a reader's `ci`.

    A parameter that is only rearranged first (packed, transformed) is read where the result is.

    Raises:
        IllegalTransform: an axis that is summed over in one place and indexes results in another.
    """
    roles = _Roles(program, {loop.op.operation for _, loop, _ in plan.loops})
    found = set()
    for memref, axis, _ in plan.axes:
        name = marks.parameter_name(memref)
        if name is None:
            continue
        summed = roles.of(memref, axis, set())
        if len(summed) > 1:
            reason = f"its axis {axis} is summed over in one place and indexes results in another"
            raise IllegalTransform(f"parameter '{name}'", f"{reason}, so that no mean fits both")
        if summed == {True}:
            found.add((memref, axis))
    return frozenset(found)


class _Roles:
    """How axes are used: is it summed over? `loops` are those that the change concerns."""

    def __init__(self, program: ProgramAccesses, loops: Collection[ir.Operation]) -> None:
        self.program = program
        self.loops = loops

    def of(self, memref: ir.Value, axis: int, seen: set[AxisKey]) -> set[bool]:
        """True: a nest sums over the axis; False: it indexes a result of one. `seen` are not looked at again."""
        seen.add((memref, axis))
        found: set[bool] = set()
        for nest, access in self.program.accesses[memref]:
            if access.kind == "store":
                continue
            moved = [p for p in used_dims(access.exprs[axis]) if nest.loops[p].op.operation in self.loops]
            for position in moved:
                if is_reduction(nest, position):
                    found.add(True)
                elif self._rearranges(nest):
                    for key in self._stored(nest, position):
                        found |= self.of(*key, seen) if key not in seen else set()
                else:
                    found.add(False)
        return found

    def _stored(self, nest: Nest, position: int) -> Iterable[AxisKey]:
        for store in nest.stores:
            for axis, expr in enumerate(store.exprs):
                if position in used_dims(expr):
                    yield store.memref, axis

    def _rearranges(self, nest: Nest) -> bool:
        """Whether the nest reads parameters alone, or what such nests have made of them, through however many."""
        left, seen = [load.memref for load in nest.loads], set[ir.Value]()
        while left:
            memref = left.pop()
            if memref in seen or marks.parameter_name(memref) is not None:
                continue
            if isinstance(memref, ir.BlockArgument):
                return False
            seen.add(memref)
            writers = [writer for writer, access in self.program.accesses[memref] if access.kind == "store"]
            left += [load.memref for writer in writers for load in writer.loads]
        return True
