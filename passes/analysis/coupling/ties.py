"""How one axis of an access depends on the iterators of its nest: what ties loops to memref axes.

`i`               the axis is the iterator (equal extents)
`g * C + c`       the axis is a mixed-radix number of iterators (group, split)
`i + k`           the iterators make up a slice of the axis (concatenation, padding)
`k floordiv q`    the axis is the leading digit of the iterator (flatten)
`k mod q`         the axis is its trailing digit, of `(k floordiv p) mod q` one in between
`0`               an axis of extent 1, tied to nothing
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch_mlir import ir

from loopmorph.passes.affine_expr import downcast, linear_form, used_dims
from loopmorph.passes.nest import Access, Loop, Nest


@dataclass(frozen=True)
class Tie:
    """How one axis of an access depends on the iterators.

    Attributes:
        kind: "digits" (mixed radix over `loops`, covering the axis), "slice" (the same, covering a part of it),
            "leading" and "trailing" digits of one iterator, "fixed" (index 0 of an axis of extent 1), or "other".
        loops: the positions of the iterators, most significant first.
        offset: where a slice begins.
        below: how many iterations of its loop have one value of a leading or trailing digit, before the next.
    """

    kind: Literal["digits", "slice", "leading", "trailing", "fixed", "other"]
    loops: tuple[int, ...] = ()
    offset: int = 0
    below: int = 1


def tie(nest: Nest, access: Access, axis: int) -> Tie:
    """How `axis` of the access depends on the nest's iterators."""
    extent = ir.MemRefType(access.memref.type).shape[axis]
    expr = downcast(access.exprs[axis])
    form = linear_form(expr)
    if form is not None:
        if not form.coefficients:
            return Tie("fixed") if extent == 1 and form.constant == 0 else Tie("other")
        digits = _digits(form.coefficients, nest)
        if digits is None:
            return Tie("other", tuple(form.coefficients))
        covered = span(nest, digits)
        if form.constant == 0 and covered == extent:
            return Tie("digits", digits)
        within = 0 <= form.constant <= extent - covered
        return Tie("slice" if within else "other", digits, form.constant)
    loops = tuple(sorted(used_dims(expr)))
    if len(loops) != 1:
        return Tie("other", loops)
    if isinstance(expr, ir.AffineFloorDivExpr) and isinstance(downcast(expr.lhs), ir.AffineDimExpr):
        divisor = ir.AffineConstantExpr(expr.rhs.maybe_downcast()).value
        whole = nest.loops[loops[0]].extent == divisor * extent
        return Tie("leading" if whole else "other", loops, below=divisor)
    return _trailing(expr, nest.loops[loops[0]].extent or 0, extent, loops)


def digit_parts(tie: Tie, loop: Loop, extent: int) -> tuple[int, int, int] | None:
    """The iterator of a leading or trailing digit as a number of three: what is above the digit, it, what is below.

    None where these do not make up the loop's range.
    """
    if tie.kind not in ("leading", "trailing") or not tie.below:
        return None
    above, left = divmod(loop.extent or 0, extent * tie.below)
    return None if left or not above else (above, extent, tie.below)


def _trailing(expr: ir.AffineExpr, range_: int, extent: int, loops: tuple[int, ...]) -> Tie:
    """The tie of `(k floordiv p) mod q` where q is the axis's extent."""
    if not isinstance(expr, ir.AffineModExpr):
        return Tie("other", loops)
    inner = downcast(expr.lhs)
    below = 1
    if isinstance(inner, ir.AffineFloorDivExpr):
        below, inner = ir.AffineConstantExpr(inner.rhs.maybe_downcast()).value, downcast(inner.lhs)
    modulus = ir.AffineConstantExpr(expr.rhs.maybe_downcast()).value
    whole = isinstance(inner, ir.AffineDimExpr) and modulus == extent and range_ % (below * extent) == 0
    return Tie("trailing", loops, below=below if whole else 0)


def span(nest: Nest, loops: Sequence[int]) -> int:
    """How many values the mixed-radix number of these iterators takes."""
    return math.prod(nest.loops[p].extent or 0 for p in loops)


def _digits(coefficients: Mapping[int, int], nest: Nest) -> tuple[int, ...] | None:
    """The iterators of a mixed-radix number, most significant first, or None where the expression is none."""
    order = sorted(coefficients, key=lambda p: (coefficients[p], nest.loops[p].extent or 0), reverse=True)
    weight = 1
    for position in reversed(order):
        if coefficients[position] != weight or nest.loops[position].extent is None:
            return None
        weight *= nest.loops[position].extent or 0
    return tuple(order)
