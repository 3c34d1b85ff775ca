"""Affine expressions of MLIR as index forms."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from loopmorph.passes.affine_expr import downcast
from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Extents, Form


def from_expr(expr: ir.AffineExpr, operands: Sequence[Form], extents: Extents) -> Form:
    """The plain form of an MLIR expression whose dimension d is `operands[d]`."""
    expr = downcast(expr)
    if isinstance(expr, ir.AffineConstantExpr):
        return forms.constant(expr.value)
    if isinstance(expr, ir.AffineDimExpr):
        return operands[expr.position]
    lhs, rhs = from_expr(expr.lhs, operands, extents), from_expr(expr.rhs, operands, extents)
    if isinstance(expr, ir.AffineAddExpr):
        return forms.add(lhs, rhs)
    if isinstance(expr, ir.AffineMulExpr):
        return forms.scale(lhs, rhs.constant) if not rhs.terms else forms.scale(rhs, lhs.constant)
    if isinstance(expr, ir.AffineFloorDivExpr):
        return forms.quotient(lhs, rhs.constant, extents)
    if isinstance(expr, ir.AffineCeilDivExpr):
        return forms.quotient(forms.add(lhs, forms.constant(rhs.constant - 1)), rhs.constant, extents)
    return forms.remainder(lhs, rhs.constant, extents)
