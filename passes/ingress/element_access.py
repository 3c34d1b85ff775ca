"""Reading one element of a tensor at computed indices (`tensor.extract`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import memref

from loopmorph.passes.affine_expr import substitute
from loopmorph.passes.building.nest_builder import load
from loopmorph.passes.errors import ImportRefused
from loopmorph.passes.ingress.tensor_views import Filled, TensorValue, View


def load_element(
    source: TensorValue, indices: Sequence[ir.Value], variables: Sequence[ir.Value], where: str
) -> ir.Value:
    """The element of `source` at `indices`, built at the current insertion point.

    An `affine.load` where every index is an affine expression of the loops' variables; else a `memref.load`, whose
    index may depend on data (gathers, reflecting padding).

    Raises:
        ImportRefused: an index that is not affine, into a tensor that is a reshaped or sliced view.
    """
    if isinstance(source, Filled):
        return source.value
    if not isinstance(source, View):
        raise ImportRefused(f"{where}: a tensor is read that nothing has written")
    exprs = [affine_index(i, variables) for i in indices]
    if all(e is not None for e in exprs):
        known = {d: e for d, e in enumerate(exprs) if e is not None}
        results = [substitute(e, known, source.map.n_dims) for e in source.map.results]
        return load(source.memref, ir.AffineMap.get(len(variables), 0, results), variables)
    if source.map != ir.AffineMap.get_identity(len(source.shape)):
        raise ImportRefused(f"{where}: an element of a view is read at an index that depends on data")
    return memref.LoadOp(source.memref, list(indices)).result


def affine_index(value: ir.Value, variables: Sequence[ir.Value]) -> ir.AffineExpr | None:
    """An index value as an affine expression over the loops' variables, or None."""
    for position, variable in enumerate(variables):
        if value == variable:
            return ir.AffineExpr.get_dim(position)
    if isinstance(value.owner, ir.Block):
        return None
    op = value.owner.operation
    if op.name == "arith.constant":
        return ir.AffineExpr.get_constant(ir.IntegerAttr(op.attributes["value"]).value)
    if op.name == "arith.index_cast":
        return affine_index(op.operands[0], variables)
    if op.name not in ("arith.addi", "arith.subi", "arith.muli"):
        return None
    left, right = (affine_index(v, variables) for v in op.operands)
    if left is None or right is None:
        return None
    if op.name == "arith.muli":
        constant = any(isinstance(e.maybe_downcast(), ir.AffineConstantExpr) for e in (left, right))
        return left * right if constant else None
    return left + right if op.name == "arith.addi" else left - right
