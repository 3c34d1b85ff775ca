"""Are all affine accesses inside their memrefs? Told by intervals, and by integer sets where those are too coarse."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import islpy as isl
from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import interval, isl_text, without_symbols
from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.nest import functions

_LOADS = frozenset({"affine.load", "affine.vector_load"})
_STORES = frozenset({"affine.store", "affine.vector_store"})
_Interval = tuple[int, int]


def require_in_bounds(module: ir.Operation) -> None:
    """Proves that no `affine.load` or `affine.store` of a module leaves its memref; changes nothing.

    Loops that never run access nothing. Bounds that depend on other loops, `affine.if`, `affine.apply`, `floordiv` and
    `mod` are taken into account. Indices that are read from memory or computed by other operations are not affine and
    are left to whoever made them.

    Raises:
        CompilationFailed: an access that may be outside; names the layer, the access, its indices and the extent.
    """
    with module.context:
        for function in functions(module):
            _Check({}).block(function.entry_block, {}, ())


@dataclass(frozen=True)
class _Around:
    """A loop or a guard around an operation."""

    op: ir.OpView
    is_else: bool = False


@dataclass
class _Check:
    """Walks a function.

    Attributes:
        proven: whether accesses are inside, by map, memref and the intervals of the indices; or, exactly, by texts.
    """

    proven: dict[tuple[object, ...], bool]

    def block(self, block: ir.Block, known: dict[ir.Value, _Interval], around: tuple[_Around, ...]) -> None:
        """Checks all operations of a block, given the intervals of the values around."""
        for op in block.operations:
            name = op.operation.name
            if name == "affine.for":
                self._loop(op, known, around)
            elif name in _LOADS or name in _STORES:
                self._access(op.operation, known, around)
            elif name == "affine.if":
                for k, region in enumerate(op.operation.regions):
                    for inner in region.blocks:
                        self.block(inner, known, (*around, _Around(op, bool(k))))
            else:
                for region in op.operation.regions:
                    for inner in region.blocks:
                        self.block(inner, known, around)

    def _loop(self, op: affine.AffineForOp, known: dict[ir.Value, _Interval], around: tuple[_Around, ...]) -> None:
        lows = _intervals(op.attributes["lowerBoundMap"], list(op.lowerBoundOperands), known)
        highs = _intervals(op.attributes["upperBoundMap"], list(op.upperBoundOperands), known)
        body = op.body
        if None not in lows and None not in highs:
            low, high = max(i[0] for i in lows if i), min(i[1] for i in highs if i) - 1
            step = ir.IntegerAttr(op.attributes["step"]).value
            if high < low:
                return
            fixed = all(i is not None and i[0] == i[1] for i in lows)
            known = {**known, body.arguments[0]: (low, high - (high - low) % step if fixed else high)}
        self.block(body, known, (*around, _Around(op)))

    def _access(self, op: ir.Operation, known: Mapping[ir.Value, _Interval], around: tuple[_Around, ...]) -> None:
        memref, *indices = list(op.operands)[1 if op.name in _STORES else 0 :]
        type_ = ir.MemRefType(memref.type)
        lanes = _lanes(op, type_.rank)
        key = (op.attributes["map"], memref.type, lanes, *(_interval(value, known) for value in indices))
        if key not in self.proven:
            self.proven[key] = all(
                found is not None and 0 <= found[0] and found[1] + more < extent
                for found, more, extent in zip(
                    _intervals(op.attributes["map"], indices, known), lanes, type_.shape, strict=True
                )
            )
        if not self.proven[key]:
            self._require_exactly(op, indices, lanes, around)

    def _require_exactly(
        self, op: ir.Operation, indices: Sequence[ir.Value], lanes: Sequence[int], around: tuple[_Around, ...]
    ) -> None:
        loops = [each.op for each in around if each.op.operation.name == "affine.for"]
        names = {loop.body.arguments[0]: f"i{k}" for k, loop in enumerate(loops)}
        conditions: list[str] = []
        for each in around:
            with contextlib.suppress(_Unknown):  # more points than there are
                conditions += _conditions(each, names)
        try:
            exprs = _texts(op.attributes["map"], indices, names)
        except _Unknown:
            raise CompilationFailed(
                f"{_layer(op)}: an index of {op.name} is no affine function of loops (at {location_text(op.location)})"
            ) from None
        type_ = ir.MemRefType((op.operands[1] if op.name in _STORES else op.operands[0]).type)
        key = (*conditions, *exprs, str(type_), *lanes)
        if key not in self.proven:
            _require_inside(op, type_, lanes, ", ".join(names.values()), conditions, exprs)
            self.proven[key] = True


def _lanes(op: ir.Operation, rank: int) -> tuple[int, ...]:
    """How many elements more than one an access touches along each axis."""
    value = (op.results if op.name in _LOADS else op.operands)[0]
    if not isinstance(value.type, ir.VectorType):
        return (0,) * rank
    shape = [extent - 1 for extent in value.type.shape]
    return (*(0 for _ in range(rank - len(shape))), *shape)


def _intervals(
    attribute: ir.Attribute, operands: Sequence[ir.Value], known: Mapping[ir.Value, _Interval]
) -> list[_Interval | None]:
    """Smallest and largest value of each result of a map; None where an operand is unknown."""
    map_ = ir.AffineMapAttr(attribute).value
    values = [_interval(value, known) for value in operands]
    return [interval(expr, values, map_.n_dims) for expr in map_.results]


def _interval(value: ir.Value, known: Mapping[ir.Value, _Interval]) -> _Interval | None:
    if value in known or isinstance(value.owner, ir.Block):
        return known.get(value)
    op = value.owner.operation if isinstance(value.owner, ir.OpView) else value.owner
    if op.name == "arith.constant":
        number = ir.IntegerAttr(op.attributes["value"]).value
        return number, number
    if op.name in ("affine.apply", "affine.min", "affine.max"):
        found = _intervals(op.attributes["map"], list(op.operands), known)
        inside = [each for each in found if each is not None]
        if len(inside) == len(found):
            pick = max if op.name == "affine.max" else min
            return pick(low for low, _ in inside), pick(high for _, high in inside)
    return None


# -- exactly, by integer sets


class _Unknown(Exception):
    """A value that is no affine function of loops."""


def _require_inside(
    op: ir.Operation,
    type_: ir.MemRefType,
    lanes: Sequence[int],
    names: str,
    conditions: Sequence[str],
    exprs: Sequence[str],
) -> None:
    domain = isl.Set(f"{{ [{names}] : {' and '.join(conditions) or 'true'} }}")
    for axis, (text, extent, more) in enumerate(zip(exprs, type_.shape, lanes, strict=True)):
        outside = isl.Set(f"{{ [{names}] : ({text}) < 0 or ({text}) + {more} >= {extent} }}")
        if not domain.intersect(outside).is_empty():
            raise _refusal(op, type_, axis, more, domain, isl.Map(f"{{ [{names}] -> [{text}] }}"))


def _conditions(around: _Around, names: Mapping[ir.Value, str]) -> list[str]:
    """What holds within a loop or a guard."""
    op = around.op
    if op.operation.name == "affine.for":
        name = names[op.body.arguments[0]]
        lows = _texts(op.attributes["lowerBoundMap"], list(op.lowerBoundOperands), names)
        highs = _texts(op.attributes["upperBoundMap"], list(op.upperBoundOperands), names)
        step = ir.IntegerAttr(op.attributes["step"]).value
        found = [f"{name} >= {low}" for low in lows] + [f"{name} < {high}" for high in highs]
        return [*found, f"({name} - {lows[0]}) mod {step} = 0"] if step != 1 and len(lows) == 1 else found
    texts = []
    for map_, relation in _constraints(op.operation.attributes["condition"]):
        (text,) = _texts(map_, list(op.operation.operands), names)
        texts.append(f"{text} {relation} 0")
    return [f"not ({' and '.join(texts)})"] if around.is_else else texts


def _constraints(condition: ir.Attribute) -> list[tuple[ir.Attribute, str]]:
    """The left sides of a set's constraints as maps, and how each compares with 0; the bindings show only the text."""
    match = re.fullmatch(r"affine_set<(\(.*?\)(?:\[.*?\])?) : \((.*)\)>", str(condition))
    if match is None:
        raise _Unknown
    found = []
    for constraint in match[2].split(", "):
        compared = re.fullmatch(r"(.*) (==|>=) 0", constraint)
        if compared is None:
            raise _Unknown
        left = ir.Attribute.parse(f"affine_map<{match[1]} -> ({compared[1]})>")
        found.append((left, compared[2].replace("==", "=")))
    return found


