"""Giving a loop other bounds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.building.nest_builder import compress
from loopmorph.passes.building.rebuild import copy_marks, move_nest_marks
from loopmorph.passes.nest import Loop, Nest


def rebound(nest: Nest, loop: Loop, lower: Sequence[ir.AffineExpr], upper: Sequence[ir.AffineExpr]) -> ir.Operation:
    """Builds the loop anew with other bounds, moves its body and what it carries; returns the nest's root.

    Args:
        nest: the nest.
        loop: the loop.
        lower: its lower bounds over the nest's loops, of which the greatest counts.
        upper: its upper bounds, excluded, of which the smallest counts.
    """
    old = loop.op
    variables = [other.variable for other in nest.loops]
    maps = [compress(ir.AffineMap.get(len(variables), 0, list(exprs)), variables) for exprs in (lower, upper)]
    with ir.InsertionPoint(old), old.location:
        new = affine.AffineForOp(
            maps[0][0],
            maps[1][0],
            ir.IntegerAttr(old.attributes["step"]).value,
            list(old.inits),
            lower_bound_operands=maps[0][1],
            upper_bound_operands=maps[1][1],
        )
    copy_marks(old, new)
    move_nest_marks(old, new)
    if marks.ITER in old.attributes:
        new.attributes[marks.ITER] = old.attributes[marks.ITER]
    for before, after in zip(old.body.arguments, new.body.arguments, strict=True):
        before.replace_all_uses_with(after)
    ops = [op.operation for op in old.body.operations]
    new.body.append(ops[0])
    for previous, op in itertools.pairwise(ops):
        op.move_after(previous)
    for before, after in zip(old.operation.results, new.operation.results, strict=True):
        before.replace_all_uses_with(after)
    is_root = loop.position == 0
    old.operation.erase()
    return new.operation if is_root else nest.root.operation
