"""`morph-promote-accumulators`: keep a sum in a register while a loop adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.base import Pass
from loopmorph.passes.nest import functions, walk_loops


@dataclass(frozen=True)
class PromoteAccumulators(Pass):
    """Turns an element that a loop reads, changes and writes back in every iteration into a value that it carries.

    Before:

        affine.for %k = 0 to 9 {
          %s = affine.load %t[%i]   %r = arith.addf %s, %p   affine.store %r, %t[%i]
        }

    After:

        %s0 = affine.load %t[%i]
        %s1 = affine.for %k = 0 to 9 iter_args(%s = %s0) { %r = arith.addf %s, %p   affine.yield %r }
        affine.store %s1, %t[%i]

    The innermost loops come first, so that a sum moves out of all the loops that do not index it.

    Requires, of each loop changed (others are left as they are): constant bounds and at least one iteration; exactly
    one load and one store of the memref in the loop, both directly in its body, the load first, with the same map on
    the same operands from outside. Memrefs that are different values must not overlap.
    """

    name: ClassVar[str] = "morph-promote-accumulators"

    def run(self, module: ir.Operation) -> None:
        with module.context:
            for function in functions(module):
                for op in list(function.entry_block.operations):
                    if isinstance(op, affine.AffineForOp):
                        for loop in reversed(list(walk_loops(op))):
                            _promote(loop)


def _promote(loop: affine.AffineForOp) -> None:
    if len(loop.operation.results) or not _runs(loop):
        return
    pair = _accumulator(loop)
    if pair is None:
        return
    load, store = pair
    with ir.InsertionPoint(loop.operation), loop.location:
        load.move_before(loop.operation)
        carried = affine.AffineForOp(
            loop.lowerBoundMap.value,
            loop.upperBoundMap.value,
            ir.IntegerAttr(loop.attributes["step"]).value,
            [load.results[0]],
        )
    for name in loop.operation.attributes:
        if name.startswith("morph."):
            carried.operation.attributes[name] = loop.operation.attributes[name]
    loop.induction_variable.replace_all_uses_with(carried.induction_variable)
    value = store.operands[0]
    body = [op.operation for op in loop.body.operations]
    with ir.InsertionPoint(carried.body), loop.location:
        end = affine.AffineYieldOp([value])
    for op in body[:-1]:
        if op != store:
            op.move_before(end.operation)
    load.results[0].replace_all_uses_except(carried.inner_iter_args[0], carried.operation)
    store.move_after(carried.operation)
    store.operands[0] = carried.operation.results[0]
    loop.operation.erase()


def _runs(loop: affine.AffineForOp) -> bool:
    bounds = [loop.lowerBoundMap.value, loop.upperBoundMap.value]
    if any(b.n_inputs or len(b.results) != 1 for b in bounds):
        return False
    low, high = (ir.AffineConstantExpr(b.results[0]).value for b in bounds)
    return low < high


def _accumulator(loop: affine.AffineForOp) -> tuple[ir.Operation, ir.Operation] | None:
    """The load and the store of an element that the loop accumulates into."""
    body = [op.operation for op in loop.body.operations]
    stores = [op for op in body if op.name == "affine.store"]
    if not stores:
        return None
    inner = {loop.induction_variable, *(r for op in body for r in op.results)}
    touched = [effect.reads | effect.writes for effect in map(effects, body)]
    for store in stores:
        memref, indices = store.operands[1], list(store.operands)[2:]
        touching = [op for op, memrefs in zip(body, touched, strict=True) if memref in memrefs]
        if len(touching) != 2 or touching[1] != store or inner & {memref, *indices}:
            continue
        load = touching[0]
        same = load.name == "affine.load" and list(load.operands)[1:] == indices
        if same and load.attributes["map"] == store.attributes["map"]:
            return load, store
    return None
