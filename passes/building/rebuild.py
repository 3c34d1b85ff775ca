"""Rebuilding a perfect band of loops: new loops, the old iterators as affine expressions of the new ones.

A plan's expressions share one frame: dimensions 0, 1, ... are the loops around the band, outermost first, and after
them the new loops, outermost first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import simplify, substitute, used_dims
from loopmorph.passes.analysis.bounds import known_limits, limit_of
from loopmorph.passes.analysis.structure import body_of
from loopmorph.passes.building.nest_builder import compress, replace_access
from loopmorph.passes.nest import LoadOp, Loop, Nest, StoreOp, view_nest

NEST_MARKS = (marks.LAYER, marks.NODE, marks.ROLE, marks.ALGORITHM, marks.BLOCK, marks.SAMPLES)
_Indices: TypeAlias = tuple[Any, ...]  # the attribute of an operation's map, and its operands
_Indexing: TypeAlias = tuple[ir.AffineMap, list[ir.Value]]
_INHERENT = frozenset({"lowerBoundMap", "upperBoundMap", "step", "operandSegmentSizes"})


@dataclass(frozen=True)
class NewLoop:
    """One loop to build.

    Attributes:
        iterator: its name.
        source: position of the old loop that lends its location and, to the first new loop only, its other marks.
        lower: lower bounds over the frame; the greatest counts.
        upper: upper bounds over the frame, excluded; the smallest counts.
        step: its step.
    """

    iterator: str
    source: int
    lower: tuple[ir.AffineExpr, ...]
    upper: tuple[ir.AffineExpr, ...]
    step: int = 1


@dataclass(frozen=True)
class Rebuild:
    """A band of loops and what takes its place.

    Attributes:
        nest: the nest.
        band: positions of the old loops, outermost first; each but the last holds nothing but the next.
        loops: the new loops, outermost first; at least one.
        old: each iterator of the band, by position, over the frame.
    """

    nest: Nest
    band: tuple[int, ...]
    loops: tuple[NewLoop, ...]
    old: Mapping[int, ir.AffineExpr]


def rebuild(plan: Rebuild) -> ir.Operation:
    """Puts the new loops in the place of the old ones and moves the body of the innermost; returns the nest's root.

    Access maps are rewritten over the new iterators and simplified within their ranges; every other use of an old
    iterator gets an `affine.apply`. Marks of the nest stay on its outermost loop, other marks with their loop.
    """
    nest = plan.nest
    replaced = nest.loops[plan.band[0]].op
    around = nest.around(plan.band[0])
    variables = [nest.loops[p].variable for p in around]
    limits = known_limits(nest)
    lent: set[int] = set()
    point = ir.InsertionPoint(replaced)
    built: list[affine.AffineForOp] = []
    for new in plan.loops:
        loop = _build_loop(new, nest.loops[new.source].op, variables, point)
        if new.source not in lent:
            copy_marks(nest.loops[new.source].op, loop)
        lent.add(new.source)
        built.append(loop)
        variables.append(loop.induction_variable)
        limit = limit_of(new.lower, new.upper)
        if limit is not None:
            limits[loop.induction_variable] = limit
        point = ir.InsertionPoint(loop.body.operations[0])
    end = built[-1].body.operations[0]
    body = body_of(nest.loops[plan.band[-1]].op)
    for op in body:
        op.move_before(end)
    substitute_variables(body, {nest.loops[p].variable: e for p, e in plan.old.items()}, variables, limits)
    if plan.band[0] == 0:
        move_nest_marks(replaced, built[0])
    replaced.operation.erase()
    return built[0].operation if plan.band[0] == 0 else nest.root.operation


def substitute_variables(
    ops: Sequence[ir.Operation],
    replacement: Mapping[ir.Value, ir.AffineExpr],
    variables: Sequence[ir.Value],
    limits: Mapping[ir.Value, int],
) -> None:
    """Replaces index values in `ops` (of one block) and all that they hold; loads, stores and applies are built anew.

    Args:
        ops: the operations.
        replacement: for each index value its new expression; dimension d is `variables[d]`.
        variables: what the expressions are over; visible at the first of `ops`.
        limits: values known to be at least 0 and less than a number; lets `floordiv` and `mod` be resolved.
    """
    applied: dict[ir.Value, ir.Value] = {}
    known: dict[_Indices, _Indexing] = {}
    for top in list(ops):
        for op in list(_nested(top)):
            if not any(v in replacement for v in op.operands):
                continue
            if isinstance(op.opview, LoadOp | StoreOp | affine.AffineApplyOp):
                indices = _indices(op)
                if indices not in known:
                    known[indices] = _substituted(indices, replacement, variables, limits)
                _rewrite_map(op, indices, known[indices])
                continue
            for k, value in enumerate(op.operands):
                if value in replacement:
                    if value not in applied:
                        applied[value] = _apply(replacement[value], variables, top)
                    op.operands[k] = applied[value]


def set_extent(loop: Loop, extent: int) -> None:
    """Makes a loop run from 0 to `extent`."""
    loop.op.attributes["upperBoundMap"] = ir.AffineMapAttr.get(ir.AffineMap.get_constant(extent))


def keep_range(root: affine.AffineForOp, position: int, begin: int, size: int) -> None:
    """Makes a nest run over `size` iterations of one of its loops, from `begin` on, counted from 0."""
    loop = view_nest(root).loops[position]
    set_extent(loop, size)
    if begin:
        shifted = {loop.variable: ir.AffineExpr.get_dim(0) + begin}
        substitute_variables(body_of(loop.op), shifted, [loop.variable], known_limits(view_nest(root)))


def move_nest_marks(old: affine.AffineForOp, new: affine.AffineForOp) -> None:
    """Moves the marks of a nest to the loop that becomes a nest's outermost."""
    for name in NEST_MARKS:
        if name in old.attributes:
            new.attributes[name] = old.attributes[name]
            del old.attributes[name]


