"""Loops that never run: of tensors without elements."""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.dialects import affine


def drop_empty_nests(module: ir.Operation) -> None:
    """Erases each loop whose extent is 0, and those that hold nothing else, in place."""
    loops: list[affine.AffineForOp] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name == "affine.for":
            loops.append(op.opview)
        return ir.WalkResult.ADVANCE

    module.walk(visit, ir.WalkOrder.POST_ORDER)  # inner loops come first
    for loop in loops:
        if _runs_never(loop) or (not len(loop.results) and len(list(loop.body.operations)) == 1):
            loop.operation.erase()


def _runs_never(loop: affine.AffineForOp) -> bool:
    lower, upper = (_constant(name, loop) for name in ("lowerBoundMap", "upperBoundMap"))
    return lower is not None and upper is not None and upper <= lower and not len(loop.results)


def _constant(name: str, loop: affine.AffineForOp) -> int | None:
    results = ir.AffineMapAttr(loop.attributes[name]).value.results
    return results[0].value if len(results) == 1 and isinstance(results[0], ir.AffineConstantExpr) else None
