"""Which memrefs and which work of a function depend on parameters alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.arithmetic import ARITHMETIC

# Position of the memref operand of the operations that only read, or only write, memory.
_READS = {
    "affine.load": 0,
    "affine.prefetch": 0,
    "affine.vector_load": 0,
    "memref.load": 0,
    "vector.load": 0,
    "vector.transfer_read": 0,
}
_WRITES = {
    "affine.store": 1,
    "affine.vector_store": 1,
    "memref.store": 1,
    "vector.store": 1,
    "vector.transfer_write": 1,
}
_SILENT = frozenset({"memref.alloc", "memref.alloca", "memref.dealloc", "memref.dim"})


@dataclass(frozen=True)
class Effects:
    """What one operation of a function's body, with everything in it, touches outside itself.

    Attributes:
        reads: memrefs that it may read.
        writes: memrefs that it may write.
        scalars: values other than memrefs, defined outside of it, that it uses.
    """

    reads: frozenset[ir.Value]
    writes: frozenset[ir.Value]
    scalars: frozenset[ir.Value]


class ParameterWork(NamedTuple):
    """What depends on parameters alone.

    Attributes:
        memrefs: marked arguments and local memrefs whose contents depend on parameters alone.
        ops: the operations of the function's body that compute them, their memrefs and scalars, in program order.
    """

    memrefs: set[ir.Value]
    ops: list[ir.Operation]


def effects(op: ir.Operation) -> Effects:
    """The effects of an operation; one that is not known to only read or only write a memref may do both."""
    reads: set[ir.Value] = set()
    writes: set[ir.Value] = set()
    scalars: set[ir.Value] = set()
    inner: set[ir.Value] = set()

    def visit(each: ir.Operation) -> ir.WalkResult:
        inner.update(each.results)
        for region in each.regions:
            for block in region.blocks:
                inner.update(block.arguments)
        name = each.name
        if name in _SILENT:
            return ir.WalkResult.ADVANCE
        if name.startswith(ARITHMETIC):
            scalars.update(each.operands)
            return ir.WalkResult.ADVANCE
        read, written = _READS.get(name), _WRITES.get(name)
        for position, operand in enumerate(each.operands):
            if not isinstance(operand.type, ir.MemRefType):
                scalars.add(operand)
                continue
            if position != written:
                reads.add(operand)
            if position != read:
                writes.add(operand)
        return ir.WalkResult.ADVANCE

    op.walk(visit)
    return Effects(frozenset(reads - inner), frozenset(writes - inner), frozenset(scalars - inner))


def parameter_work(function: func.FuncOp) -> ParameterWork:
    """The memrefs and the work that depend on parameters alone, transitively through memrefs and scalars.

    A memref that other work reads before its last write does not count: moving its writes ahead would change it.
    """
    body = [op.operation for op in function.entry_block.operations]
    all_effects = [effects(op) for op in body]
    tainted = _other_arguments(function)
    size = -1
    while size != len(tainted):
        size = len(tainted)
        for op, effect in zip(body, all_effects, strict=True):
            if tainted & (effect.reads | effect.writes | effect.scalars):
                tainted |= effect.writes | set(op.results)
        tainted |= _read_too_early(body, all_effects, tainted)
    memrefs: set[ir.Value] = set(function.entry_block.arguments) - tainted
    ops = []
    for op, effect in zip(body, all_effects, strict=True):
        touched = effect.reads | effect.writes | effect.scalars | set(op.results)
        if op.name != "func.return" and not tainted & touched:
            ops.append(op)
            memrefs |= effect.writes | {r for r in op.results if isinstance(r.type, ir.MemRefType)}
    return ParameterWork(memrefs, ops)


def outermost(op: ir.Operation) -> ir.Operation:
    """The operation of the function's body that holds `op`, or is it."""
    while op.parent is not None and op.parent.name != "func.func":
        op = op.parent.operation
    return op


def _other_arguments(function: func.FuncOp) -> set[ir.Value]:
    arguments = zip(function.entry_block.arguments, marks.argument_marks(function), strict=True)
    return {argument for argument, attributes in arguments if marks.PARAM not in attributes}


def _read_too_early(body: list[ir.Operation], all_effects: list[Effects], tainted: set[ir.Value]) -> set[ir.Value]:
    """Memrefs that work on other values reads while writes to them are still to come."""
    seen: set[ir.Value] = set()
    early: set[ir.Value] = set()
    for effect in all_effects:
        early |= effect.writes & seen
        if tainted & (effect.reads | effect.writes | effect.scalars):
            seen |= effect.reads
    return early - tainted
