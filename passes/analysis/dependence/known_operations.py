"""The operations whose accesses to memory the analyses know: those of the nest view, and those without any."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes.analysis.dependence.aliasing import VIEWS, may_alias
from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest

_HARMLESS_DIALECTS = frozenset({"arith", "math", "index", "ub"})
_HARMLESS = VIEWS | {
    *("affine.for", "affine.yield", "affine.load", "affine.store", "affine.vector_load", "affine.vector_store"),
    "affine.prefetch",
    *("vector.broadcast", "vector.extract", "vector.fma", "vector.from_elements", "vector.reduction"),
    *("affine.apply", "affine.min", "affine.max"),
}


def require_known_operations(nest: Nest) -> None:
    """A `memref.load`, whose index may be any value, is known where nothing in the nest writes what it reads.

    Raises:
        IllegalTransform: the nest holds an operation of which it is not known what it accesses.
    """
    for op in _others(nest):
        where = f"{nest.label}, at {location_text(op.location)}"
        if op.name != "memref.load":
            raise IllegalTransform(where, f"the dependence analysis does not know what {op.name} accesses")
        if any(may_alias(op.operands[0], store.memref) for store in nest.stores):
            raise IllegalTransform(where, "it reads, at an index that depends on data, what it writes")


def gathered(nest: Nest) -> list[ir.Value]:
    """The memrefs that a nest reads at indices that depend on data, by `memref.load`."""
    return [op.operands[0] for op in _others(nest) if op.name == "memref.load"]


def _others(nest: Nest) -> list[ir.Operation]:
    """The operations of a nest that are neither those of the nest view nor without access to memory."""
    others: list[ir.Operation] = []
    known = _HARMLESS | ({"affine.if"} if nest.guards else frozenset())

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name not in known and op.name.split(".")[0] not in _HARMLESS_DIALECTS:
            others.append(op)
        return ir.WalkResult.ADVANCE

    nest.root.operation.walk(visit, ir.WalkOrder.PRE_ORDER)
    return others
