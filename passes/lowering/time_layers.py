"""`morph-time-layers`: `@run` notes when each layer begins, for a profile of the network as it is compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine, arith, func, scf

from loopmorph.passes import marks
from loopmorph.passes.base import Pass
from loopmorph.passes.building.arguments import find_function, require_run, set_function
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import NATIVE

# LLVM's cycle counter cannot be read by programs on AArch64; its steady counter is not there on x86.
_COUNTERS = {"x86_64": "llvm.readcyclecounter"}
_STEADY = "llvm.readsteadycounter"


@dataclass(frozen=True)
class TimeLayers(Pass):
    """Stores the processor's clock where a layer begins and at the end.

    Before:

        func.func @run(%x, %y) {
          affine.for ... {morph.layer = "conv1"}   affine.for ... {morph.layer = "conv2"}   return
        }

    After:

        func.func @run(%x, %y, %clock: memref<3xi64> {morph.clock = ["conv1", "conv2"]}) {
          %t0 = llvm.call_intrinsic "llvm.readcyclecounter"()   affine.store %t0, %clock[0]
          affine.for ... {morph.layer = "conv1"}
          %t1 = ...   affine.store %t1, %clock[1]   affine.for ... {morph.layer = "conv2"}
          %t2 = ...   affine.store %t2, %clock[2]   return
        }

    A layer has several entries where its nests do not follow each other. What comes before a nest (a barrier, a
    view) counts to the layer before it, which is what a barrier waits for. Of several threads (see `morph-spmd`)
    thread 0 stores. Ticks are those of a clock that runs evenly, whatever the core's frequency.

    Requires: a function `@run`.

    Options:
        target: the processor (see `loopmorph.passes.target`).
    """

    name: ClassVar[str] = "morph-time-layers"
    target: str = NATIVE

    def __post_init__(self) -> None:
        super().__post_init__()
        resolve_target(self.target)

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            function = require_run(module, self.name)
            begins = _begins(function)
            clock = _add_clock(function, [layer for layer, _ in begins])
            *_, end = function.entry_block.operations
            thread, arch = _thread(function), resolve_target(self.target).arch
            for position, op in enumerate([*(op for _, op in begins), end.operation]):
                with ir.InsertionPoint(op):
                    _stamp(clock, position, thread, arch)


def timed_layers(module: ir.Operation) -> tuple[str, ...]:
    """The layers whose beginnings `@run` stores in its clock, in order; none if it has no clock."""
    function = find_function(module, marks.RUN)
    for attributes in [] if function is None else marks.argument_marks(function):
        if marks.CLOCK in attributes:
            return tuple(ir.StringAttr(layer).value for layer in attributes[marks.CLOCK])
    return ()


def _begins(function: func.FuncOp) -> list[tuple[str, ir.Operation]]:
    """The layers in the order of their nests, each with its first operation."""
    found: list[tuple[str, ir.Operation]] = []
    for op in [op.operation for op in function.entry_block.operations]:
        layer = marks.get_text(op, marks.LAYER)
        if layer and (not found or found[-1][0] != layer):
            found.append((layer, op))
    return found


def _thread(function: func.FuncOp) -> ir.Value | None:
    """The argument that says which thread executes the function."""
    mine = zip(function.entry_block.arguments, marks.argument_marks(function), strict=True)
    return next((value for value, attributes in mine if marks.THREAD in attributes), None)


def _add_clock(function: func.FuncOp, layers: list[str]) -> ir.Value:
    old = marks.argument_marks(function)
    type_ = ir.MemRefType.get([len(layers) + 1], ir.IntegerType.get_signless(64))
    clock = function.entry_block.add_argument(type_, function.location)
    set_function(function, [*old, {marks.CLOCK: ir.ArrayAttr.get([ir.StringAttr.get(layer) for layer in layers])}])
    return clock


def _stamp(clock: ir.Value, position: int, thread: ir.Value | None, arch: str) -> None:
    """Stores the time at a position of the clock; of several threads the first one does."""
    if thread is None:
        _store_time(clock, position, arch)
        return
    first = arith.ConstantOp(ir.IndexType.get(), 0).result
    guard = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.eq, thread, first).result)
    with ir.InsertionPoint(guard.then_block):
        _store_time(clock, position, arch)
        scf.YieldOp([])


def _store_time(clock: ir.Value, position: int, arch: str) -> None:
    attributes = {
        "intrin": ir.StringAttr.get(_COUNTERS.get(arch, _STEADY)),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([0, 0]),
        "op_bundle_sizes": ir.DenseI32ArrayAttr.get([]),
    }
    ticks = ir.Operation.create("llvm.call_intrinsic", results=[clock.type.element_type], attributes=attributes)
    place = ir.AffineMap.get(0, 0, [ir.AffineExpr.get_constant(position)])
    affine.AffineStoreOp(ticks.result, clock, [], map=ir.AffineMapAttr.get(place))
