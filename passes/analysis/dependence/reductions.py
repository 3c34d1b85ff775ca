"""Accesses that accumulate: reductions, whose instances may be reordered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.analysis.dependence.aliasing import may_alias
from loopmorph.passes.analysis.unseen import seen_uses
from loopmorph.passes.nest import Access, Nest

COMBINERS = frozenset(
    {
        *("arith.addf", "arith.mulf", "arith.maximumf", "arith.minimumf", "arith.maxnumf", "arith.minnumf"),
        *("arith.addi", "arith.muli", "arith.andi", "arith.ori", "arith.xori"),
        *("arith.maxsi", "arith.maxui", "arith.minsi", "arith.minui"),
    }
)


@dataclass(frozen=True)
class Reduction:
    """A store that combines a value into an element in place.

    Attributes:
        load: `order` of the load of the element.
        store: `order` of the store.
        combiner: name of the operation, one of `COMBINERS`.
    """

    load: int
    store: int
    combiner: str


def reductions(nest: Nest, *, unseen: bool = True) -> tuple[Reduction, ...]:
    """The reductions of a nest: load, combination and store in one block, used by nothing else and undisturbed.

    Args:
        nest: the nest.
        unseen: whether uses count of which nobody sees anything.
    """
    loads = {load.op: load for load in nest.loads}
    found = (_reduction(nest, loads, store, unseen) for store in nest.stores)
    return tuple(r for r in found if r is not None)


def combining_accesses(nest: Nest, *, unseen: bool = True) -> dict[int, Reduction]:
    """The reductions, as `reductions` finds them, by the `order` of their accesses."""
    return {order: r for r in reductions(nest, unseen=unseen) for order in (r.load, r.store)}


def is_same_reduction(a: Access, b: Access, combined: Mapping[int, Reduction]) -> bool:
    """Whether both belong to reductions, and these commute: one operation into one memref."""
    one, two = combined.get(a.order), combined.get(b.order)
    return one is not None and two is not None and a.memref == b.memref and one.combiner == two.combiner


def _reduction(nest: Nest, loads: Mapping[ir.Operation, Access], store: Access, unseen: bool) -> Reduction | None:
    combination = definition(store.op.operands[0])
    if combination is None or combination.name not in COMBINERS or not _used_once(combination.result, unseen):
        return None
    for value in combination.operands:
        load = loads.get(op) if (op := definition(value)) is not None else None
        if load is None or load.loops != store.loops or not _used_once(value, unseen):
            continue
        same = (load.memref, load.exprs, load.lanes) == (store.memref, store.exprs, store.lanes)
        if same and _undisturbed(nest, load, store):
            return Reduction(load.order, store.order, combination.name)
    return None


def _undisturbed(nest: Nest, load: Access, store: Access) -> bool:
    between = nest.accesses[load.order + 1 : store.order]
    return not any(a.kind == "store" and may_alias(a.memref, store.memref) for a in between)


def _used_once(value: ir.Value, unseen: bool) -> bool:
    return len(list(value.uses) if unseen else seen_uses(value)) == 1
