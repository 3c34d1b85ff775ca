"""Whether iterations of some loops touch elements of their own, over several nests that have these loops outermost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch_mlir import ir

from loopmorph.passes.affine_expr import LinearForm, from_linear, linear_form
from loopmorph.passes.analysis.bounds import limits_of
from loopmorph.passes.nest import Access, Nest


def are_apart(nests: Sequence[Nest], memref: ir.Value, count: int) -> bool:
    """Whether no element of a memref is touched in two different iterations of the first `count` loops.

    The nests have these loops, of constant extents from 0 on, in common. A sufficient test: along one axis, the index
    of every access is one linear form of these loops, plus what stays below the least step of it.
    """
    sites = [(a, limits_of(nest)) for nest in nests for a in nest.accesses if a.memref == memref]
    extents = [loop.extent or 0 for loop in nests[0].loops[:count]]
    rank = len(ir.MemRefType(memref.type).shape)
    return all(e == 1 for e in extents) or any(_separates(axis, sites, extents) for axis in range(rank))


def own_axis(accesses: Sequence[Access], extents: Sequence[int]) -> int | None:
    """The axis of a memref along which every access has the number of the iteration as its index, None without one.

    Args:
        accesses: to one memref.
        extents: those of the outermost loops, which the iterations are of.
    """
    steps = {p: math.prod(extents[p + 1 :]) for p, extent in enumerate(extents) if extent > 1}
    for axis in range(len(accesses[0].exprs)):
        forms = [a.forms[axis] for a in accesses]
        plain = [f for f in forms if f is not None and not f.constant]
        if len(plain) == len(forms) and all(_varying(f, extents) == steps for f in plain):
            return axis
    return None


def number_of(extents: Sequence[int]) -> ir.AffineExpr:
    """The number of an iteration, of the loops of these extents, outermost first: dimension p is loop p."""
    return from_linear(LinearForm({p: math.prod(extents[p + 1 :]) for p in range(len(extents))}, 0))


def _varying(form: LinearForm, extents: Sequence[int]) -> dict[int, int]:
    """The coefficients but those of loops of one iteration."""
    return {p: c for p, c in form.coefficients.items() if p >= len(extents) or extents[p] > 1}


def _separates(axis: int, sites: Sequence[tuple[Access, list[int | None]]], extents: Sequence[int]) -> bool:
    common: dict[int, int] | None = None
    lows, highs = [], []
    for access, limits in sites:
        form = linear_form(access.exprs[axis])
        if form is None:
            return False
        outer = {p: c for p, c in form.coefficients.items() if p < len(extents)}
        if common not in (None, outer):
            return False
        common = outer
        low = high = form.constant
        for p, coefficient in form.coefficients.items():
            limit = limits[p]
            if p >= len(extents):
                if limit is None:
                    return False
                low, high = low + min(0, coefficient * (limit - 1)), high + max(0, coefficient * (limit - 1))
        last = axis == len(access.exprs) - 1
        lows.append(low)
        highs.append(high + (access.lanes - 1 if last else 0))
    steps = [(common or {}).get(p, 0) for p, extent in enumerate(extents) if extent > 1][::-1]
    inner = [extent for extent in extents if extent > 1][:0:-1]
    least = [max(highs) - min(lows) + 1, *(step * extent for step, extent in zip(steps, inner, strict=False))]
    return all(step >= enough for step, enough in zip(steps, least, strict=True))