def _texts(attribute: ir.Attribute, operands: Sequence[ir.Value], names: Mapping[ir.Value, str]) -> list[str]:
    """The results of a map in isl's syntax, over the names of the loops."""
    map_ = without_symbols(ir.AffineMapAttr(attribute).value)
    texts = [_value_text(value, names) for value in operands]
    return [isl_text(expr, texts) for expr in map_.results]


def _value_text(value: ir.Value, names: Mapping[ir.Value, str]) -> str:
    if value in names:
        return names[value]
    if not isinstance(value.owner, ir.Block):
        op = value.owner.operation if isinstance(value.owner, ir.OpView) else value.owner
        if op.name == "arith.constant":
            return str(ir.IntegerAttr(op.attributes["value"]).value)
        if op.name == "affine.apply":
            (text,) = _texts(op.attributes["map"], list(op.operands), names)
            return text
    raise _Unknown


def _refusal(
    op: ir.Operation, type_: ir.MemRefType, axis: int, more: int, domain: isl.Set, access: isl.Map
) -> CompilationFailed:
    touched = domain.apply(access)
    low, high = touched.dim_min_val(0), touched.dim_max_val(0).add(isl.Val(more))
    kind = "reads" if op.name in _LOADS else "writes"
    extent = type_.shape[axis]
    inside = f"0 .. {extent - 1}" if extent else "no element"
    return CompilationFailed(
        f"{_layer(op)}: {op.name} {kind} {low} .. {high} on axis {axis} of a {type_}, which has {inside} there "
        f"(at {location_text(op.location)})"
    )


def _layer(op: ir.Operation) -> str:
    while op is not None and op.name != "builtin.module":
        name = marks.get_text(op, marks.LAYER)
        if name:
            return f"layer '{name}'"
        op = op.parent.operation
    return "a loop nest without a layer"
