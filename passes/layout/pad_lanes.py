"""What the lanes hold that a dimension gains when it is padded: intervals, computed by the program's own operations.

A padded lane computes what the last real one does, whose parameters it repeats. Real values are taken to be finite:
where a network's are not, 0 * inf may turn an infinity into a NaN. That the parameters are not known, the intervals
need not say: zeros stand for them, and what is finite for these is taken to be so for a real lane's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch_mlir import ir

from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.nest import Access, Nest

_LARGEST = 3.4028234e38  # of an f32
_ROUNDS = 4  # a value that still grows after so many is taken to be any finite number


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`; none of them a NaN."""

    low: float
    high: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def is_zero(self) -> bool:
        return self.low == self.high == 0.0


ZERO = Interval(0.0, 0.0)
FINITE = Interval(-_LARGEST, _LARGEST)
Lanes: TypeAlias = "Interval | None"  # None: anything, also a NaN
State: TypeAlias = "dict[ir.Value, Lanes]"


def padded_lanes(
    nests: Sequence[Nest],
    padded: Mapping[ir.Operation, Collection[int]],
    parameters: Collection[ir.Value],
    unwritten: Collection[ir.Value],
) -> State:
    """What the padded lanes of each memref hold when other nests read them; memrefs without an entry hold anything.

    Args:
        nests: in program order.
        padded: root of a nest -> positions of those of its loops that index results and are padded.
        parameters: memrefs that depend on parameters alone.
        unwritten: memrefs of which a nest writes the real lanes alone.
    """
    state: State = {memref: None for memref in unwritten}
    maxima = {a.memref for nest in nests for a in nest.stores if _is_maximum(nest, a)}
    for round_ in range(3 * _ROUNDS):
        before = dict(state)
        for nest in nests:
            for position in padded.get(nest.root.operation, ()):
                others = set(padded[nest.root.operation]) - {position}
                values = _Evaluation(nest, position, others, parameters, _seen_by(nest, state, maxima))
                for store in nest.stores:
                    if position in store.dims and values.is_known(store.op.operands[0]):
                        _join(state, store.memref, values.of(store.op.operands[0]), widen=round_ >= _ROUNDS)
        if state == before:
            break
    return {memref: _without_start(value) if memref in maxima else value for memref, value in state.items()}


def adds_nothing(nest: Nest, position: int, parameters: Collection[ir.Value], state: State) -> bool:
    """Whether the nest's sums stay the same when a reduction runs on over padded lanes.

    They do where each is `y = y + terms` and the terms have a factor of a parameter, whose padded lanes are zeros, and
    otherwise finite ones.

    Args:
        nest: the nest, with one store.
        position: the reduction.
        parameters: memrefs that depend on parameters alone.
        state: as `padded_lanes` gives it.
    """
    (store,) = nest.stores
    loads = {a.op.results[0]: a for a in nest.loads}
    addition = definition(store.op.operands[0])
    if addition is None or addition.name != "arith.addf":
        return False
    known: State = {m: FINITE if v is not None and v.is_finite else None for m, v in state.items()}
    values = _Evaluation(nest, position, (), parameters, known)
    for own, terms in (addition.operands, reversed(list(addition.operands))):
        access = loads.get(own)
        if access is not None and (access.memref, access.exprs) == (store.memref, store.exprs):
            lanes = values.of(terms)
            return lanes is not None and lanes.is_zero
    return False


class _Evaluation:
    """The values of a nest's body while the loop at `position` is at a padded lane, and perhaps the `others` too."""

    def __init__(
        self,
        nest: Nest,
        position: int,
        others: Collection[int],
        parameters: Collection[ir.Value],
        state: State,
    ) -> None:
        self._loads = {a.op: a for a in nest.loads}
        self._position = position
        self._others = others
        self._parameters = parameters
        self._state = state
        self._known: dict[ir.Operation, Lanes] = {}

    def is_known(self, value: ir.Value) -> bool:
        """Whether something has been said of all that the value is computed from."""
        op = definition(value)
        if op is None:
            return True
        access = self._loads.get(op)
        if access is not None:
            return access.memref in self._parameters or not self._follows(access) or access.memref in self._state
        return all(self.is_known(operand) for operand in op.operands)

    def of(self, value: ir.Value) -> Lanes:
        """What the value can be."""
        op = definition(value)
        if op is None:
            return None
        if op not in self._known:
            self._known[op] = self._compute(op)
        return self._known[op]

    def _compute(self, op: ir.Operation) -> Lanes:
        access = self._loads.get(op)
        if access is not None:
            return self._load(access)
        if op.name == "arith.constant":
            attribute = op.attributes["value"]
            number = ir.FloatAttr(attribute).value if isinstance(attribute, ir.FloatAttr) else math.nan
            return None if math.isnan(number) else Interval(number, number)
        if op.name == "arith.select":
            return _hull(self.of(op.operands[1]), self.of(op.operands[2]))
        rule = _RULES.get(op.name)
        operands = [self.of(operand) for operand in op.operands]
        known = [lanes for lanes in operands if lanes is not None]
        if rule is None or len(known) < len(operands):
            return None
        if op.name not in _KEEP_INFINITY and not all(lanes.is_finite for lanes in known):
            return None
        result = rule(*known)
        return None if result is None else _clipped(result)

    def _load(self, access: Access) -> Lanes:
        if access.memref in self._parameters:
            return ZERO if self._follows(access) else FINITE
        if self._follows(access):
            return self._state.get(access.memref)
        elsewhere = access.dims & set(self._others)
        return _hull(FINITE, self._state.get(access.memref, FINITE)) if elsewhere else FINITE

    def _follows(self, access: Access) -> bool:
        return self._position in access.dims


