"""`morph-fuse-nests`: the nests of a layer in one, iteration by iteration of the loops that they share (fusion)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.dependence.aliasing import may_alias
from loopmorph.passes.analysis.dependence.known_operations import require_known_operations
from loopmorph.passes.analysis.memory.dataflow import effects, outermost
from loopmorph.passes.analysis.memory.iterations_apart import are_apart, number_of, own_axis
from loopmorph.passes.analysis.memory.memref_uses import describe, in_order, is_before
from loopmorph.passes.analysis.structure import body_of, perfect_band
from loopmorph.passes.building.arrange import require_normal
from loopmorph.passes.building.nest_builder import rewrite_access
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.parallelize import parallel_loop
from loopmorph.passes.nest import Nest, view_nest
from loopmorph.passes.transformation import Kind, NestTransformation, Scope


@dataclass(frozen=True)
class FuseNestsPlan:
    """What becomes one nest.

    Attributes:
        nest: the main nest, whose loops stay.
        members: it and the others, in program order.
        count: the number of loops that they have in common.
        shrunk: memrefs between the nests, each with the axis that counts the iterations.
    """

    nest: Nest
    members: tuple[Nest, ...]
    count: int
    shrunk: Mapping[ir.Value, int]


@dataclass(frozen=True)
class FuseNests(NestTransformation[FuseNestsPlan]):
    """Fuses nests that hand memrefs of their own to each other: `morph-fuse-nests{layer=conv1 iters=n}`.

        affine.for %n = 0 to 8 {                                   affine.for %n = 0 to 8 {
          affine.for %c = 0 to 16 {                                  affine.for %c = 0 to 16 {
            affine.store %a, %t[%n, %c]                                affine.store %a, %t[%c]
          } {morph.iter = "c"}                                       } {morph.iter = "c"}
        } {morph.iter = "n", morph.layer = "conv1"}        ->        affine.for %k = 0 to 16 {
        affine.for %n = 0 to 8 {                                       %b = affine.load %t[%k]
          affine.for %c = 0 to 16 {                                    affine.store %b, %y[%n, %k]
            %b = affine.load %t[%n, %c]                              } {morph.iter = "c_2"}
            affine.store %b, %y[%n, %c]                            } {morph.iter = "n", morph.layer = "conv1"}
          } {morph.iter = "c"}
        } {morph.iter = "n", morph.layer = "conv1"}

    The nests are the one at the address and those of its layer that begin with the same loops, as far as they hand
    local memrefs to each other which nothing else uses. The result takes the place of the last one. It keeps the marks
    of the nest at the address; loops whose names are taken get a number.

    A memref between the nests, one of whose axes counts the iterations, loses the last of `iters` in it (array
    contraction): what one iteration has written the next one overwrites, so it stays in cache. With `iters=n.0,n.1`
    each iteration of n.0 has its own memory still, and several may run at the same time.

    Requires at least two nests, that each begins with the loops of `iters`, perfectly nested, of equal constant extents
    from 0 on, none of them carrying values in registers; no loop marked as parallel; that no two nests touch the same
    element in different iterations of these loops, unless both only load it, as an axis shows along which the
    iterations lie apart; and that nothing between the first nest and the last one writes what they read, or touches
    what they write.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iters: the common iterators, outermost first.
    """

    name: ClassVar[str] = "morph-fuse-nests"
    kind: ClassVar[Kind] = "loop"
    may_find_nothing: ClassVar[bool] = True

    layer: str
    iters: tuple[str, ...]

    @property
    def scope(self) -> Scope:
        return "neighbours"

    def analyze_nest(self, nest: Nest) -> FuseNestsPlan:
        if not self.iters:
            raise ArgumentError("iters", "expected at least one iterator")
        for name in self.iters:
            nest.loop(name, "iters")
        _require_common(nest, self.iters)
        members = _members(nest, self.iters)
        if len(members) < 2:
            names = ", ".join(f"'{name}'" for name in self.iters)
            reason = f"no other nest of the layer begins with {names} and shares a local memref with it alone"
            raise IllegalTransform(nest.label, reason)
        for member in members:
            require_known_operations(member)
            _require_common(member, self.iters)
            marked = parallel_loop(member)
            if marked is not None:
                raise IllegalTransform(nest.label, f"'{marked.iterator}' is parallel already; mark it afterwards")
        _require_apart(nest, members, len(self.iters))
        _require_together(nest, members)
        return FuseNestsPlan(nest, members, len(self.iters), _shrunk(members, nest.extents[: len(self.iters)]))

    def rewrite(self, plan: FuseNestsPlan) -> ir.Operation:
        root = plan.nest.root
        with root.context:
            _shrink(plan)
            _rename(plan)
            if plan.members[-1].root != root:
                root.operation.move_after(plan.members[-1].root.operation)
            host = plan.nest.loops[plan.count - 1].op
            first, *_, end = [op.operation for op in host.body.operations]
            place = first
            for member in plan.members:
                if member.root == root:
                    place = end
                    continue
                for ours, theirs in zip(plan.nest.loops, member.loops[: plan.count], strict=False):
                    theirs.variable.replace_all_uses_with(ours.variable)
                for op in body_of(member.loops[plan.count - 1].op):
                    op.move_before(place)
                member.root.operation.erase()
            return root.operation


def _require_common(nest: Nest, iters: Sequence[str]) -> None:
    """Raises:
    IllegalTransform: the nest does not begin with these loops, or not as they have to be.
    """
    band = perfect_band(nest, 0)[: len(iters)]
    if tuple(nest.iterators[p] for p in band) != tuple(iters):
        raise IllegalTransform(nest.label, f"its outermost loops are not {', '.join(iters)}, perfectly nested")
    for p in band:
        require_normal(nest, nest.loops[p])
        if not nest.loops[p].extent:
            raise IllegalTransform(nest.label, f"the extent of '{nest.iterators[p]}' is no constant of at least 1")


def _members(nest: Nest, iters: Sequence[str]) -> tuple[Nest, ...]:
    """The nests, in program order: that one, and what it shares local memrefs with, which nothing else uses."""
    names, extents = tuple(iters), nest.extents[: len(iters)]
    candidates = {nest.root.operation: nest}
    for op in nest.root.operation.block.operations:
        same = marks.get_text(op, marks.LAYER) == nest.layer
        if isinstance(op, affine.AffineForOp) and same and op.operation not in candidates:
            other = view_nest(op)
            if (other.iterators[: len(names)], other.extents[: len(names)]) == (names, extents):
                candidates[op.operation] = other
    found, pending = {nest.root.operation}, [nest]
    while pending:
        for memref in {a.memref for a in pending.pop().accesses}:
            users = {outermost(use.owner.operation) for use in memref.uses if use.owner.name != "memref.dealloc"}
            if _is_local(memref) and users <= candidates.keys():
                pending += [candidates[op] for op in users - found]
                found |= users
    return tuple(candidates[op] for op in in_order(found))


def _is_local(memref: ir.Value) -> bool:
    return not isinstance(memref.owner, ir.Block) and memref.owner.name == "memref.alloc"


def _require_apart(nest: Nest, members: Sequence[Nest], count: int) -> None:
    """Raises:
    IllegalTransform: two nests may touch one element in different iterations.
    """
    touched = {a.memref: None for member in members for a in member.accesses}
    written = {a.memref: None for member in members for a in member.stores}
    for memref in written:
        users = [member for member in members if any(a.memref == memref for a in member.accesses)]
        if len(users) > 1 and not are_apart(users, memref, count):
            names = " and ".join(describe(user.root.operation) for user in users[:2])
            reason = f"{names} may touch one element of a memref ({memref.type}) in different iterations"
            raise IllegalTransform(nest.label, reason)
        for other in touched:
            if other != memref and may_alias(other, memref):
                raise IllegalTransform(nest.label, f"two of its memrefs ({memref.type}, {other.type}) may overlap")


def _require_together(nest: Nest, members: Sequence[Nest]) -> None:
    """Raises:
    IllegalTransform: a nest cannot be computed where the last one is.
    """
    mine = {member.root.operation for member in members}
    last = members[-1].root.operation
    for member in members[:-1]:
        root = member.root.operation
        touched = effects(root)
        for op in _between(root, last, mine):
            other = effects(op)
            for memref in other.reads | other.writes:
                writes = memref in other.writes
                against = touched.reads | touched.writes if writes else touched.writes
                if any(may_alias(memref, m) for m in against):
                    raise IllegalTransform(nest.label, f"{describe(op)}, in between, touches what its nests touch")


def _between(first: ir.Operation, last: ir.Operation, skipped: set[ir.Operation]) -> Iterator[ir.Operation]:
    for op in first.block.operations:
        if is_before(first, op.operation) and is_before(op.operation, last) and op.operation not in skipped:
            yield op.operation


def _shrunk(members: Sequence[Nest], extents: Sequence[int | None]) -> dict[ir.Value, int]:
    """The memrefs between the nests, with the axis that counts the iterations."""
    known = [extent or 0 for extent in extents]
    inside = {member.root.operation for member in members}
    found = {}
    for memref in {a.memref: None for member in members for a in member.accesses}:
        accesses = [a for member in members for a in member.accesses if a.memref == memref]
        users = [use.owner.operation for use in memref.uses if use.owner.name != "memref.dealloc"]
        known_uses = {a.op for a in accesses}
        if not _is_local(memref) or any(op not in known_uses or outermost(op) not in inside for op in users):
            continue
        axis = own_axis(accesses, known)
        if axis is not None and axis < len(accesses[0].exprs) - 1:
            found[memref] = axis
    return found


def _shrink(plan: FuseNestsPlan) -> None:
    """Takes the last common loop out of the memrefs between the nests; an axis that nothing is left of goes away."""
    outer = [extent or 0 for extent in plan.nest.extents[: plan.count - 1]]
    for memref, axis in plan.shrunk.items():
        type_ = ir.MemRefType(memref.type)
        number = [number_of(outer)] if outer else []
        shape = list(type_.shape)
        shape[axis : axis + 1] = [math.prod(outer)] if outer else []
        memref.set_type(ir.MemRefType.get(shape, type_.element_type, memory_space=type_.memory_space))
        for member in plan.members:
            variables = [loop.variable for loop in member.loops]
            for access in member.accesses:
                if access.memref == memref:
                    exprs = [*access.exprs[:axis], *number, *access.exprs[axis + 1 :]]
                    rewrite_access(access.op, exprs, variables)


def _rename(plan: FuseNestsPlan) -> None:
    """Gives the loops of the other nests names that are not taken: `ty`, `ty_2`, `ty_3`."""
    taken = set(plan.nest.iterators)
    for member in plan.members:
        if member.root == plan.nest.root:
            continue
        for loop in member.loops[plan.count :]:
            name, number = loop.iterator, 2
            while name in taken:
                name, number = f"{loop.iterator}_{number}", number + 1
            taken.add(name)
            loop.op.attributes[marks.ITER] = ir.StringAttr.get(name)
