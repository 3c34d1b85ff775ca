"""The nest that writes the start values of an accumulation, and its body at another place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.affine_expr import linear_form, simplify, substitute, used_dims
from loopmorph.passes.analysis.dependence.aliasing import may_alias
from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.analysis.memory.index_maps import Frame, invert
from loopmorph.passes.building.pointwise import Builder, Pointwise, at_point, pointwise
from loopmorph.passes.building.widen import is_constant
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest, view_nest
from loopmorph.passes.winograd.arithmetic import Scalar
from loopmorph.passes.winograd.match import Convolution, index_values


@dataclass(frozen=True)
class Start:
    """A nest that stores one value, computed point by point, to each element that an accumulation starts from.

    Attributes:
        body: the nest.
        iterators: those of the nest where it writes the element that a point of the accumulation adds to, over the
            loops of that.
    """

    body: Pointwise
    iterators: tuple[ir.AffineExpr, ...]


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
    if start is None:
        return None
    nest = start.body.nest
    box = _box(nest, start.body.store.exprs, nest.points)
    if box is None or box != _written(convolution):
        return None
    changes = any(may_alias(a.memref, m) for a in nest.loads for m in changed)
    return None if changes else start


def _view_start(nest: Nest, convolution: Convolution) -> Start | None:
    """None too where finding the iterators takes a division that the loops of the accumulation do not spare."""
    memref = convolution.result.memref
    try:
        body = pointwise(nest)
    except IllegalTransform:
        return None
    inverse = invert(body.store.exprs, body.extents)
    if inverse is None or body.store.memref != memref or any(may_alias(a.memref, memref) for a in nest.loads):
        return None
    axes = dict(enumerate(convolution.result.exprs))
    extents = [e or 0 for e in convolution.nest.extents]
    iterators = tuple(simplify(substitute(e, axes, len(axes)), extents) for e in inverse)
    return Start(body, iterators) if all(linear_form(e) is not None for e in iterators) else None


def _box(nest: Nest, exprs: Sequence[ir.AffineExpr], elements: int) -> list[tuple[int, int]] | None:
    """For each axis of a memref the first index that a nest writes, and the number of indices up to the last.

    Args:
        nest: the nest.
        exprs: the index that it writes, over its loops.
        elements: how many different elements it writes.

    Returns:
        None where it leaves elements between the first and the last out.
    """
    box = []
    for expr in exprs:
        index = index_values(nest, expr, sorted(used_dims(expr)))
        low, high = int(index.min()), int(index.max())
        box.append((low, high - low + 1))
    return box if math.prod(n for _, n in box) == elements else None


def _written(convolution: Convolution) -> list[tuple[int, int]] | None:
    loops = (*convolution.samples, *convolution.result_channels, *convolution.space)
    elements = math.prod(convolution.extent(p) for p in loops)
    return _box(convolution.nest, convolution.result.exprs, elements)


class StartValues:
    """Builds start values at the current insertion point, equal loads and operations once.

    Args:
        start: the nest to take them from.
        variables: the index values that are visible there.
        extents: how many values 0, 1, ... each of them takes.
    """

    def __init__(self, start: Start, variables: Sequence[ir.Value], extents: Sequence[int]) -> None:
        self._start = start
        self._builder = Builder(Frame(tuple(variables), tuple(extents), None))

    def at(self, point: Mapping[int, ir.AffineExpr]) -> Scalar:
        """The start value at a point of the accumulation: for each of its loops an expression over the variables.

        None where it is the constant 0.
        """
        body = self._start.body
        if _is_zero(body.store.op.operands[0]):
            return None
        iterators = [substitute(e, point, 1 + max(point)) for e in self._start.iterators]
        return self._builder.compute(at_point(body, iterators, self._builder.frame), {})


def _is_zero(value: ir.Value) -> bool:
    number = value.owner.operation.attributes["value"] if is_constant(value) else None
    return isinstance(number, ir.FloatAttr) and number.value == 0.0
