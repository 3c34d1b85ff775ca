"""Erasing what nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterable

from torch_mlir import ir

from loopmorph.passes.analysis.definitions import definition, is_used


def erase_unused(value: ir.Value) -> None:
    """Erases what a value of a nest is computed by, as far as nothing else uses it; what is outside of nests stays.

    Nothing is erased where the value is used, or the argument of a block.
    """
    pending = _definitions([value])
    while pending:
        op = pending.pop()
        if op.parent.name == "func.func" or any(is_used(result) for result in op.results):
            continue
        operands = _definitions(op.operands)
        op.erase()
        pending += [operand for operand in operands if operand not in pending]


def erase_memref(memref: ir.Value) -> None:
    """Erases the operation that makes a memref, and those that use it."""
    for use in list(memref.uses):
        use.owner.operation.erase()
    memref.owner.operation.erase()


def _definitions(values: Iterable[ir.Value]) -> list[ir.Operation]:
    """The operations that compute some values, each once."""
    found = [definition(value) for value in values]
    return list(dict.fromkeys(op for op in found if op is not None))
