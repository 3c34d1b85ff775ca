"""`morph-spmd`: `@run` for several threads, all of which execute it, each with its own number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine, arith, func, scf

from loopmorph.passes import marks
from loopmorph.passes.analysis.bounds import constants
from loopmorph.passes.analysis.dependence.aliasing import VIEWS
from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.base import Pass
from loopmorph.passes.building.arguments import require_run, set_function
from loopmorph.passes.building.nest_builder import compress
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.parallelize import parallel_loop, require_parallel_shape
from loopmorph.passes.nest import Loop, view_nest
from loopmorph.passes.spmd.conflicts import FIRST, Touch, in_conflict, nest_touches, region
from loopmorph.passes.spmd.runtime import BARRIER, barrier_text
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import NATIVE

_STORES = frozenset({"affine.store", "affine.vector_store", "memref.store", "vector.store"})
_INHERENT = frozenset({"lowerBoundMap", "upperBoundMap", "step", "operandSegmentSizes"})


@dataclass(frozen=True)
class Spmd(Pass):
    """Cuts the marked loops of `@run` into one chunk for each thread: `morph-spmd{threads=2}`.

    Before:

        func.func @run(%x, %y) {
          affine.for %co = 0 to 64 { ... } {morph.parallel}   affine.for %i = 0 to 10 { ... }   return
        }

    After:

        func.func @run(%thread: index {morph.thread}, %team: i64 {morph.team}, %x, %y) {
          affine.for %co = %thread * 32 to %thread * 32 + 32 { ... }
          llvm.call @morph.barrier(%team)
          affine.for %i = %thread * 10 to 10 { ... }   return
        }

    All threads execute the function. Of a loop marked `morph.parallel` (see `morph-parallelize`) each runs its chunk;
    chunks are contiguous and differ in length by at most one iteration. Nests without a mark run on thread 0. A barrier
    stands before what touches memory that another thread may have touched since the last barrier, unless both only
    read it, or each thread stays in its own part of one memref.

    Requires: a function `@run` whose body holds nests, scalar operations, loads, stores and views, no allocation (see
    `morph-plan-scratch`).

    Options:
        threads: the number of threads, at least 2.
        target: the processor (see `loopmorph.passes.target`).
    """

    name: ClassVar[str] = "morph-spmd"
    threads: int
    target: str = NATIVE

    def __post_init__(self) -> None:
        super().__post_init__()
        resolve_target(self.target)
        if self.threads < 2:
            raise ArgumentError("threads", f"expected at least 2, got {self.threads}")

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            function = require_run(module, self.name)
            steps = _steps(function, self.threads)
            thread, team = _add_arguments(function)
            arch = resolve_target(self.target).arch
            _Builder(function, thread, team, self.threads, arch).build(steps)


@dataclass(frozen=True)
class _Statement:
    """One operation of the function's body that touches memory.

    Attributes:
        op: the operation.
        loop: the loop to cut; None where one thread runs all of it.
        guarded: whether it is to run on thread 0 only.
        touches: what it touches.
        barrier: whether a barrier has to come first.
    """

    op: ir.Operation
    loop: Loop | None
    guarded: bool
    touches: tuple[Touch, ...]
    barrier: bool


def _steps(function: func.FuncOp, threads: int) -> list[_Statement]:
    """What is to be done with each operation; changes nothing."""
    steps: list[_Statement] = []
    pending: list[Touch] = []
    for op in [op.operation for op in function.entry_block.operations]:
        if op.name in VIEWS or op.name == "func.return":
            continue
        loop, guarded, touches = _classify(op, threads)
        if not touches:
            continue
        barrier = any(in_conflict(old, new) for old in pending for new in touches)
        pending = [*([] if barrier else pending), *touches]
        steps.append(_Statement(op, loop, guarded, tuple(touches), barrier))
    return steps


def _classify(op: ir.Operation, threads: int) -> tuple[Loop | None, bool, list[Touch]]:
    touched = effects(op)
    if op.name == "affine.for" and not len(op.results):
        nest = view_nest(op.opview)
        loop = parallel_loop(nest)
        if loop is not None:
            require_parallel_shape(nest, loop)
            return loop, False, nest_touches(nest, loop, threads)
        return None, True, _plain(touched.reads, touched.writes, FIRST)
    if not touched.writes and op.name not in ("memref.alloc", "memref.alloca", "memref.dealloc"):
        return None, False, _plain(touched.reads, (), None)  # every thread needs the result
    if op.name in _STORES:
        return None, True, _plain(touched.reads, touched.writes, FIRST)
    raise IllegalTransform(f"{op.name} at {op.location}", "it cannot be divided among threads")


def _plain(reads: Iterable[ir.Value], writes: Iterable[ir.Value], owner: str | None) -> list[Touch]:
    pairs = [*((m, False) for m in reads), *((m, True) for m in writes)]
    return [Touch(m, region(m), written, owner) for m, written in pairs]


def _add_arguments(function: func.FuncOp) -> tuple[ir.Value, ir.Value]:
    """Puts the thread's number and the team's address ahead of the other arguments."""
    block, old_marks = function.entry_block, marks.argument_marks(function)
    old = list(block.arguments)
    for type_ in (ir.IndexType.get(), ir.IntegerType.get_signless(64)):
        block.add_argument(type_, function.location)
    for argument in old:
        argument.replace_all_uses_with(block.add_argument(argument.type, function.location))
    for _ in old:
        block.erase_argument(0)
    unit = ir.UnitAttr.get()
    set_function(function, [{marks.THREAD: unit}, {marks.TEAM: unit}, *old_marks])
    return block.arguments[0], block.arguments[1]


class _Builder:
    """Rewrites the body of one function."""

    def __init__(self, function: func.FuncOp, thread: ir.Value, team: ir.Value, threads: int, arch: str) -> None:
        self._function = function
        self._thread = thread
        self._team = team
        self._threads = threads
        self._arch = arch

    def build(self, steps: Sequence[_Statement]) -> None:
        for step in steps:
            if step.barrier:
                self._barrier(step.op)
            if step.loop is not None:
                self._cut(step.loop)
            elif step.guarded:
                self._guard(step.op)
        if any(step.barrier for step in steps):
            _add_barrier(self._function, self._threads, self._arch)

    def _barrier(self, before: ir.Operation) -> None:
        attributes = {
            "callee": ir.FlatSymbolRefAttr.get(BARRIER),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0]),
            "op_bundle_sizes": ir.DenseI32ArrayAttr.get([]),
        }
        with ir.InsertionPoint(before):
            ir.Operation.create("llvm.call", operands=[self._team], attributes=attributes)

    def _cut(self, loop: Loop) -> None:
        """The chunk that begins at `floor(E * thread / N)` of the E iterations."""
        low, step = _lower(loop.op), ir.IntegerAttr(loop.op.attributes["step"]).value
        extent, dim = loop.extent or 0, ir.AffineExpr.get_dim(0)

        def place(number: ir.AffineExpr) -> ir.AffineExpr:
            if extent % self._threads == 0:
                return ir.AffineExpr.simplify_affine_expr(number * (extent // self._threads * step) + low, 1, 0)
            return ir.AffineExpr.get_floor_div(number * extent, self._threads) * step + low

        _rebound(loop.op, place(dim), place(dim + 1), self._thread)

    def _guard(self, op: ir.Operation) -> None:
        """Runs the operation on thread 0 only: a nest of known bounds is empty on the others."""
        if op.name == "affine.for":
            (upper,) = constants(op.opview.upperBoundMap.value.results[:1]) or (None,)
            if upper is not None and len(op.opview.upperBoundMap.value.results) == 1 and _has_constant_lower(op.opview):
                low, dim = _lower(op.opview), ir.AffineExpr.get_dim(0)
                end = ir.AffineExpr.get_constant(upper)
                _rebound(op.opview, dim * max(upper - low, 0) + low, end, self._thread)
                return
        with ir.InsertionPoint(op), op.location:
            zero = arith.ConstantOp(ir.IndexType.get(), 0).result
            is_first = arith.CmpIOp(arith.CmpIPredicate.eq, self._thread, zero).result
            guard = scf.IfOp(is_first)
            with ir.InsertionPoint(guard.then_block):
                end = scf.YieldOp([])
        op.move_before(end.operation)


def _has_constant_lower(loop: affine.AffineForOp) -> bool:
    results = loop.lowerBoundMap.value.results
    return len(results) == 1 and len(constants(results)) == 1


def _lower(loop: affine.AffineForOp) -> int:
    (low,) = constants(loop.lowerBoundMap.value.results)
    return low


def _rebound(loop: affine.AffineForOp, lower: ir.AffineExpr, upper: ir.AffineExpr, thread: ir.Value) -> None:
    """Gives a loop without results other bounds, functions of the thread's number; it loses its parallel mark."""
    step = ir.IntegerAttr(loop.attributes["step"]).value
    low, low_operands = compress(ir.AffineMap.get(1, 0, [lower]), [thread])
    high, high_operands = compress(ir.AffineMap.get(1, 0, [upper]), [thread])
    with ir.InsertionPoint(loop), loop.location:
        new = affine.AffineForOp(low, high, step, lower_bound_operands=low_operands, upper_bound_operands=high_operands)
        with ir.InsertionPoint(new.body):
            end = affine.AffineYieldOp([])
    for name in loop.attributes:
        if name not in _INHERENT and name != marks.PARALLEL:
            new.attributes[name] = loop.attributes[name]
    for op in [op.operation for op in loop.body.operations][:-1]:
        op.move_before(end.operation)
    loop.induction_variable.replace_all_uses_with(new.induction_variable)
    loop.operation.erase()


def _add_barrier(function: func.FuncOp, threads: int, arch: str) -> None:
    library = ir.Module.parse(barrier_text(threads, arch))
    with ir.InsertionPoint(function):
        for op in library.body.operations:
            op.operation.clone()
