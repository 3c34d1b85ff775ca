"""The nest that writes the start values of an accumulation, and its body at another place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.affine_expr import linear_form, simplify, substitute, used_dims
from loopmorph.passes.analysis.dependence import may_alias
from loopmorph.passes.building.nest_builder import load
from loopmorph.passes.lowering.dataflow import effects
from loopmorph.passes.nest import Access, Nest, view_nest
from loopmorph.passes.winograd.arithmetic import Scalar
from loopmorph.passes.winograd.match import Convolution, index_values, nest_operation


@dataclass(frozen=True)
class Start:
    """A nest that stores one value, computed point by point, to each element that an accumulation starts from.

    Attributes:
        nest: the nest.
        store: its store.
        loops: for each loop of more than one iteration, its index where it writes the element that a point of the
            accumulation adds to, over the loops of that.
    """

    nest: Nest
    store: Access
    loops: Mapping[int, ir.AffineExpr]


def find_start(convolution: Convolution) -> Start | None:
    """The nest that writes the start values just where and before the convolution needs them, None where there is none.

    What lies between the two must neither touch the result nor change what the start values are made of.
    """
    memref = convolution.result.memref
    main = convolution.nest.root.operation
    ops = [op.operation for op in main.block.operations]
    changed: set[ir.Value] = set()
    for op in reversed(ops[: ops.index(main)]):
        touched = effects(op)
        if any(may_alias(m, memref) for m in touched.reads | touched.writes):
            break
        changed |= touched.writes
    else:
        return None
    start = _view_start(view_nest(op.opview), convolution) if isinstance(op.opview, affine.AffineForOp) else None
    if start is None or _box(start) != _written(convolution):
        return None
    changes = any(may_alias(a.memref, m) for a in start.nest.loads for m in changed)
    return None if changes else start


def _view_start(nest: Nest, convolution: Convolution) -> Start | None:
    memref = convolution.result.memref
    if not nest.is_perfect or not nest.is_rectangular or len(nest.stores) != 1:
        return None
    (store,) = nest.stores
    if store.memref != memref or any(may_alias(a.memref, memref) for a in nest.loads):
        return None
    variables = {loop.variable for loop in nest.loops}
    for op in nest.body:
        if op.name not in ("affine.load", "affine.store") and (
            not op.name.startswith(("arith.", "math.")) or any(v in variables for v in op.operands)
        ):
            return None
    loops: dict[int, ir.AffineExpr] = {}
    for written, wanted in zip(store.exprs, convolution.result.exprs, strict=True):
        digits = _digits(nest, written, wanted, convolution.nest)
        if digits is None or digits.keys() & loops.keys():
            return None
        loops |= digits
    single = all(loop.extent == 1 for loop in nest.loops if loop.position not in loops)
    return Start(nest, store, loops) if single else None


def _digits(
    nest: Nest, written: ir.AffineExpr, wanted: ir.AffineExpr, accumulation: Nest
) -> dict[int, ir.AffineExpr] | None:
    """Where the index `written`, `g * 4 + c` for example, of the nest is `wanted`: the loops' indices.

    None where its loops of more than one iteration are not the digits of a number, each value of which they reach
    once, or where that takes a division that the loops of the accumulation do not spare.
    """
    form = linear_form(written)
    if form is None:
        return None
    extents = [e or 0 for e in accumulation.extents]
    places = sorted((c, p) for p, c in form.coefficients.items() if nest.extents[p] != 1)
    digits: dict[int, ir.AffineExpr] = {}
    step = 1
    for coefficient, p in places:
        if coefficient != step:
            return None
        value = wanted - form.constant
        if len(places) > 1:
            value = ir.AffineExpr.get_floor_div(value, step)
            step *= nest.extents[p] or 0
            if (coefficient, p) != places[-1]:
                value = ir.AffineExpr.get_mod(value, nest.extents[p] or 1)
            value = simplify(value, extents)
            if linear_form(value) is None:
                return None
        digits[p] = value
    return digits


def _box(start: Start) -> list[tuple[int, int]]:
    """For each axis of the result, the first index written and the number of them."""
    box = []
    for expr in start.store.exprs:
        form = linear_form(expr)
        count = math.prod(start.nest.extents[p] or 0 for p in used_dims(expr))
        box.append((form.constant if form is not None else 0, count))
    return box


def _written(convolution: Convolution) -> list[tuple[int, int]] | None:
    """The same of the convolution; None where it leaves elements between the first and the last out."""
    nest, result = convolution.nest, convolution.result
    box = []
    points = 1
    for expr in result.exprs:
        loops = sorted(used_dims(expr))
        index = index_values(nest, expr, loops)
        low, high = int(index.min()), int(index.max())
        box.append((low, high - low + 1))
        points *= high - low + 1
    written = 1
    for p in (*convolution.samples, *convolution.result_channels, *convolution.space):
        written *= convolution.extent(p)
    return box if points == written else None


@dataclass
class StartValues:
    """Builds start values at the current insertion point, equal loads and operations once.

    Attributes:
        start: the nest to take them from.
        variables: the index values that are visible there.
    """

    start: Start
    variables: Sequence[ir.Value]
    _built: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)

    def at(self, point: Mapping[int, ir.AffineExpr]) -> Scalar:
        """The start value at a point of the accumulation: for each of its loops an expression over the variables.

        None where it is the constant 0.
        """
        n = 1 + max(point)
        loops = {p: substitute(index, point, n) for p, index in self.start.loops.items()}
        zero = ir.AffineExpr.get_constant(0)
        loops |= {loop.position: zero for loop in self.start.nest.loops if loop.position not in loops}
        return self._value(self.start.store.op.operands[0], loops)

    def _value(self, value: ir.Value, loops: Mapping[int, ir.AffineExpr]) -> Scalar:
        if _is_zero(value):
            return None
        return self._copy(value, loops)

    def _copy(self, value: ir.Value, loops: Mapping[int, ir.AffineExpr]) -> ir.Value:
        op = nest_operation(value, self.start.nest)
        if op is None:
            return value
        access = next((a for a in self.start.nest.loads if a.op == op), None)
        if access is not None:
            n = len(self.start.nest.loops)
            exprs = [substitute(e, loops, n) for e in access.exprs]
            map_ = ir.AffineMap.get(len(self.variables), 0, exprs)
            key: tuple[object, ...] = (access.memref, str(map_))
            if key not in self._built:
                self._built[key] = load(access.memref, map_, self.variables)
            return self._built[key]
        operands = [self._copy(v, loops) for v in op.operands]
        key = (op, *operands)
        if key not in self._built:
            copy = op.clone(ir.InsertionPoint.current).operation
            for k, operand in enumerate(operands):
                copy.operands[k] = operand
            self._built[key] = copy.results[0]
        return self._built[key]


def _is_zero(value: ir.Value) -> bool:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.operation.name != "arith.constant":
        return False
    number = owner.operation.attributes["value"]
    return isinstance(number, ir.FloatAttr) and number.value == 0.0
