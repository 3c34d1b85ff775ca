"""Which operation a value comes from, what constant it is, and whether any takes it."""

from __future__ import annotations

from torch_mlir import ir


def definition(value: ir.Value) -> ir.Operation | None:
    """The operation that computes the value; None for an argument of a block."""
    return None if isinstance(value.owner, ir.Block) else value.owner.operation


def is_defined_by(value: ir.Value, name: str) -> bool:
    """Whether an operation of that name computes the value."""
    op = definition(value)
    return op is not None and op.name == name


def is_used(value: ir.Value) -> bool:
    """Whether any operation takes the value."""
    return next(iter(value.uses), None) is not None


def float_constant(value: ir.Value) -> float | None:
    """The floating-point number that a value is, or all lanes of a vector; None where it is no such constant."""
    op = definition(value)
    if op is None:
        return None
    if op.name == "vector.broadcast":
        return float_constant(op.operands[0])
    if op.name != "arith.constant":
        return None
    attribute = op.attributes["value"]
    if isinstance(attribute, ir.DenseElementsAttr):
        if not attribute.is_splat:
            return None
        attribute = attribute.get_splat_value()
    return attribute.value if isinstance(attribute, ir.FloatAttr) else None
