"""Scalar operations in vector form: the same operation, element by element, on one-dimensional vectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import arith, vector

from loopmorph.passes.arithmetic import ARITHMETIC


def vector_type(element: ir.Type, width: int) -> ir.VectorType:
    """`vector<WIDTHxELEMENT>`."""
    return ir.VectorType.get([width], element)


def is_elementwise(op: ir.Operation) -> bool:
    """Whether the operation is one of `arith` or `math` with one result on scalars, neither indices nor vectors."""
    if not op.name.startswith(ARITHMETIC) or len(op.regions) or len(op.results) != 1:
        return False
    return all(_is_scalar(v.type) for v in (*op.operands, *op.results))


def widen(op: ir.Operation, values: Sequence[ir.Value], width: int) -> list[ir.Value]:
    """Builds `op` on other operands at the current insertion point; its attributes (predicate, fastmath) are kept.

    Where all of `values` are scalars, so is the result: what is the same in every lane is computed once. Where some
    are vectors, the scalars among them are broadcast, and the result is a vector:

        %r = arith.mulf %a, %b : f32     ->     %w = vector.broadcast %b : f32 to vector<16xf32>
                                                %r = arith.mulf %v, %w : vector<16xf32>

    Args:
        op: an operation of `arith` or `math` on scalars.
        values: its operands, each a scalar of the type that it has in `op`, or a vector of `width` such.
        width: number of lanes.

    Returns:
        Its results.
    """
    wide = any(isinstance(v.type, ir.VectorType) for v in values)
    operands = [as_vector(v, width) for v in values] if wide else list(values)
    types = [vector_type(r.type, width) if wide else r.type for r in op.results]
    attributes = {name: op.attributes[name] for name in op.attributes}
    return list(ir.Operation.create(op.name, types, operands, attributes, loc=op.location).results)


def as_vector(value: ir.Value, width: int) -> ir.Value:
    """The value in every lane: a dense constant for a constant, else a `vector.broadcast`; a vector stays."""
    if isinstance(value.type, ir.VectorType):
        return value
    wide = vector_type(value.type, width)
    if is_constant(value):
        return arith.ConstantOp(wide, ir.DenseElementsAttr.get_splat(wide, value.owner.attributes["value"])).result
    return vector.BroadcastOp(wide, value).result


def is_constant(value: ir.Value) -> bool:
    """Whether the value is that of an `arith.constant`."""
    owner = value.owner
    return isinstance(owner, ir.Operation | ir.OpView) and owner.operation.name == "arith.constant"


def _is_scalar(kind: ir.Type) -> bool:
    return isinstance(kind, ir.FloatType | ir.IntegerType)