def wrap(root: affine.AffineForOp, name: str) -> affine.AffineForOp:
    """Puts a loop of extent 1 around a nest, which passes its marks on to it; returns the loop."""
    with ir.InsertionPoint(root), root.location:
        outer = affine.AffineForOp(0, 1, 1)
        with ir.InsertionPoint(outer.body):
            end = affine.AffineYieldOp([])
    outer.attributes[marks.ITER] = ir.StringAttr.get(name)
    root.operation.move_before(end.operation)
    move_nest_marks(root, outer)
    return outer


def _build_loop(
    new: NewLoop, source: affine.AffineForOp, variables: Sequence[ir.Value], point: ir.InsertionPoint
) -> affine.AffineForOp:
    lower, lower_operands = compress(ir.AffineMap.get(len(variables), 0, list(new.lower)), variables)
    upper, upper_operands = compress(ir.AffineMap.get(len(variables), 0, list(new.upper)), variables)
    with point, source.location:
        loop = affine.AffineForOp(
            lower, upper, new.step, lower_bound_operands=lower_operands, upper_bound_operands=upper_operands
        )
        with ir.InsertionPoint(loop.body):
            affine.AffineYieldOp([])
        loop.attributes[marks.ITER] = ir.StringAttr.get(new.iterator)
    return loop


def copy_marks(old: affine.AffineForOp, new: affine.AffineForOp) -> None:
    for name in old.attributes:
        if name not in _INHERENT and name not in NEST_MARKS and name != marks.ITER:
            new.attributes[name] = old.attributes[name]


def _indices(op: ir.Operation) -> _Indices:
    view = op.opview
    operands = view.operands if isinstance(view, affine.AffineApplyOp) else view.indices
    return (op.attributes["map"], *operands)


def _substituted(
    indices: _Indices,
    replacement: Mapping[ir.Value, ir.AffineExpr],
    variables: Sequence[ir.Value],
    limits: Mapping[ir.Value, int],
) -> _Indexing:
    """The map and its operands after the substitution."""
    attribute, *values = indices
    map_ = ir.AffineMapAttr(attribute).value
    frame = [*variables, *(v for v in values if v not in replacement)]
    dims = {
        d: replacement[v] if v in replacement else ir.AffineExpr.get_dim(frame.index(v)) for d, v in enumerate(values)
    }
    exprs = [_simplified(substitute(e, dims, map_.n_dims), frame, limits) for e in map_.results]
    return compress(ir.AffineMap.get(len(frame), 0, exprs), frame)


def _rewrite_map(op: ir.Operation, old: _Indices, new: _Indexing) -> None:
    map_, operands = new
    if list(old[1:]) == operands:
        op.attributes["map"] = ir.AffineMapAttr.get(map_)
    elif isinstance(op.opview, affine.AffineApplyOp):
        with ir.InsertionPoint(op), op.location:
            op.results[0].replace_all_uses_with(affine.AffineApplyOp(map_, operands).result)
        op.erase()
    else:
        replace_access(op, map_, operands)


def _simplified(expr: ir.AffineExpr, frame: Sequence[ir.Value], limits: Mapping[ir.Value, int]) -> ir.AffineExpr:
    if all(frame[d] in limits for d in used_dims(expr)):
        return simplify(expr, [limits.get(v, 1) for v in frame])
    return ir.AffineExpr.simplify_affine_expr(expr, len(frame), 0)


def _apply(expr: ir.AffineExpr, variables: Sequence[ir.Value], before: ir.Operation) -> ir.Value:
    map_, operands = compress(ir.AffineMap.get(len(variables), 0, [expr]), variables)
    with ir.InsertionPoint(before), before.location:
        return affine.AffineApplyOp(map_, operands).result


def _nested(op: ir.Operation) -> Iterator[ir.Operation]:
    """The operation and all that it holds, outer ones first."""
    yield op
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _nested(inner.operation)
