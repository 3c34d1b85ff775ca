"""Following a dimension that keeps a part of its indices: a closure over the ties, then a check of each of them.

Sets only ever lose indices, and an index is lost only where every tie demands it, so the order of the walk does not
matter. At the end each access must reach exactly what its axis keeps; where it cannot, that is the conflict.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import LinearForm, from_linear, shorter, substitute
from loopmorph.passes.analysis.coupling.keep_set import KeepSet, product
from loopmorph.passes.analysis.coupling.pins import pin_of_access, pin_of_loop, pin_of_memref, pin_of_nest
from loopmorph.passes.analysis.coupling.program_accesses import AxisKey, ProgramAccesses
from loopmorph.passes.analysis.coupling.sums import Rescaled, is_product, pin_of_sum, rescaled
from loopmorph.passes.analysis.coupling.tied_loops import refusal
from loopmorph.passes.analysis.coupling.ties import Tie, digit_parts, span
from loopmorph.passes.analysis.roles import is_reduction, is_sliced
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.nest_text import index_text


@dataclass(frozen=True)
class Renumbering:
    """An access whose index changes: over the same loops, `exprs` is the new one."""

    nest: Nest
    access: Access
    exprs: tuple[ir.AffineExpr, ...]


@dataclass(frozen=True)
class Shrinkage:
    """What has to change for one dimension to keep a part of its indices, consistently through the whole program.

    Attributes:
        loops: the loops that shrink, with their nests and what each keeps.
        axes: the memref axes that shrink, and what each keeps.
        accesses: the accesses whose index is another over the new ranges.
        constants: the constants that count how many terms a mean has.
    """

    loops: tuple[tuple[Nest, Loop, KeepSet], ...]
    axes: tuple[tuple[ir.Value, int, KeepSet], ...]
    accesses: tuple[Renumbering, ...]
    constants: tuple[Rescaled, ...] = ()


class Propagation:
    """What the loops and axes tied to one loop keep; `follow` computes it once.

    Args:
        program: its accesses.
        nest: the nest.
        loop: the loop that the walk starts from. Where it is a reduction that indexes parameters, only these follow it.
    """

    def __init__(self, program: ProgramAccesses, nest: Nest, loop: Loop) -> None:
        self.program = program
        self.nest = nest
        self.loop = loop
        self.sliced = is_sliced(nest, loop)
        self.loops: dict[ir.Operation, tuple[Nest, Loop, KeepSet]] = {}
        self.axes: dict[AxisKey, KeepSet] = {}
        self.pending_loops: deque[tuple[Nest, Loop]] = deque()
        self.pending_axes: deque[AxisKey] = deque()

    def follow(self, keep: KeepSet) -> Shrinkage:
        """What has to change for the loop to keep `keep`.

        Raises:
            IllegalTransform: the first conflict.
        """
        pin = None if is_product(self.nest, self.loop) else pin_of_loop(self.nest, self.loop)
        if pin is not None:
            raise self._conflict(pin)
        self._keep_of_loop(self.nest, self.loop, keep)
        while self.pending_loops or self.pending_axes:
            if self.pending_loops:
                self._from_loop(*self.pending_loops.popleft())
            else:
                self._from_axis(*self.pending_axes.popleft())
        left = self._kept(self.loop)
        if left != keep:
            raise self._conflict(f"it is tied to itself at another place: of {keep} only {left} would be left")
        loops = tuple(self.loops.values())
        axes = tuple((memref, axis, kept) for (memref, axis), kept in self.axes.items())
        return Shrinkage(loops, axes, tuple(self._renumberings()), tuple(self._constants()))

    # -- the closure

    def _keep_of_loop(self, nest: Nest, loop: Loop, keep: KeepSet) -> None:
        if keep.is_whole:
            return
        op = loop.op.operation
        if op not in self.loops:
            pin = pin_of_nest(nest)
            if pin is not None:
                raise self._conflict(f"iterator '{loop.iterator}' of {nest.label}: {pin}")
            pin = pin_of_sum(nest, loop, self.program.accesses)
            if pin is not None:
                raise self._conflict(pin)
        known = self._kept(loop)
        both = known & keep
        if not both.size:
            raise self._conflict(f"nothing would be left of iterator '{loop.iterator}' of {nest.label}")
        if both != known:
            self.loops[op] = (nest, loop, both)
            self.pending_loops.append((nest, loop))

    def _keep_of_axis(self, memref: ir.Value, axis: int, keep: KeepSet, via: Nest) -> None:
        if keep.is_whole:
            return
        if (memref, axis) not in self.axes:
            pin = pin_of_memref(memref, self.program.accesses, via)
            if pin is not None:
                raise self._conflict(pin)
        known = self.axes.get((memref, axis), KeepSet.whole(keep.extent))
        both = known & keep
        if both != known:
            self.axes[memref, axis] = both
            self.pending_axes.append((memref, axis))

    def _from_loop(self, nest: Nest, loop: Loop) -> None:
        for access, axis in self._followed_uses(nest, loop):
            relation = self.program.tie(nest, access, axis)
            extent = _extent(access, axis)
            if relation.kind == "other":
                raise self._conflict(pin_of_access(nest, access, axis))
            if relation.kind in ("digits", "slice"):
                reached = product([self._kept(nest.loops[p]) for p in relation.loops])
                self._keep_of_axis(access.memref, axis, reached.placed(relation.offset, extent), nest)
            elif (parts := digit_parts(relation, loop, extent)) is not None:
                self._keep_of_axis(access.memref, axis, self._kept(loop).projections(parts)[1], nest)

    def _from_axis(self, memref: ir.Value, axis: int) -> None:
        keep = self.axes[memref, axis]
        for nest, access in self.program.accesses[memref]:
            relation = self.program.tie(nest, access, axis)
            if relation.kind in ("digits", "slice"):
                extents = [nest.loops[p].extent or 1 for p in relation.loops]
                part = keep.part(relation.offset, relation.offset + span(nest, relation.loops))
                for position, digit in zip(relation.loops, part.projections(extents), strict=True):
                    self._keep_of_loop(nest, nest.loops[position], digit)
                continue
            loop = nest.loops[relation.loops[0]] if relation.loops else None
            parts = None if loop is None else digit_parts(relation, loop, keep.extent)
            if loop is None or parts is None:
                raise self._conflict(pin_of_access(nest, access, axis))
            above, _, below = parts
            self._keep_of_loop(nest, loop, product([KeepSet.whole(above), keep, KeepSet.whole(below)]))

    def _followed_uses(self, nest: Nest, loop: Loop) -> list[tuple[Access, int]]:
        start = loop.op.operation == self.loop.op.operation
        return self.program.uses_of(nest, loop, parameters_only=start and self.sliced)

    # -- the check and the new indices

    def _renumberings(self) -> list[Renumbering]:
        affected = {nest.root.operation: nest for nest, _, _ in self.loops.values()}
        uses = self.program.accesses
        affected.update({nest.root.operation: nest for memref, _ in self.axes for nest, _ in uses[memref]})
        found = []
        for nest in affected.values():
            pin = pin_of_nest(nest)
            if pin is not None:
                raise self._conflict(f"{nest.label}: {pin}")
            for access in nest.accesses:
                exprs = tuple(self._renumbered(nest, access, axis) for axis in range(len(access.exprs)))
                if exprs != access.exprs:
                    found.append(Renumbering(nest, access, exprs))
        return found

    def _renumbered(self, nest: Nest, access: Access, axis: int) -> ir.AffineExpr:
        """The index over the new ranges.

        Raises:
            IllegalTransform: what the access reaches is not what the axis keeps.
        """
        relation = self.program.tie(nest, access, axis)
        changed = [p for p in relation.loops if not self._kept(nest.loops[p]).is_whole]
        keep = self.axes.get((access.memref, axis))
        if keep is None and not changed:
            return access.exprs[axis]
        if keep is None and self._is_slice_read(nest, access, changed):
            return self._read_at_old_index(nest, access, axis, changed)
        if relation.kind in ("digits", "slice"):
            return self._renumbered_digits(nest, access, axis, relation, changed)
        new = self._renumbered_digit(nest, access, axis, relation, keep)
        if new is None:
            raise self._conflict(self._unreached(nest, access, axis, keep))
        return new

    def _renumbered_digits(
        self, nest: Nest, access: Access, axis: int, relation: Tie, changed: list[int]
    ) -> ir.AffineExpr:
        extent = _extent(access, axis)
        keep = self.axes.get((access.memref, axis), KeepSet.whole(extent))
        if len(changed) > 1:
            names = " and ".join(nest.loops[p].iterator for p in changed)
            raise self._conflict(f"the iterators {names} of {nest.label} would both have to shrink")
        reached = product([self._kept(nest.loops[p]) for p in relation.loops])
        if reached != keep.part(relation.offset, relation.offset + reached.extent):
            raise self._conflict(self._unreached(nest, access, axis, keep))
        coefficients: dict[int, int] = {}
        weight = 1
        for position in reversed(relation.loops):
            coefficients[position] = weight
            weight *= self._kept(nest.loops[position]).size
        single = len(relation.loops) == 1 and relation.kind == "digits"
        return access.exprs[axis] if single else from_linear(LinearForm(coefficients, keep.below(relation.offset)))

    def _renumbered_digit(
        self, nest: Nest, access: Access, axis: int, relation: Tie, keep: KeepSet | None
    ) -> ir.AffineExpr | None:
        """The index by one digit of an iterator; None where what is kept are not all numbers of some digits."""
        extent = _extent(access, axis)
        loop = nest.loops[relation.loops[0]] if relation.loops else None
        radix = None if loop is None else self._radix(nest, loop)
        if loop is None or radix is None or (relation.below, extent) not in radix:
            return None
        kept = self._kept(loop)
        digits = kept.projections([extent for _, extent in radix])
        own = radix.index((relation.below, extent))
        if kept != product(digits) or digits[own] != (keep or KeepSet.whole(extent)):
            return None
        below = math.prod(digit.size for digit in digits[own + 1 :])
        if (below, digits[own].size) == (relation.below, extent):
            return access.exprs[axis]
        index = ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(loop.position), ir.AffineExpr.get_constant(below))
        return index if own == 0 else ir.AffineExpr.get_mod(index, ir.AffineExpr.get_constant(digits[own].size))

    def _radix(self, nest: Nest, loop: Loop) -> list[tuple[int, int]] | None:
        """The digits that the nest's accesses take of an iterator, as (iterations of one value, extent), most
        significant first; None where they do not go together."""
        found = {(1, 0)}
        for access, axis in self.program.uses_of(nest, loop):
            relation = self.program.tie(nest, access, axis)
            if relation.kind in ("leading", "trailing"):
                found.add((relation.below, _extent(access, axis)))
        radix, above = [], loop.extent or 0
        for below in sorted({below for below, _ in found}, reverse=True):
            if not below or above % below:
                return None
            radix.append((below, above // below))
            above = below
        return radix if all(digit in radix for digit in found if digit[1]) else None

    def _constants(self) -> list[Rescaled]:
        sums = {nest.root.operation: nest for nest, loop, _ in self.loops.values() if is_reduction(nest, loop.position)}
        uses = self.program.accesses
        found = [each for n in sums.values() for each in rescaled(n, uses, lambda loop: self._kept(loop).size)]
        return list({(each.op, each.operand): each for each in found}.values())

    def _is_slice_read(self, nest: Nest, access: Access, changed: list[int]) -> bool:
        """Whether the loop that the walk started from reads a slice of an activation here."""
        start = any(nest.loops[p].op.operation == self.loop.op.operation for p in changed)
        return self.sliced and start and marks.parameter_name(access.memref) is None

    def _read_at_old_index(self, nest: Nest, access: Access, axis: int, changed: list[int]) -> ir.AffineExpr:
        replacement: dict[int, ir.AffineExpr] = {}
        for position in changed:
            old = self._kept(nest.loops[position]).expression(ir.AffineExpr.get_dim(position))
            if old is None:
                raise self._conflict(self._unreached(nest, access, axis, self._kept(nest.loops[position])))
            replacement[position] = old
        return shorter(substitute(access.exprs[axis], replacement, len(nest.loops)), len(nest.loops))

    def _kept(self, loop: Loop) -> KeepSet:
        op = loop.op.operation
        return self.loops[op][2] if op in self.loops else KeepSet.whole(loop.extent or 0)

    # -- what is said of a conflict

    def _conflict(self, reason: str) -> IllegalTransform:
        return refusal(self.program, self.nest, self.loop, reason)

    def _unreached(self, nest: Nest, access: Access, axis: int, keep: KeepSet | None) -> str:
        text = index_text(access.exprs[axis], nest.iterators)
        verb = "writes" if access.kind == "store" else "reads"
        whole = keep if keep is not None else KeepSet.whole(_extent(access, axis))
        return f"{nest.label} {verb} the tied dimension of extent {whole.extent} at '{text}' and cannot keep {whole}"


def _extent(access: Access, axis: int) -> int:
    return ir.MemRefType(access.memref.type).shape[axis]
