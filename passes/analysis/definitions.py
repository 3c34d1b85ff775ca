"""Which operation a value comes from, and whether any takes it."""

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
