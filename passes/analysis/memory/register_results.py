"""Nests that keep their results in registers until they are final: what they load first and store last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.bounds import constants
from loopmorph.passes.analysis.memory.index_maps import Frame, Reach, each_once
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest

Address = tuple[ir.AffineExpr, ...]
_IN_MEMORY = "its accumulators are not in registers; apply morph-promote first"


@dataclass(frozen=True)
class ResultPlace:
    """A loop in which a nest stores results, and reads the start values of just these.

    Attributes:
        frame: the nest's loops, at that place, and the lanes.
        values: for each loop around that place, by position, and for the lanes the values that they take.
        loads: the loads of their start values, in program order; each at the address of a later store.
        stores: the stores, in program order.
    """

    frame: Frame
    values: dict[int, np.ndarray]
    loads: tuple[Access, ...]
    stores: tuple[Access, ...]

    def address(self, access: Access) -> Address:
        """Where a load or store is, over the frame: the lane counts along the last axis."""
        if self.frame.width is None:
            return access.exprs
        lane = ir.AffineExpr.get_dim(len(self.frame.variables))
        return (*access.exprs[:-1], access.exprs[-1] + lane)

    def reach(self, memref: ir.Value, addresses: Sequence[Address]) -> Reach:
        """The elements at such addresses of a memref."""
        return Reach(tuple(addresses), self.values, tuple(ir.MemRefType(memref.type).shape))


@dataclass(frozen=True)
class RegisterResults:
    """A nest's results: scalars or vectors that it stores, each element once.

    Attributes:
        nest: the nest.
        memref: where it stores them.
        places: where in the nest it does: one loop, or several where the last iterations have loops of their own.
    """

    nest: Nest
    memref: ir.Value
    places: tuple[ResultPlace, ...]

    @property
    def loads(self) -> tuple[Access, ...]:
        """The loads of start values, in program order."""
        return tuple(load for place in self.places for load in place.loads)


def register_results(nest: Nest) -> RegisterResults:
    """The results of a nest.

    Raises:
        IllegalTransform: its accumulators are in memory, or it stores in another way than described above.
    """
    for op in _operations(nest):
        if len(op.regions) and op.name != "affine.for":
            raise IllegalTransform(nest.label, f"it contains '{op.name}'")
    memrefs = {a.memref for a in nest.stores}
    if len(memrefs) != 1:
        raise IllegalTransform(nest.label, f"it stores to {len(memrefs)} memrefs, not to one")
    (memref,) = memrefs
    loads = tuple(a for a in nest.loads if a.memref == memref)
    around = list(dict.fromkeys(a.loops for a in nest.stores))
    if any(a.loops not in around for a in loads):
        raise IllegalTransform(nest.label, _IN_MEMORY)
    places = tuple(_place(nest, loops, loads) for loops in around)
    results = RegisterResults(nest, memref, places)
    if not each_once([place.reach(memref, [place.address(a) for a in place.stores]) for place in places]):
        raise IllegalTransform(nest.label, "it may store an element several times")
    return results


def _place(nest: Nest, around: tuple[int, ...], loads: Sequence[Access]) -> ResultPlace:
    """What is stored, and read before, in one loop."""
    stores, starts = (tuple(a for a in accesses if a.loops == around) for accesses in (nest.stores, loads))
    _require_registers(nest, stores, starts, around)
    values = {p: _values(nest, nest.loops[p]) for p in around}
    width = _width(nest, (*stores, *starts))
    extents = [int(values[p][-1]) + 1 if p in values else 1 for p in range(len(nest.loops))]
    if width is not None:
        values[len(nest.loops)] = np.arange(width)
        extents.append(width)
    return ResultPlace(
        Frame(tuple(loop.variable for loop in nest.loops), tuple(extents), width), values, starts, stores
    )


def _require_registers(nest: Nest, stores: Sequence[Access], loads: Sequence[Access], around: tuple[int, ...]) -> None:
    used = {d for a in stores for e in a.exprs for d in used_dims(e)}
    if any(p not in used and nest.loops[p].extent != 1 for p in around):
        raise IllegalTransform(nest.label, _IN_MEMORY)
    stored = {(a.exprs, a.lanes): a.order for a in stores}
    if any(stored.get((a.exprs, a.lanes), -1) < a.order for a in loads):
        raise IllegalTransform(nest.label, "it reads results of other iterations")


def _values(nest: Nest, loop: Loop) -> np.ndarray:
    """What an iterator runs over."""
    bounds = nest.bounds(loop)
    lower, upper = constants(bounds.lower), constants(bounds.upper)
    if len(lower) < len(bounds.lower) or len(upper) < len(bounds.upper) or max(lower) < 0 or max(lower) >= min(upper):
        reason = f"loop '{loop.iterator}' around its results does not run from one constant to a larger one"
        raise IllegalTransform(nest.label, reason)
    return np.arange(max(lower), min(upper), bounds.step)


def _width(nest: Nest, accesses: Sequence[Access]) -> int | None:
    """The lanes that all of the accesses have, None for scalars."""
    kinds = {(a.op.results if a.kind == "load" else a.op.operands)[0].type for a in accesses}
    if len(kinds) != 1:
        raise IllegalTransform(nest.label, "it stores results of several types")
    (kind,) = kinds
    return ir.VectorType(kind).shape[0] if isinstance(kind, ir.VectorType) else None


def _operations(nest: Nest) -> Iterator[ir.Operation]:
    for loop in nest.loops:
        for op in loop.op.body.operations:
            yield op.operation
