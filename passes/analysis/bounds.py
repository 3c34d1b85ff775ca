"""Bounds of iterators: what they surely stay below."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from loopmorph.passes.affine_expr import downcast
from loopmorph.passes.nest import Nest


def known_limits(nest: Nest) -> dict[ir.Value, int]:
    """For each iterator that never is negative and stays below a constant: that constant."""
    found = {}
    for loop in nest.loops:
        bounds = nest.bounds(loop)
        limit = limit_of(bounds.lower, bounds.upper)
        if limit is not None:
            found[loop.variable] = limit
    return found


def limit_of(lower: Sequence[ir.AffineExpr], upper: Sequence[ir.AffineExpr]) -> int | None:
    """A number that an iterator, never negative, stays below; None where the bounds name no constants for both."""
    ends = constants(upper)
    return min(ends) if ends and max(constants(lower), default=-1) >= 0 else None


def constants(exprs: Sequence[ir.AffineExpr]) -> list[int]:
    """The values of those of the expressions that are constants."""
    narrow = [downcast(e) for e in exprs]
    return [e.value for e in narrow if isinstance(e, ir.AffineConstantExpr)]


def limits_of(nest: Nest) -> list[int | None]:
    """For each loop the number that its iterator, at least 0, stays below; None where unknown."""
    known = known_limits(nest)
    return [known.get(loop.variable) for loop in nest.loops]
