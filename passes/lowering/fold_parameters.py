"""The building half of `morph-fold-scale`: the scale, shift and scaled weights as memrefs."""

from __future__ import annotations

from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import arith, memref

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import downcast, substitute
from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.arithmetic import ARITHMETIC
from loopmorph.passes.building.erase import erase_unused
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.lowering.contraction import Weight
from loopmorph.passes.lowering.linear_term import Linear, Number, Term, add, emit, multiply
from loopmorph.passes.nest import Access, Nest


@dataclass(frozen=True)
class Fold:
    """One affine step that can be folded.

    Attributes:
        consumer: the nest of the affine step.
        start: the nest that stores t's start value.
        contraction: the nest that accumulates into t.
        before: t.
        after: y.
        axis: t's axis along which scale and shift vary, None where they do not.
        linear: the step.
        elements: weight -> (its reads, channel of an element over the weight's axes).
    """

    consumer: Nest
    start: Nest
    contraction: Nest
    before: ir.Value
    after: ir.Value
    axis: int | None
    linear: Linear
    elements: dict[ir.Value, tuple[list[Weight], ir.AffineExpr | None]]

    @property
    def channels(self) -> int:
        return 1 if self.axis is None else ir.MemRefType(self.before.type).shape[self.axis]


def fold_parameters(step: Fold, parameters: set[ir.Value]) -> list[ir.Value]:
    """Builds the new memrefs at the current insertion point and redirects the two nests that write t to them.

    Args:
        step: the step to fold.
        parameters: memrefs that depend on parameters alone.

    Returns:
        The new memrefs, which depend on parameters alone too.
    """
    (write,) = step.start.stores
    start = write.op.operands[0]
    channel = None if step.axis is None else write.exprs[step.axis]
    copier = _Copier(step, channel)
    new: list[ir.Value] = []
    if step.linear.scale is not Number.ONE:
        scale = copier.per_channel(step.linear.scale)
        new = [scale, *(_scaled_weight(step, w, reads, c, scale) for w, (reads, c) in step.elements.items())]
    if copier.can_copy(start, parameters):
        term = Number.ZERO if _is_zero(start) else start
        shift = copier.per_channel(add(multiply(term, step.linear.scale), step.linear.shift))
        _redirect_start(step, write, channel, [shift])
    else:
        shift = copier.per_channel(step.linear.shift)
        _redirect_start(step, write, channel, [*new[:1], shift], keep=True)
    return [*new, shift]


class _Copier:
    """Builds values that the consumer and the start-value nest compute for a channel, in a nest over channels."""

    def __init__(self, step: Fold, channel: ir.AffineExpr | None) -> None:
        self._step = step
        self._start = {a.op: a for a in step.start.loads}
        self._consumer = {a.op: a for a in step.consumer.loads}
        self._channel = channel
        self._element = ir.MemRefType(step.before.type).element_type

    def can_copy(self, value: ir.Value, parameters: set[ir.Value]) -> bool:
        """Whether a value of the start-value nest depends on parameters, and on the channel alone of the loops."""
        op = definition(value)
        if op is None:
            return False
        if op in self._start:
            access = self._start[op]
            return access.memref in parameters and all(self._start_index(e) is not None for e in access.exprs)
        if op.parent.name == "func.func":
            return op.name == "arith.constant"
        return op.name.startswith(ARITHMETIC) and all(self.can_copy(v, parameters) for v in op.operands)

    def per_channel(self, term: Term) -> ir.Value:
        """A new memref, one element per channel, and the nest that fills it with the term's values."""
        step = self._step
        result = memref.AllocOp(ir.MemRefType.get([step.channels], self._element), [], []).result

        def body(variables: list[ir.Value]) -> None:
            value = emit(term, self._element, lambda leaf: self._copy(leaf, variables))
            store(value, result, ir.AffineMap.get_identity(1), variables)

        location = step.consumer.root.location
        build_nest(NestHeader(("c",), (step.channels,), _marks(step.contraction)), body, location)
        return result

    def _copy(self, value: ir.Value, variables: list[ir.Value]) -> ir.Value:
        op = definition(value)
        if op is None or op.parent.name == "func.func":
            return value
        if op in self._consumer:
            access = self._consumer[op]
            return _load(access, [self._consumer_index(e) for e in access.exprs], variables)
        if op in self._start:
            access = self._start[op]
            return _load(access, [self._start_index(e) for e in access.exprs], variables)
        operands = [self._copy(operand, variables) for operand in op.operands]
        clone = op.clone()
        for position, operand in enumerate(operands):
            clone.operands[position] = operand
        return clone.results[0]

    def _consumer_index(self, expr: ir.AffineExpr) -> ir.AffineExpr:
        """An index of the consumer over the channel: of its loops only the channel's takes more than one value."""
        step = self._step
        (write,) = step.consumer.stores
        zero, channel = ir.AffineExpr.get_constant(0), ir.AffineExpr.get_dim(0)
        replacement = {d: zero for d in range(len(step.consumer.loops))}
        if step.axis is not None:
            replacement[downcast(write.exprs[step.axis]).position] = channel
        return substitute(expr, replacement, len(step.consumer.loops))

    def _start_index(self, expr: ir.AffineExpr) -> ir.AffineExpr | None:
        if self._channel is not None and expr == self._channel:
            return ir.AffineExpr.get_dim(0)
        return expr if isinstance(downcast(expr), ir.AffineConstantExpr) else None