def _seen_by(nest: Nest, state: State, maxima: Collection[ir.Value]) -> State:
    """What the nest finds: in a maximum that another nest has computed, no start value any more."""
    own = {store.memref for store in nest.stores}
    return {m: _without_start(v) if m in maxima and m not in own else v for m, v in state.items()}


def _without_start(lanes: Lanes) -> Lanes:
    """A maximum over windows: no lane is left at -inf whose window holds an element, and the real lanes' does."""
    if lanes is None or lanes.low != -math.inf or lanes.high == -math.inf:
        return lanes
    return Interval(-_LARGEST, lanes.high)


def _is_maximum(nest: Nest, store: Access) -> bool:
    """Whether the store accumulates a maximum."""
    op = definition(store.op.operands[0])
    loads = {a.op.results[0] for a in nest.loads if (a.memref, a.exprs) == (store.memref, store.exprs)}
    return op is not None and op.name == "arith.maximumf" and any(v in loads for v in op.operands)


def _join(state: State, memref: ir.Value, lanes: Lanes, *, widen: bool) -> None:
    joined = _hull(state[memref], lanes) if memref in state else lanes
    if widen and memref in state and joined is not None and joined != state[memref]:
        joined = Interval(min(joined.low, -_LARGEST), max(joined.high, _LARGEST))
    state[memref] = joined


def _hull(a: Lanes, b: Lanes) -> Lanes:
    return None if a is None or b is None else Interval(min(a.low, b.low), max(a.high, b.high))


def _clipped(lanes: Interval) -> Interval:
    """Without infinities that only an overflow could bring about; a maximum's start value stays."""
    low = lanes.low if lanes.low == -math.inf else max(lanes.low, -_LARGEST)
    return Interval(low, min(lanes.high, _LARGEST))


def _product(a: Interval, b: Interval) -> Interval:
    corners = [_bounded(x * y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(min(corners), max(corners))


def _quotient(a: Interval, b: Interval) -> Interval | None:
    if b.low <= 0.0 <= b.high:
        return None
    corners = [_bounded(x / y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(min(corners), max(corners))


def _bounded(number: float) -> float:
    return max(-_LARGEST, min(_LARGEST, number))


def _increasing(function: Callable[[float], float], least: float = -math.inf, *, open_: bool = False) -> _Rule:
    """The rule of an increasing function that is defined from `least` on, or above it where `open_`."""

    def rule(a: Interval) -> Interval | None:
        if a.low < least or (open_ and a.low == least):
            return None
        return Interval(_bounded(function(a.low)), _bounded(function(a.high)))

    return rule


def _exp(number: float) -> float:
    return math.exp(number) if number < 88.0 else _LARGEST


def _rsqrt(a: Interval) -> Interval | None:
    return None if a.low <= 0.0 else Interval(1 / math.sqrt(a.high), 1 / math.sqrt(a.low))


def _absolute(a: Interval) -> Interval:
    largest = max(-a.low, a.high)
    return Interval(0.0 if a.low <= 0.0 <= a.high else min(abs(a.low), abs(a.high)), largest)


_Rule: TypeAlias = Callable[..., "Interval | None"]
_KEEP_INFINITY = frozenset({"arith.maximumf", "arith.maxnumf", "arith.cmpf"})
_RULES: dict[str, _Rule] = {
    "arith.addf": lambda a, b: Interval(_bounded(a.low + b.low), _bounded(a.high + b.high)),
    "arith.subf": lambda a, b: Interval(_bounded(a.low - b.high), _bounded(a.high - b.low)),
    "arith.mulf": _product,
    "arith.divf": _quotient,
    "arith.negf": lambda a: Interval(-a.high, -a.low),
    "arith.maximumf": lambda a, b: Interval(max(a.low, b.low), max(a.high, b.high)),
    "arith.maxnumf": lambda a, b: Interval(max(a.low, b.low), max(a.high, b.high)),
    "arith.minimumf": lambda a, b: Interval(min(a.low, b.low), min(a.high, b.high)),
    "arith.minnumf": lambda a, b: Interval(min(a.low, b.low), min(a.high, b.high)),
    "arith.cmpf": lambda a, b: Interval(0.0, 1.0),
    "arith.truncf": lambda a: a,
    "arith.extf": lambda a: a,
    "math.absf": _absolute,
    "math.exp": _increasing(_exp),
    "math.tanh": _increasing(math.tanh),
    "math.erf": _increasing(math.erf),
    "math.sqrt": _increasing(math.sqrt, 0.0),
    "math.log": _increasing(math.log, 0.0, open_=True),
    "math.rsqrt": _rsqrt,
}
