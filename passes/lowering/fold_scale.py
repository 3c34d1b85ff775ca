"""`morph-fold-scale`: fold a per-channel affine step into the weights and the start value of what it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine, arith, func

from loopmorph.passes.affine_expr import downcast, used_dims
from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.analysis.memory.dataflow import ParameterWork, outermost, parameter_work
from loopmorph.passes.arithmetic import ARITHMETIC
from loopmorph.passes.base import Pass
from loopmorph.passes.lowering.contraction import Weight, channel_of_element, stays_within, weights
from loopmorph.passes.lowering.fold_parameters import Fold, fold_parameters
from loopmorph.passes.lowering.linear_term import Linear, Number, leaves, linear_in
from loopmorph.passes.nest import Access, Nest, function_roots, functions, view_nest

_UNBOUNDED = 2**31


@dataclass(frozen=True)
class FoldScale(Pass):
    """Folds `y = t * A + B`, with t the result of an accumulating nest, into that nest's weights and start value.

    BatchNorm after a convolution and the bias of a linear layer disappear in this way. A and B may be any expressions
    of values that depend on parameters alone and are indexed along one axis of t only.

    Before (the loops around each body left out; w, a and b depend on parameters alone):

        affine.store %zero, %t[%n, %co]
        %p = arith.mulf %x[%n, %ci], %w[%co, %ci]   %s = arith.addf %t[%n, %co], %p   affine.store %s, %t[%n, %co]
        %q = arith.mulf %t[%n, %co], %a[%co]        %y = arith.addf %q, %b[%co]       affine.store %y, %out[%n, %co]

    After:

        affine.store %a[%co], %scale[%co]           affine.store %b[%co], %shift[%co]
        %v = arith.mulf %w[%co, %ci], %scale[%co]   affine.store %v, %scaled[%co, %ci]
        affine.store %shift[%co], %out[%n, %co]
        %p = arith.mulf %x[%n, %ci], %scaled[%co, %ci]   %s = arith.addf %out[%n, %co], %p   ...

    Requires, of each step folded (others are left as they are): a perfect, rectangular nest over the whole of y that is
    the only reader of t; t a `memref.alloc` written by one start-value nest and by one nest whose every store is
    `t[i] = t[i] + terms`, each term (unless A is 1) with one parameter as a factor, whose element's index tells the
    channel. Only the output is scaled, so padding keeps its meaning. What depends on parameters alone moves to the
    function's start.
    """

    name: ClassVar[str] = "morph-fold-scale"

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for function in functions(module):
                _fold_function(function)


def _fold_function(function: func.FuncOp) -> None:
    work = parameter_work(function)
    if not work.ops:
        return
    anchor = _hoist(work, function)
    own = set(work.ops)
    for root in function_roots(function):
        if root.operation not in own:
            step = _analyze(view_nest(root), work.memrefs)
            if step is not None:
                with ir.InsertionPoint(anchor):
                    work.memrefs.update(fold_parameters(step, work.memrefs))
                _remove_consumer(step)
    anchor.erase()


def _analyze(consumer: Nest, parameters: set[ir.Value]) -> Fold | None:
    if consumer.is_vectorised or not consumer.is_perfect or not consumer.is_rectangular or len(consumer.stores) != 1:
        return None
    (written,) = consumer.stores
    before = {a.memref for a in consumer.loads} - parameters
    if len(before) != 1 or not _covers_memref(written, consumer):
        return None
    (source,) = before
    read = [a for a in consumer.loads if a.memref == source]
    if any(a.exprs != written.exprs for a in read) or source.type != written.memref.type:
        return None
    nests = _start_and_contraction(source, consumer)
    if nests is None or not _written_only_by(written):
        return None
    reads = {a.op for a in read}
    linear = linear_in(written.op.operands[0], lambda value: definition(value) in reads)
    if linear is None or linear.scale is Number.ZERO:
        return None
    varying = _varying_loops([*leaves(linear.scale), *leaves(linear.shift)], consumer, parameters)
    if varying is None or len(varying) > 1:
        return None
    axis = next((k for k, e in enumerate(written.exprs) if used_dims(e) & varying), None)
    elements = _elements(nests[1], source, axis, parameters, linear)
    if elements is None:
        return None
    return Fold(consumer, *nests, source, written.memref, axis, linear, elements)


def _covers_memref(access: Access, nest: Nest) -> bool:
    """Whether the access visits each element of its memref once: a permutation of the loops, extents as the shape."""
    positions = [e.position for e in map(downcast, access.exprs) if isinstance(e, ir.AffineDimExpr)]
    shape = list(ir.MemRefType(access.memref.type).shape)
    return sorted(positions) == list(range(len(nest.loops))) and [nest.extents[p] for p in positions] == shape


def _written_only_by(access: Access) -> bool:
    writers = [use.owner for use in access.memref.uses if use.owner.name != "affine.load"]
    return [op.operation for op in writers] == [access.op]


def _start_and_contraction(source: ir.Value, consumer: Nest) -> tuple[Nest, Nest] | None:
    """The two nests that write t, if t is local and nothing else but the consumer touches it."""
    owner = definition(source)
    if owner is None or owner.name != "memref.alloc":
        return None
    roots = {outermost(use.owner.operation) for use in source.uses} - {consumer.root.operation}
    if len(roots) != 2 or not all(isinstance(op.opview, affine.AffineForOp) for op in roots):
        return None
    first, second = roots
    ordered = (first, second) if first.is_before_in_block(second) else (second, first)
    start, contraction = (view_nest(op.opview) for op in ordered)
    if start.is_vectorised or contraction.is_vectorised or len(start.stores) != 1:
        return None
    if consumer.root.operation.is_before_in_block(contraction.root.operation):
        return None
    seen = sum(a.memref == source for nest in (start, contraction, consumer) for a in nest.accesses)
    if seen != len(list(source.uses)) or any(a.memref == source for a in start.loads):
        return None
    return start, contraction


def _varying_loops(values: list[ir.Value], nest: Nest, parameters: set[ir.Value]) -> set[int] | None:
    """Positions of the loops that the values depend on; None where they depend on more than parameters."""
    accesses = {a.op: a for a in nest.accesses}
    found: set[int] = set()
    pending = list(values)
    while pending:
        op = definition(pending.pop())
        if op is None:
            return None
        access = accesses.get(op)
        if access is not None:
            if access.memref not in parameters:
                return None
            found |= {d for e in access.exprs for d in used_dims(e) if nest.extents[d] != 1}
        elif op.name.startswith(ARITHMETIC):
            pending += op.operands
        else:
            return None
    return found


def _elements(
    contraction: Nest, result: ir.Value, axis: int | None, parameters: set[ir.Value], linear: Linear
) -> dict[ir.Value, tuple[list[Weight], ir.AffineExpr | None]] | None:
    scaled = linear.scale is not Number.ONE
    found = weights(contraction, result, axis, parameters, proportional=scaled)
    if found is None:
        return None
    by_weight: dict[ir.Value, list[Weight]] = {}
    for weight in found:
        by_weight.setdefault(weight.load.memref, []).append(weight)
    extents = tuple(e or 0 for e in contraction.extents)
    extents = extents if contraction.is_rectangular else (_UNBOUNDED,) * len(extents)
    elements: dict[ir.Value, tuple[list[Weight], ir.AffineExpr | None]] = {}
    element = ir.MemRefType(result.type).element_type
    for memref_, reads in by_weight.items():
        if ir.MemRefType(memref_.type).element_type != element:
            return None
        channel = None if axis is None else channel_of_element(reads, extents)
        if axis is not None:
            limit = ir.MemRefType(result.type).shape[axis]
            if channel is None or not stays_within(channel, tuple(ir.MemRefType(memref_.type).shape), limit):
                return None
        elements[memref_] = (reads, channel)
    return elements


def _remove_consumer(step: Fold) -> None:
    step.consumer.root.operation.erase()
    kept, dropped = (step.before, step.after) if definition(step.after) else (step.after, step.before)
    dropped.replace_all_uses_with(kept)
    dropped.owner.erase()


def _hoist(work: ParameterWork, function: func.FuncOp) -> ir.Operation:
    """Moves the parameters' work, in its order, ahead of all other; returns an operation between them, to be erased."""
    own = set(work.ops)
    first = next(op.operation for op in function.entry_block.operations if op.operation not in own)
    for op in work.ops:
        op.move_before(first)
    # What folding removes may be the first operation itself.
    return arith.ConstantOp(ir.IndexType.get(), 0, ip=ir.InsertionPoint(first)).operation
