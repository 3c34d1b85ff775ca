"""The operations whose accesses to memory the analyses know: those of the nest view, and those without any."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest

VIEWS = frozenset(
    {
        *("memref.subview", "memref.cast", "memref.reinterpret_cast", "memref.view"),
        *("memref.expand_shape", "memref.collapse_shape", "memref.transpose"),
    }
)
_HARMLESS_DIALECTS = frozenset({"arith", "math", "index", "ub"})
_HARMLESS = VIEWS | {
    *("affine.for", "affine.yield", "affine.load", "affine.store", "affine.vector_load", "affine.vector_store"),
    "affine.prefetch",
    *("vector.broadcast", "vector.extract", "vector.fma", "vector.from_elements", "vector.reduction"),
    *("affine.apply", "affine.min", "affine.max"),
}


def require_known_operations(nest: Nest) -> None:
    """Raises:
    IllegalTransform: the nest holds an operation of which it is not known what it accesses.
    """
    unknown: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name not in _HARMLESS and op.name.split(".")[0] not in _HARMLESS_DIALECTS:
            unknown.append(op)
        return ir.WalkResult.ADVANCE

    nest.root.operation.walk(visit)
    if unknown:
        where = f"{nest.label}, at {location_text(unknown[0].location)}"
        raise IllegalTransform(where, f"the dependence analysis does not know what {unknown[0].name} accesses")