def _scaled_weight(
    step: Fold, weight: ir.Value, reads: list[Weight], channel: ir.AffineExpr | None, scale: ir.Value
) -> ir.Value:
    """`scaled[i] = weight[i] * scale[channel(i)]`, read in the contraction in the weight's place."""
    type_ = ir.MemRefType(weight.type)
    rank = type_.rank
    result = memref.AllocOp(ir.MemRefType.get(type_.shape, type_.element_type), [], []).result
    identity = ir.AffineMap.get_identity(rank)
    channels = ir.AffineMap.get(rank, 0, [ir.AffineExpr.get_constant(0) if channel is None else channel])

    def body(variables: list[ir.Value]) -> None:
        product = arith.MulFOp(load(weight, identity, variables), load(scale, channels, variables)).result
        store(product, result, identity, variables)

    header = NestHeader(tuple(f"i{d}" for d in range(rank)), tuple(type_.shape), _marks(step.contraction))
    build_nest(header, body, step.contraction.root.location)
    for read in reads:
        read.load.op.operands[0] = result
    return result


def _redirect_start(
    step: Fold, write: Access, channel: ir.AffineExpr | None, vectors: list[ir.Value], *, keep: bool = False
) -> None:
    """Makes the start value `shift[channel]`, or `start * scale[channel] + shift[channel]` where it is to be kept."""
    old = write.op.operands[0]
    expr = ir.AffineExpr.get_constant(0) if channel is None else channel
    map_ = ir.AffineMap.get(len(step.start.loops), 0, [expr])
    variables = [loop.variable for loop in step.start.loops]
    with ir.InsertionPoint(write.op), write.op.location:
        *scale, value = (load(vector, map_, variables) for vector in vectors)
        if keep:
            scaled = arith.MulFOp(old, scale[0]).result if scale else old
            value = arith.AddFOp(scaled, value).result
    write.op.operands[0] = value
    erase_unused(old)


def _load(access: Access, exprs: list[ir.AffineExpr | None], variables: list[ir.Value]) -> ir.Value:
    return load(access.memref, ir.AffineMap.get(1, 0, exprs), variables)


def _is_zero(value: ir.Value) -> bool:
    op = definition(value)
    return op is not None and op.name == "arith.constant" and ir.FloatAttr(op.attributes["value"]).value == 0.0


def _marks(nest: Nest) -> dict[str, str]:
    return {marks.LAYER: nest.layer, marks.NODE: marks.get_text(nest.root, marks.NODE), marks.ROLE: marks.PROLOGUE}
