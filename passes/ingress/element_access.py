"""Reading one element of a tensor at computed indices (`tensor.extract`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import arith, memref

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import downcast, substitute
from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.building.nest_builder import load
from loopmorph.passes.errors import ImportRefused
from loopmorph.passes.ingress.tensor_views import Filled, TensorValue, View


def load_element(
    source: TensorValue, indices: Sequence[ir.Value], variables: Sequence[ir.Value], where: str
) -> ir.Value:
    """The element of `source` at `indices`, built at the current insertion point.

    An `affine.load` where every index is an affine expression of the loops' variables; else a `memref.load`, whose
    index may depend on data (gathers, reflecting padding). Such an index is brought into the tensor's range, so that
    no value leads outside of memory; where it is an element of one of the function's inputs, the argument is marked
    `morph.below`, for a caller to refuse what PyTorch would (see `marks`).

    Raises:
        ImportRefused: a tensor without values.
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
    within = [
        index if expr is not None else _clamped(index, extent)
        for index, expr, extent in zip(indices, exprs, source.shape, strict=True)
    ]
    return memref.LoadOp(source.memref, [_computed(e, within) for e in source.map.results]).result


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


def _clamped(index: ir.Value, extent: int) -> ir.Value:
    """The index, moved to the nearest of 0 to `extent` - 1."""
    _mark_input(index, extent)
    last, first = _constant(extent - 1), _constant(0)
    return arith.MaxSIOp(arith.MinSIOp(index, last).result, first).result


def _mark_input(index: ir.Value, extent: int) -> None:
    """Says on the function's argument that an element of it is an index into so many elements."""
    op = definition(index)
    while op is not None and op.name in ("arith.index_cast", "arith.extsi"):
        op = definition(op.operands[0])
    if op is None or op.name != "affine.load" or not isinstance(op.operands[0].owner, ir.Block):
        return
    marks.set_below(ir.BlockArgument(op.operands[0]), extent)


def _computed(expr: ir.AffineExpr, values: Sequence[ir.Value]) -> ir.Value:
    """An affine expression of values that are not negative, by arithmetic: the values need not be affine themselves."""
    expr = downcast(expr)
    if isinstance(expr, ir.AffineConstantExpr):
        return _constant(expr.value)
    if isinstance(expr, ir.AffineDimExpr):
        return values[expr.position]
    left, right = _computed(expr.lhs, values), _computed(expr.rhs, values)
    return _ARITHMETIC[type(expr)](left, right).result


_ARITHMETIC = {
    ir.AffineAddExpr: arith.AddIOp,
    ir.AffineMulExpr: arith.MulIOp,
    ir.AffineFloorDivExpr: arith.FloorDivSIOp,
    ir.AffineModExpr: arith.RemSIOp,
}


def _constant(number: int) -> ir.Value:
    return arith.ConstantOp(ir.IndexType.get(), number).result
