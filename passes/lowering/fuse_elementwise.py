"""`morph-fuse-elementwise`: merge an element-wise nest into the one nest that reads its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.affine_expr import downcast
from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.base import Pass
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import Access, Nest, functions, view_nest

SCOPES = ("layer", "function")


@dataclass(frozen=True)
class FuseElementwise(Pass):
    """Fuses producer and consumer nests over the same iteration space, and drops the memref between them.

    Before:

        affine.for %i = 0 to 8 { %a = affine.load %x[%i]  %b = math.rsqrt %a  affine.store %b, %t[%i] }
        affine.for %i = 0 to 8 { %c = affine.load %t[%i]  %d = arith.mulf %c, %g  affine.store %d, %y[%i] }

    After:

        affine.for %i = 0 to 8 {
          %a = affine.load %x[%i]  %b = math.rsqrt %a  %d = arith.mulf %b, %g  affine.store %d, %y[%i]
        }

    Requires, of each pair fused (others are left as they are): both nests perfect, rectangular and of equal extents;
    the producer stores one value per point to a `memref.alloc` that only the consumer reads, both at the loops'
    own indices; nothing that the producer reads is written between the two.

    Options:
        scope: "layer" fuses only nests of one layer (so that layers stay addressable), "function" any.
    """

    name: ClassVar[str] = "morph-fuse-elementwise"
    scope: str = "function"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scope not in SCOPES:
            raise ArgumentError("scope", f"expected one of {', '.join(SCOPES)}, got '{self.scope}'")

    def run(self, module: ir.Operation) -> None:
        with module.context:
            for function in functions(module):
                block = function.entry_block
                roots = [op for op in block.operations if isinstance(op, affine.AffineForOp)]
                for root in roots:  # in program order, so that a chain ends up in its last nest
                    self._fuse_into_reader(view_nest(root))

    def _fuse_into_reader(self, producer: Nest) -> None:
        buffer = _elementwise_result(producer)
        if buffer is None:
            return
        reader = _only_reader(buffer, producer)
        if reader is None:
            return
        consumer = view_nest(reader)
        if self.scope == "layer" and consumer.layer != producer.layer:
            return
        loads = [a for a in consumer.loads if a.memref == buffer]
        if not _same_space(producer, consumer) or not all(_is_identity(a, len(consumer.loops)) for a in loads):
            return
        if _overwritten_between(producer, consumer):
            return
        _merge(producer, consumer, loads)


def _elementwise_result(nest: Nest) -> ir.Value | None:
    """The local memref to which the nest stores one value per point, at the point's own index."""
    if len(nest.stores) != 1 or nest.is_vectorised or not nest.is_perfect or not nest.is_rectangular:
        return None
    (store,) = nest.stores
    local = isinstance(store.memref.owner, ir.Operation | ir.OpView) and store.memref.owner.name == "memref.alloc"
    recurrent = any(load.memref == store.memref for load in nest.loads)
    return store.memref if local and not recurrent and _is_identity(store, len(nest.loops)) else None


def _only_reader(buffer: ir.Value, producer: Nest) -> affine.AffineForOp | None:
    """The one nest other than the producer that uses the buffer, if all it does is load."""
    (store,) = producer.stores
    roots: set[ir.Operation] = set()
    for use in buffer.uses:
        if use.owner == store.op:
            continue
        if use.owner.name != "affine.load":
            return None
        roots.add(_outermost(use.owner))
    if len(roots) != 1:
        return None
    root = roots.pop().opview
    return root if isinstance(root, affine.AffineForOp) else None


def _outermost(op: ir.Operation) -> ir.Operation:
    while op.parent is not None and op.parent.name != "func.func":
        op = op.parent.operation
    return op


def _same_space(a: Nest, b: Nest) -> bool:
    return b.is_perfect and b.is_rectangular and a.extents == b.extents


def _is_identity(access: Access, n_loops: int) -> bool:
    positions = [downcast(e) for e in access.exprs]
    return [e.position if isinstance(e, ir.AffineDimExpr) else None for e in positions] == list(range(n_loops))


def _overwritten_between(producer: Nest, consumer: Nest) -> bool:
    """Whether something that the producer reads changes before, or while, the consumer reads its result."""
    start, end = producer.root.operation, consumer.root.operation
    for memref in effects(start).reads:
        users = {_outermost(use.owner.operation) for use in memref.uses} - {start}
        between = (op for op in users if start.is_before_in_block(op) and (op == end or op.is_before_in_block(end)))
        if any(memref in effects(op).writes for op in between):
            return True
    return False


def _merge(producer: Nest, consumer: Nest, loads: Sequence[Access]) -> None:
    (store,) = producer.stores
    value, buffer = store.op.operands[0], store.memref
    for mine, theirs in zip(producer.loops, consumer.loops, strict=True):
        mine.variable.replace_all_uses_with(theirs.variable)
    first = next(iter(consumer.loops[-1].op.body.operations)).operation
    for op in producer.body:
        if op != store.op:
            op.move_before(first)
    for load in loads:
        load.op.results[0].replace_all_uses_with(value)
        load.op.erase()
    producer.root.operation.erase()
    buffer.owner.erase()
