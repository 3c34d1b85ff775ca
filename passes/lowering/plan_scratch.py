"""`morph-plan-scratch`: one scratch argument instead of the local memrefs, shared by those that never live at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import arith, func, memref

from loopmorph.passes import marks
from loopmorph.passes.analysis.definitions import is_used
from loopmorph.passes.analysis.memory.dataflow import outermost
from loopmorph.passes.analysis.memory.memrefs import element_bytes
from loopmorph.passes.base import Pass
from loopmorph.passes.building.arguments import require_run, set_function

_ROUNDS = 50  # of placing all buffers again: a few milliseconds


@dataclass(frozen=True)
class Buffer:
    """A memref's need of memory: `size` bytes from the `first` to the `last` operation that uses it, both included."""

    size: int
    first: int
    last: int


@dataclass(frozen=True)
class PlanScratch(Pass):
    """Turns the allocations of `@run` into views of one argument `memref<Nxi8>` marked `morph.scratch`.

    Before:

        func.func @run(%x {morph.input = 0}, %y {morph.output = 0}) { %t = memref.alloc() : memref<8xf32> ... }

    After:

        func.func @run(%x {morph.input = 0}, %scratch: memref<64xi8> {morph.scratch}, %y {morph.output = 0}) {
          %offset = arith.constant 0 : index   %t = memref.view %scratch[%offset][] : memref<64xi8> to memref<8xf32> ...
        }

    Memrefs whose first and last uses, in program order, do not overlap share bytes; offsets are multiples of 64. N is
    what the caller has to provide. Without local memrefs there is no such argument. Only allocations of static shape
    directly in the function's body are planned.

    Requires: a function `@run` (see `morph-split-prepare`).
    """

    name: ClassVar[str] = "morph-plan-scratch"

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            function = require_run(module, self.name)
            _plan(function)


def assign_offsets(buffers: Sequence[Buffer]) -> list[int]:
    """An offset in bytes for each buffer; two that live at once do not overlap.

    They are placed one after the other, each at the lowest offset that is free for its whole life: the longest-lived
    first, and in every further round the one that reached highest in the round before is placed ahead of all. The best
    round counts; none can need less than `live_bytes`.
    """
    order = sorted(range(len(buffers)), key=lambda k: (buffers[k].first - buffers[k].last, -buffers[k].size, k))
    least = live_bytes(buffers)
    best = offsets = _placed(buffers, order)
    for _ in range(_ROUNDS):
        if extent_of(buffers, best) <= least:
            break
        highest = max(order, key=lambda k: offsets[k] + buffers[k].size)
        order = [highest, *(k for k in order if k != highest)]
        offsets = _placed(buffers, order)
        best = min(best, offsets, key=lambda found: extent_of(buffers, found))
    return best


def extent_of(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """The bytes that buffers at those offsets take up together."""
    return max((_aligned(o + b.size) for o, b in zip(offsets, buffers, strict=True)), default=0)


def live_bytes(buffers: Sequence[Buffer]) -> int:
    """The largest sum of the sizes, rounded up to whole lines, of buffers that live at once."""
    moments = {b.first for b in buffers}
    return max((sum(_aligned(b.size) for b in buffers if b.first <= m <= b.last) for m in moments), default=0)


def _placed(buffers: Sequence[Buffer], order: Sequence[int]) -> list[int]:
    """The offsets when each buffer, in that order, takes the lowest place that those before it leave."""
    offsets = [0] * len(buffers)
    for n, k in enumerate(order):
        mine, offset = buffers[k], 0
        rivals = [j for j in order[:n] if buffers[j].first <= mine.last and mine.first <= buffers[j].last]
        for j in sorted(rivals, key=lambda j: offsets[j]):
            if offset + mine.size <= offsets[j]:
                break
            offset = max(offset, _aligned(offsets[j] + buffers[j].size))
        offsets[k] = offset
    return offsets


def _aligned(offset: int) -> int:
    return -(-offset // marks.ALIGNMENT) * marks.ALIGNMENT


def _plan(function: func.FuncOp) -> None:
    body = [op.operation for op in function.entry_block.operations]
    position = {op: k for k, op in enumerate(body)}
    allocations = [op for op in body if _is_static_allocation(op)]
    for op in [op for op in allocations if not is_used(op.results[0])]:
        allocations.remove(op)
        op.erase()
    if not allocations:
        return
    for op in allocations:
        for use in [use.owner for use in op.results[0].uses if use.owner.name == "memref.dealloc"]:
            use.operation.erase()
    buffers = [_lifetime(op, position) for op in allocations]
    offsets = assign_offsets(buffers)
    scratch = _add_argument(function, extent_of(buffers, offsets))
    for op, offset in zip(allocations, offsets, strict=True):
        with ir.InsertionPoint(op), op.location:
            start = arith.ConstantOp(ir.IndexType.get(), offset).result
            view = memref.ViewOp(op.results[0].type, scratch, start, []).result
        op.results[0].replace_all_uses_with(view)
        op.erase()


def _is_static_allocation(op: ir.Operation) -> bool:
    return op.name == "memref.alloc" and ir.MemRefType(op.results[0].type).has_static_shape


def _lifetime(op: ir.Operation, position: dict[ir.Operation, int]) -> Buffer:
    type_ = ir.MemRefType(op.results[0].type)
    used = [position[outermost(use.owner.operation)] for use in op.results[0].uses]
    return Buffer(math.prod(type_.shape) * element_bytes(type_.element_type), min(used), max(used))


def _add_argument(function: func.FuncOp, size: int) -> ir.Value:
    """A memref argument of `size` bytes, ahead of the outputs."""
    block, argument_marks = function.entry_block, marks.argument_marks(function)
    place = next((k for k, m in enumerate(argument_marks) if marks.OUTPUT in m), len(argument_marks))
    type_ = ir.MemRefType.get([size], ir.IntegerType.get_signless(8))
    scratch = block.add_argument(type_, function.location)
    for argument in list(block.arguments)[place:-1]:  # the rest moves behind it
        argument.replace_all_uses_with(block.add_argument(argument.type, function.location))
    for _ in argument_marks[place:]:
        block.erase_argument(place)
    set_function(function, [*argument_marks[:place], {marks.SCRATCH: ir.UnitAttr.get()}, *argument_marks[place:]])
    return scratch
