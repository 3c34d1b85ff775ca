"""Which operations of a function's body read and write each memref, looked up as often as one likes."""

from __future__ import annotations

from functools import cached_property

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.dataflow import Effects, effects, outermost


class BodyEffects:
    """The operations of a function's body, their order, and what they do to memrefs; as long as the body stays.

    Attributes:
        ops: in program order.
        position: operation -> its number, in program order.
    """

    def __init__(self, block: ir.Block) -> None:
        self.ops = [op.operation for op in block.operations]
        self.position = {op: k for k, op in enumerate(self.ops)}
        self._effects: dict[ir.Operation, Effects] = {}
        self._users: dict[ir.Value, tuple[list[ir.Operation], list[ir.Operation]]] = {}

    def effects(self, op: ir.Operation) -> Effects:
        """What an operation of the body touches."""
        if op not in self._effects:
            self._effects[op] = effects(op)
        return self._effects[op]

    def readers(self, memref: ir.Value) -> list[ir.Operation]:
        """The operations that read a memref, in program order."""
        return self._of(memref)[0]

    def writers(self, memref: ir.Value) -> list[ir.Operation]:
        """The operations that write a memref, in program order."""
        return self._of(memref)[1]

    def sources(self, memref: ir.Value) -> set[ir.Value]:
        """The memrefs that one is computed from, itself among them."""
        found: set[ir.Value] = set()
        pending = [memref]
        while pending:
            each = pending.pop()
            if each not in found:
                found.add(each)
                pending += [read for op in self.writers(each) for read in self.effects(op).reads]
        return found

    def depends_on_inputs(self, memref: ir.Value) -> bool:
        """Whether a memref is an argument that is no parameter, or computed from one."""
        return memref in self._data

    @cached_property
    def _data(self) -> set[ir.Value]:
        block = self.ops[0].block
        found = {a for a in block.arguments if marks.PARAM not in marks.memref_marks(a)}
        for op in self.ops:
            own = self.effects(op)
            if own.reads & found:
                found |= own.writes
        return found

    def _of(self, memref: ir.Value) -> tuple[list[ir.Operation], list[ir.Operation]]:
        if memref not in self._users:
            users = {outermost(use.owner.operation) for use in memref.uses}
            ops = sorted((op for op in users if op in self.position), key=lambda op: self.position[op])
            reads = [op for op in ops if memref in self.effects(op).reads]
            self._users[memref] = reads, [op for op in ops if memref in self.effects(op).writes]
        return self._users[memref]
