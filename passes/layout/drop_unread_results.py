"""`morph-drop-unread-results`: of several results of a nest, those that nothing but themselves is made of go away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import memref

from loopmorph.passes.analysis.memory.dataflow import effects, outermost
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.structure import body_of
from loopmorph.passes.arithmetic import ARITHMETIC
from loopmorph.passes.base import Pass
from loopmorph.passes.building.erase import erase_unused
from loopmorph.passes.nest import functions


@dataclass(frozen=True)
class DropUnreadResults(Pass):
    """Drops local memrefs that nests accumulate beside others, and that nothing else reads.

    Before: a maximum, and where it is, which nobody asks for

        affine.for %i = 0 to 197 {
          %m = affine.load %most[]   %p = affine.load %place[]   %v = affine.load %x[%i]
          %n = arith.maximumf %v, %m   %b = arith.cmpf ugt, %v, %m   %i64 = arith.index_cast %i
          %q = arith.select %b, %i64, %p
          affine.store %n, %most[]   affine.store %q, %place[]
        }

    After:

        affine.for %i = 0 to 197 {
          %m = affine.load %most[]   %v = affine.load %x[%i]   %n = arith.maximumf %v, %m   affine.store %n, %most[]
        }

    Loops that then hold nothing go with it. Requires nothing; the only result of a nest stays, and so do memrefs that
    something else than an `affine.load` or `affine.store` uses.
    """

    name: ClassVar[str] = "morph-drop-unread-results"

    def run(self, module: ir.Operation) -> None:
        with module.context:
            for function in functions(module):
                allocations = [op for op in function.entry_block.operations if isinstance(op, memref.AllocOp)]
                for allocation in reversed(allocations):  # what made a dropped one may then be unread too
                    if is_local(allocation.result) and _is_unread(allocation.result):
                        _drop(allocation)


def _is_unread(value: ir.Value) -> bool:
    """Whether what is loaded goes back to the memref alone, in nests that store something else too."""
    users = [use.owner.operation for use in value.uses]
    if any(op.name not in ("affine.load", "affine.store") for op in users):
        return False
    loads = [op for op in users if op.name == "affine.load"]
    beside = all(effects(outermost(op)).writes - {value} for op in loads)
    return bool(loads) and beside and all(_returns(op, value) for op in loads)


def _returns(load: ir.Operation, home: ir.Value) -> bool:
    """Whether all that is computed from a load is stored to its own memref."""
    pending, seen = [load], {load}
    while pending:
        for result in pending.pop().results:
            for use in result.uses:
                user = use.owner.operation
                if user.name == "affine.store" and user.operands[1] == home and user.operands[0] == result:
                    continue
                if not user.name.startswith(ARITHMETIC) or len(user.regions):
                    return False
                if user not in seen:
                    seen.add(user)
                    pending.append(user)
    return True


def _drop(allocation: memref.AllocOp) -> None:
    users = [use.owner.operation for use in allocation.result.uses]
    around = list(dict.fromkeys(op.parent.operation for op in users))
    for store in [op for op in users if op.name == "affine.store"]:
        stored = store.operands[0]
        store.erase()
        erase_unused(stored)
    allocation.operation.erase()
    while around:
        _drop_idle(around.pop(), around)


def _drop_idle(loop: ir.Operation, others: list[ir.Operation]) -> None:
    """Erases a loop that holds nothing, and those around it that then hold nothing; `others` loses what is erased."""
    while loop.name == "affine.for" and not len(loop.results) and not body_of(loop.opview):
        idle, loop = loop, loop.parent.operation
        if idle in others:
            others.remove(idle)
        idle.erase()
