"""What `morph-fuse-epilogue` can fuse with a nest, and where the nest then has to stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.analysis.memory.index_maps import Reach, includes
from loopmorph.passes.analysis.memory.memref_uses import (
    MemrefUses,
    describe,
    in_order,
    is_before,
    is_defined_after,
    last_of,
)
from loopmorph.passes.analysis.memory.register_results import Address, RegisterResults
from loopmorph.passes.building.pointwise import Instance, Pointwise, instantiate, pointwise
from loopmorph.passes.building.widen import is_constant
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, view_nest


@dataclass(frozen=True)
class Start:
    """The nest that gives the results their start values.

    Attributes:
        root: its outermost loop.
        instances: for each place its body for each load of a start value.
        is_dead: whether it serves no other purpose.
    """

    root: ir.Operation
    instances: tuple[tuple[Instance, ...], ...]
    is_dead: bool


@dataclass(frozen=True)
class Consumer:
    """An element-wise nest that reads the results.

    Attributes:
        root: its outermost loop.
        given: what its loads of the results give.
        instances: for each place its body for each store of a result.
    """

    root: ir.Operation
    given: tuple[ir.Value, ...]
    instances: tuple[tuple[Instance, ...], ...]


@dataclass(frozen=True)
class EpiloguePlan:
    """What becomes of a nest.

    Attributes:
        results: the nest and its results.
        start: the nest to instantiate at the loads of start values, if any.
        steps: the nests to instantiate, one after the other, on the results.
        takes_place_of: before which operation the nest is to stand, None for where it is.
        hoisted: allocations and constants that have to come before the nest then.
    """

    results: RegisterResults
    start: Start | None
    steps: tuple[Consumer, ...]
    takes_place_of: ir.Operation | None
    hoisted: tuple[ir.Operation, ...]


def plan_epilogue(results: RegisterResults) -> EpiloguePlan:
    """Finds out all that can be fused.

    Raises:
        IllegalTransform: nothing can; says why.
    """
    planner = _Planner(results)
    reasons = []
    start, steps = None, []
    if results.loads:
        try:
            start = planner.start()
        except IllegalTransform as refusal:
            reasons.append(f"its start value stays in memory: {refusal.reason}")
    while True:
        try:
            steps.append(planner.step())
        except IllegalTransform as refusal:
            reasons.append(refusal.reason)
            break
    if start is None and not steps:
        raise IllegalTransform(results.nest.label, "; ".join(reasons))
    return EpiloguePlan(results, start, tuple(steps), planner.takes_place_of, planner.hoisted())


class _Planner:
    """The nest as it will be after the steps planned so far.

    Attributes:
        memref: where it stores its results.
        addresses: where in it, for each place and store.
        reads: the other memrefs that it reads.
        place: the operation of the function's body whose place it takes.
        gone: operations that will be part of it.
        needed: values from outside that it uses.
    """

    def __init__(self, results: RegisterResults) -> None:
        self.results = results
        self.nest = results.nest
        self.uses = MemrefUses()
        self.memref = results.memref
        self.addresses: list[list[Address]] = [[place.address(a) for a in place.stores] for place in results.places]
        self.reads = {a.memref for a in self.nest.loads} - {results.memref}
        self.place = self.nest.root.operation
        self.takes_place_of: ir.Operation | None = None
        self.gone = {self.nest.root.operation}
        self.needed: dict[ir.Value, None] = {}

    def start(self) -> Start:
        """Plans the start values.

        Raises:
            IllegalTransform: they have to be loaded; says why.
        """
        uses = [u for u in self.uses.of(self.memref) if u.op not in self.gone]
        before = [u.op for u in uses if u.kind != "read" and is_before(u.op, self.place)]
        if not before:
            raise IllegalTransform(self.nest.label, "no nest of the program writes it")
        root = last_of(before)
        source = self._pointwise(root, "its writer")
        for memref in {a.memref for a in source.nest.loads}:
            if any(u.kind != "read" for u in self.uses.between(memref, root, self.place, ())):
                raise IllegalTransform(self.nest.label, f"an operand of {describe(root)} changes before it is used")
        written, stored = [_reach(source, source.store)], self._stored()
        if source.loads_of(self.memref) or not includes(written, stored):
            raise IllegalTransform(self.nest.label, f"{describe(root)} does not give all of it")
        read = any(u.kind == "read" for u in self.uses.between(self.memref, root, self.place, self.gone))
        addresses = [[place.address(a) for a in place.loads] for place in self.results.places]
        instances = self._instances(source, source.store, addresses)
        is_dead = not read and includes(stored, written)
        self.reads |= {a.memref for a in source.nest.loads}
        return Start(root, instances, is_dead)

    def step(self) -> Consumer:
        """Plans the next element-wise reader of the results.

        Raises:
            IllegalTransform: there is none that can be fused; says why.
        """
        root = self._only_reader()
        reader = self._pointwise(root, "its reader")
        loads = reader.loads_of(self.memref)
        if reader.store.memref == self.memref:
            raise IllegalTransform(self.nest.label, f"its reader {describe(root)} works in place")
        if reader.store.memref in self.reads:
            raise IllegalTransform(self.nest.label, f"it reads what its reader {describe(root)} writes")
        stored, read = self._stored(), [_reach(reader, loads[0])]
        same_map = all(a.exprs == loads[0].exprs for a in loads)
        if not same_map or not (includes(read, stored) and includes(stored, read)):
            reason = f"its reader {describe(root)} does not read exactly the elements that it stores, one per point"
            raise IllegalTransform(self.nest.label, reason)
        instances = self._instances(reader, loads[0], self.addresses)
        self._place(reader, root)
        self.gone.add(root)
        self.reads |= {a.memref for a in reader.nest.loads} - {self.memref}
        self.memref = reader.store.memref
        self.addresses = [[i.address for i in those] for those in instances]
        self.needed |= dict.fromkeys((*self.reads, self.memref, *reader.outer_values))
        return Consumer(root, tuple(a.op.results[0] for a in loads), instances)

    def _stored(self) -> list[Reach]:
        """The elements that the nest stores, for each place."""
        pairs = zip(self.results.places, self.addresses, strict=True)
        return [place.reach(self.memref, addresses) for place, addresses in pairs]

    def _instances(
        self, body: Pointwise, access: Access, addresses: Sequence[Sequence[Address]]
    ) -> tuple[tuple[Instance, ...], ...]:
        """The body for each place's addresses of one of its accesses."""
        pairs = zip(self.results.places, addresses, strict=True)
        return tuple(tuple(instantiate(body, access.exprs, a, place.frame) for a in those) for place, those in pairs)

    def hoisted(self) -> tuple[ir.Operation, ...]:
        """The operations that have to move before the nest, in program order."""
        return tuple(in_order({v.owner.operation for v in self.needed if is_defined_after(v, self.place)}))

    def _only_reader(self) -> ir.Operation:
        if isinstance(self.memref.owner, ir.Block):
            raise IllegalTransform(self.nest.label, "its result is an argument of the function")
        uses = [u for u in self.uses.of(self.memref) if u.op not in self.gone and u.kind != "free"]
        later = [u for u in uses if is_before(self.place, u.op)]
        readers = list(dict.fromkeys(u.op for u in later if u.kind == "read"))
        if len(readers) != 1:
            reason = f"its result is read by {len(readers)} nests" if readers else "nothing reads its result"
            raise IllegalTransform(self.nest.label, reason)
        writers = [u.op for u in later if u.kind == "write" and u.op != readers[0]]
        if writers:
            raise IllegalTransform(self.nest.label, f"its result is written by {describe(writers[0])} too")
        return readers[0]

    def _pointwise(self, root: ir.Operation, name: str) -> Pointwise:
        if not isinstance(root.opview, affine.AffineForOp):
            raise IllegalTransform(self.nest.label, f"{name} {describe(root)} is not an affine loop nest")
        try:
            return pointwise(view_nest(root.opview))
        except IllegalTransform as refusal:
            reason = f"{name} {describe(root)} is not element-wise: {refusal.reason}"
            raise IllegalTransform(self.nest.label, reason) from refusal

    def _place(self, reader: Pointwise, root: ir.Operation) -> None:
        """Decides whether the reader moves up to the nest or the nest down to the reader."""
        up = self._hinders_up(reader, root)
        if up is None:
            return
        down = self._hinders_down(root)
        if down is not None:
            reason = f"its reader {describe(root)} cannot move up to it, as {up}, nor it down, as {down}"
            raise IllegalTransform(self.nest.label, reason)
        self.place = self.takes_place_of = root

    def _hinders_up(self, reader: Pointwise, last: ir.Operation) -> str | None:
        """Why the reader cannot be computed where the nest is, None if it can."""
        for memref in {a.memref: None for a in reader.nest.loads if a.memref != self.memref}:
            for use in self.uses.between(memref, self.place, last, self.gone):
                if use.kind != "read":
                    return f"{describe(use.op)} writes one of its operands in between"
        for use in self.uses.between(reader.store.memref, self.place, last, self.gone):
            return f"{describe(use.op)} uses the memref that it writes in between"
        outer = [*reader.outer_values, *(a.memref for a in reader.nest.accesses)]
        if any(is_defined_after(v, self.place) and not _is_movable(v) for v in outer):
            return "one of its operands is defined in between"
        return None

    def _hinders_down(self, last: ir.Operation) -> str | None:
        """Why the nest cannot be computed where the reader is, None if it can."""
        for memref in self.reads:
            for use in self.uses.between(memref, self.place, last, self.gone):
                if use.kind != "read":
                    return f"{describe(use.op)} writes one of its operands in between"
        return None


def _reach(body: Pointwise, access: Access) -> Reach:
    values = {d: np.arange(extent) for d, extent in enumerate(body.extents)}
    return Reach((access.exprs,), values, tuple(ir.MemRefType(access.memref.type).shape))


def _is_movable(value: ir.Value) -> bool:
    """Whether a value comes from an operation that can stand anywhere earlier."""
    return is_constant(value) or (value.owner.name == "memref.alloc" and not len(value.owner.operands))
