"""Builds the body of a loop for several of its iterations at once, as the lanes of vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import arith, vector

from loopmorph.passes.analysis.structure import body_of
from loopmorph.passes.building.nest_builder import load, store, vector_load, vector_store
from loopmorph.passes.building.vector_access import LaneAccess
from loopmorph.passes.building.widen import as_vector, is_constant, vector_type, widen
from loopmorph.passes.nest import Loop

# The combination of all lanes, as `vector.reduction` spells it, for each operation that can reduce.
REDUCTION_KINDS = {
    "arith.addf": "add",
    "arith.addi": "add",
    "arith.mulf": "mul",
    "arith.muli": "mul",
    "arith.maximumf": "maximumf",
    "arith.minimumf": "minimumf",
    "arith.maxnumf": "maxnumf",
    "arith.minnumf": "minnumf",
    "arith.andi": "and",
    "arith.ori": "or",
    "arith.xori": "xor",
    "arith.maxsi": "maxsi",
    "arith.maxui": "maxui",
    "arith.minsi": "minsi",
    "arith.minui": "minui",
}
_LANES_EACH = 4  # an element for at least so many lanes is broadcast and blended, not put in lane by lane
_NEUTRAL_FLOATS = {
    "add": -0.0,  # 0.0 would turn a sum of -0.0 into 0.0
    "mul": 1.0,
    "maximumf": -math.inf,
    "minimumf": math.inf,
    "maxnumf": math.nan,  # the other operand wins over NaN
    "minnumf": math.nan,
}


@dataclass(frozen=True)
class LaneReduction:
    """`store(combine(load, value))` on an element that the vectorised loop does not index.

    Attributes:
        load, combine, store: the three operations.
        value: what is combined into the element.
    """

    load: ir.Operation
    combine: ir.Operation
    store: ir.Operation
    value: ir.Value


@dataclass(frozen=True)
class VectorLoop:
    """What the analysis of one loop found.

    Attributes:
        loop: the loop.
        width: number of lanes.
        accesses: the accesses of its body, by operation.
        varying: the values computed in the body that differ from lane to lane.
        reductions: the reductions over the loop, in program order.
        dropped: operations of the body that compute indices only; the accesses are built without them.
    """

    loop: Loop
    width: int
    accesses: Mapping[ir.Operation, LaneAccess]
    varying: frozenset[ir.Value]
    reductions: tuple[LaneReduction, ...]
    dropped: frozenset[ir.Operation]

    @property
    def vectors(self) -> int:
        """Number of whole vectors."""
        return (self.loop.extent or 0) // self.width

    @property
    def rest(self) -> int:
        """Number of iterations that fill no vector."""
        return (self.loop.extent or 0) % self.width


class BodyBuilder:
    """Builds the vector form of a body at the current insertion points.

    Args:
        plan: the loop.
        variables: the nest's induction variables by position, that of the vectorised loop already the new one.
        outside: where values that no iteration changes are built, once.
        accumulators: the partial results of the reductions so far; None where there is just one vector.
    """

    def __init__(
        self,
        plan: VectorLoop,
        variables: Sequence[ir.Value],
        outside: ir.InsertionPoint,
        accumulators: Sequence[ir.Value] | None,
    ) -> None:
        self.plan = plan
        self.variables = variables
        self.outside = outside
        self.accumulators = accumulators
        self.body = body_of(plan.loop.op)
        self.inner = {r for op in self.body for r in op.results}
        self.scalars: dict[ir.Value, ir.Value] = {}
        self.vectors: dict[ir.Value, ir.Value] = {}

    def build(self) -> list[ir.Value]:
        """Builds the body; returns the partial results of the reductions, vectors."""
        partial: dict[int, ir.Value] = {}
        combining = {r.combine: k for k, r in enumerate(self.plan.reductions)}
        skipped = {*self.plan.dropped, *(op for r in self.plan.reductions for op in (r.load, r.store))}
        for op in self.body:
            if op in skipped or op.name == "arith.constant":
                continue
            with op.location:
                if op in combining:
                    partial[combining[op]] = self._accumulate(combining[op])
                elif op in self.plan.accesses:
                    self._access(op, self.plan.accesses[op])
                elif any(v in self.plan.varying for v in op.operands):
                    self._widen(op)
                else:
                    self._copy(op)
        return [partial[k] for k in range(len(self.plan.reductions))]

    def _accumulate(self, number: int) -> ir.Value:
        reduction = self.plan.reductions[number]
        value = self._wide(reduction.value)
        if self.accumulators is None:
            return value
        first = reduction.combine.operands[0] == reduction.value
        accumulated = self.accumulators[number]
        operands = [value, accumulated] if first else [accumulated, value]
        return widen(reduction.combine, operands, self.plan.width)[0]

    def _access(self, op: ir.Operation, access: LaneAccess) -> None:
        memref = access.access.memref
        width = self.plan.width
        if op.name == "affine.load":
            result = op.results[0]
            if access.form == "uniform":
                self.scalars[result] = load(memref, self._map(access, 0), self.variables)
            elif access.form == "contiguous":
                self.vectors[result] = vector_load(memref, self._map(access, 0), self.variables, width)
            else:
                self.vectors[result] = self._gather(memref, access, vector_type(result.type, width))
            return
        value = self._wide(op.operands[0])
        if access.form == "contiguous":
            vector_store(value, memref, self._map(access, 0), self.variables)
            return
        for k in range(width):
            element = vector.ExtractOp(value, [], [k]).result
            store(element, memref, self._map(access, k), self.variables)

    def _gather(self, memref: ir.Value, access: LaneAccess, type_: ir.Type) -> ir.Value:
        """A vector whose lanes stand apart: of a few elements, broadcast and blended, or of one for each lane."""
        maps = [self._map(access, k) for k in range(self.plan.width)]
        distinct = list(dict.fromkeys(maps))
        elements = {m: load(memref, m, self.variables) for m in distinct}
        if len(distinct) * _LANES_EACH > self.plan.width:
            return vector.FromElementsOp(type_, [elements[m] for m in maps]).result
        result = vector.BroadcastOp(type_, elements[distinct[0]]).result
        for other in distinct[1:]:
            mask = _constant_mask([m == other for m in maps])
            result = arith.SelectOp(mask, vector.BroadcastOp(type_, elements[other]).result, result).result
        return result

    def _map(self, access: LaneAccess, lane: int) -> ir.AffineMap:
        return ir.AffineMap.get(len(self.variables), 0, access.at(lane))

    def _widen(self, op: ir.Operation) -> None:
        operands = [self._wide(v) for v in op.operands]
        self.vectors.update(zip(op.results, widen(op, operands, self.plan.width), strict=True))

    def _copy(self, op: ir.Operation) -> None:
        copy = op.clone()
        for k, value in enumerate(op.operands):
            copy.operation.operands[k] = self._scalar(value)
        self.scalars.update(zip(op.results, copy.operation.results, strict=True))

    def _scalar(self, value: ir.Value) -> ir.Value:
        if value not in self.inner:
            return value
        if value not in self.scalars:  # a constant
            with self.outside:
                self.scalars[value] = value.owner.clone().operation.results[0]
        return self.scalars[value]

    def _wide(self, value: ir.Value) -> ir.Value:
        """The value for all lanes; one that no lane changes is broadcast once."""
        if value in self.vectors:
            return self.vectors[value]
        if value in self.inner and not is_constant(value):
            wide = as_vector(self._scalar(value), self.plan.width)
        else:
            with self.outside:
                wide = as_vector(value, self.plan.width)
        self.vectors[value] = wide
        return wide


def _constant_mask(lanes: Sequence[bool]) -> ir.Value:
    type_ = ir.VectorType.get([len(lanes)], ir.IntegerType.get_signless(1))
    bits = [ir.BoolAttr.get(lane) for lane in lanes]
    return arith.ConstantOp(type_, ir.DenseElementsAttr.get(bits, type=type_)).result


def neutral(reduction: LaneReduction, width: int) -> ir.Value:
    """The vector that leaves what it is combined with as it is."""
    kind = REDUCTION_KINDS[reduction.combine.name]
    element = reduction.value.type
    number: ir.Attribute
    if isinstance(element, ir.IntegerType):
        number = ir.IntegerAttr.get(element, _neutral_integer(kind, element.width))
    else:
        number = ir.FloatAttr.get(element, _NEUTRAL_FLOATS[kind])
    type_ = ir.VectorType.get([width], element)
    return arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, number)).result


def finish(plan: VectorLoop, reduction: LaneReduction, partial: ir.Value, variables: Sequence[ir.Value]) -> None:
    """Combines all lanes of a partial result into the reduction's element."""
    op = reduction.combine
    indices = ir.AffineMap.get(len(variables), 0, plan.accesses[reduction.load].at(0))
    kind = ir.Attribute.parse(f"#vector.kind<{REDUCTION_KINDS[op.name]}>")
    with op.location:
        # Without the flag the lanes would be added one after the other, in order.
        flags = ir.Attribute.parse("#arith.fastmath<reassoc>") if op.name in ("arith.addf", "arith.mulf") else None
        memref = reduction.load.opview.memref
        start = load(memref, indices, variables)
        total = vector.ReductionOp(reduction.value.type, kind, partial, acc=start, fastmath=flags).result
        store(total, memref, indices, variables)


def _neutral_integer(kind: str, width: int) -> int:
    """As a signed number of that many bits."""
    if kind in ("and", "minui"):
        return -1
    if kind == "maxsi":
        return -(1 << (width - 1))
    if kind == "minsi":
        return (1 << (width - 1)) - 1
    return 1 if kind == "mul" else 0
