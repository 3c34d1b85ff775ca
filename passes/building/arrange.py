"""The common core of split, tile, interchange and fuse: a band of loops cut, joined and put in a new order.

Each new loop is a `Piece` of old ones. From the list of pieces follow the new bounds, the old iterators as affine
expressions of the new ones, and the new execution order, which the dependence analysis judges.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch_mlir import ir

from loopmorph.passes.affine_expr import downcast, simplify, substitute, used_dims
from loopmorph.passes.analysis.bounds import constants
from loopmorph.passes.analysis.dependence.dependence import band_violation
from loopmorph.passes.analysis.structure import perfect_band
from loopmorph.passes.building.rebuild import NewLoop, Rebuild
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Loop, Nest


@dataclass(frozen=True)
class Piece:
    """What one new loop takes from the old ones.

    Attributes:
        iterator: name of the new loop.
        sources: positions of the old loops: one, or several that are joined, outermost first.
        part: "whole"; or, of a loop cut into blocks, "outer" (the number of the block) or "inner" (the place in it).
        factor: length of the blocks.
    """

    iterator: str
    sources: tuple[int, ...]
    part: Literal["whole", "outer", "inner"] = "whole"
    factor: int = 1


def whole(loop: Loop) -> Piece:
    """The loop as it is."""
    return Piece(loop.iterator, (loop.position,))


def cut(loop: Loop, factor: int) -> tuple[Piece, Piece]:
    """The loop `ow` in blocks: `ow.0` counts the blocks, `ow.1` the places in a block of length `factor`."""
    outer = Piece(f"{loop.iterator}.0", (loop.position,), "outer", factor)
    return outer, Piece(f"{loop.iterator}.1", (loop.position,), "inner", factor)


def arrange(nest: Nest, band: Sequence[int], pieces: Sequence[Piece]) -> Rebuild:
    """The plan that replaces a perfect band by the loops of `pieces`, outermost first. Checks no dependences.

    Raises:
        IllegalTransform: a loop would leave one that its bounds depend on, or two iterators would have one name.
    """
    _require_unique_names(nest, band, pieces)
    around = nest.around(band[0])
    frame = {p: ir.AffineExpr.get_dim(k) for k, p in enumerate(around)}
    old = _old_iterators(nest, pieces, len(around))
    names = [*(nest.iterators[p] for p in around), *(piece.iterator for piece in pieces)]
    loops = []
    for k, piece in enumerate(pieces):
        loop = _new_loop(nest, pieces, k, frame | old, len(around))
        late = {d for e in (*loop.lower, *loop.upper) for d in used_dims(e) if d >= len(around) + k}
        if late:
            outer = ", ".join(f"'{names[d]}'" for d in sorted(late))
            raise IllegalTransform(
                nest.label, f"the bounds of '{piece.iterator}' depend on {outer}, which must stay outside it"
            )
        loops.append(loop)
    return Rebuild(nest, tuple(band), tuple(loops), old)


def require_order_kept(nest: Nest, band: Sequence[int], pieces: Sequence[Piece]) -> None:
    """Raises:
    IllegalTransform: running the pieces in this order would reverse a dependence; names it.
    """
    times = [_time(piece, p) for piece in pieces for p in piece.sources]
    violation = band_violation(nest, band, times)
    if violation is not None:
        order = ", ".join(piece.iterator for piece in pieces)
        raise IllegalTransform(nest.label, f"the order {order} would reverse {violation.describe(nest)}")


def band_with(nest: Nest, loops: Sequence[Loop]) -> tuple[int, ...]:
    """The perfect band from the first of `loops` down to the innermost, which holds all of them.

    Raises:
        IllegalTransform: the loops are not perfectly nested in each other.
    """
    first, *others = sorted(loops, key=lambda loop: loop.position)
    band = perfect_band(nest, first.position)
    for loop in others:
        if loop.position not in band:
            reason = f"loops '{first.iterator}' and '{loop.iterator}' are not perfectly nested in each other"
            raise IllegalTransform(nest.label, reason)
    return band


def find_loops(nest: Nest, iterators: Sequence[str], argument: str, at_least: int = 1) -> list[Loop]:
    """The loops of the iterators, as listed.

    Raises:
        ArgumentError: an iterator is unknown or listed twice, or there are too few.
    """
    if len(iterators) < at_least:
        raise ArgumentError(argument, f"expected at least {at_least} iterators, got {len(iterators)}")
    for name, count in Counter(iterators).items():
        if count > 1:
            raise ArgumentError(argument, f"iterator '{name}' is listed {count} times")
    return [nest.loop(name, argument) for name in iterators]


def require_factor(nest: Nest, loop: Loop, factor: int, argument: str) -> None:
    """Checks that a loop can be cut into blocks of length `factor`.

    Raises:
        ArgumentError: the factor is not in 2 .. extent - 1.
        IllegalTransform: the loop does not start at 0 with step 1.
    """
    require_normal(nest, loop)
    ends = constants(nest.bounds(loop).upper)
    if ends and min(ends) <= 2:
        raise IllegalTransform(nest.label, f"'{loop.iterator}' has extent {min(ends)}, too short to be split")
    if factor < 2 or (ends and factor >= min(ends)):
        wanted = f"between 2 and {min(ends) - 1}" if ends else "at least 2"
        raise ArgumentError(argument, f"the factor for '{loop.iterator}' must be {wanted}, got {factor}")


def require_normal(nest: Nest, loop: Loop) -> None:
    """Raises:
    IllegalTransform: the loop does not start at 0 with step 1.
    """
    bounds = nest.bounds(loop)
    if bounds.step != 1 or len(bounds.lower) != 1 or constants(bounds.lower) != [0]:
        raise IllegalTransform(nest.label, f"loop '{loop.iterator}' does not start at 0 with step 1")


def _require_unique_names(nest: Nest, band: Sequence[int], pieces: Sequence[Piece]) -> None:
    others = [loop.iterator for loop in nest.loops if loop.position not in band]
    for name, count in Counter([*others, *(piece.iterator for piece in pieces)]).items():
        if count > 1 and name in {piece.iterator for piece in pieces}:
            raise IllegalTransform(nest.label, f"the nest already has an iterator '{name}'")


def _old_iterators(nest: Nest, pieces: Sequence[Piece], n_around: int) -> dict[int, ir.AffineExpr]:
    """Each old iterator over the frame (see `rebuild`)."""
    old: dict[int, ir.AffineExpr] = {}
    for k, piece in enumerate(pieces):
        dim = ir.AffineExpr.get_dim(n_around + k)
        if len(piece.sources) > 1:
            old |= _unjoin(nest, piece, dim)
            continue
        (source,) = piece.sources
        term = dim * piece.factor if piece.part == "outer" else dim
        old[source] = old[source] + term if source in old else term
    return old


def _unjoin(nest: Nest, piece: Piece, dim: ir.AffineExpr) -> dict[int, ir.AffineExpr]:
    """The iterators that a joined loop stands for: quotients and remainders of its own."""
    extents = [_extent(nest, p) for p in piece.sources]
    limits = [math.prod(extents)] * (1 + max(used_dims(dim)))
    old = {}
    for k, p in enumerate(piece.sources):
        quotient = ir.AffineExpr.get_floor_div(dim, ir.AffineExpr.get_constant(math.prod(extents[k + 1 :])))
        place = ir.AffineExpr.get_mod(quotient, ir.AffineExpr.get_constant(extents[k])) if k else quotient
        old[p] = simplify(place, limits)
    return old


def _extent(nest: Nest, position: int) -> int:
    loop = nest.loops[position]
    if not loop.extent:
        raise IllegalTransform(nest.label, f"the extent of loop '{loop.iterator}' is no constant above 0")
    return loop.extent


def _new_loop(nest: Nest, pieces: Sequence[Piece], k: int, exprs: dict[int, ir.AffineExpr], n_around: int) -> NewLoop:
    piece = pieces[k]
    source = piece.sources[0]
    zero = (ir.AffineExpr.get_constant(0),)
    if len(piece.sources) > 1:
        extent = math.prod(_extent(nest, p) for p in piece.sources)
        return NewLoop(piece.iterator, source, zero, (ir.AffineExpr.get_constant(extent),))
    bounds = nest.bounds(nest.loops[source])
    n_dims = n_around + len(pieces)
    lower = tuple(_bound(e, exprs, len(nest.loops), n_dims) for e in bounds.lower)
    upper = tuple(_bound(e, exprs, len(nest.loops), n_dims) for e in bounds.upper)
    if piece.part == "whole":
        return NewLoop(piece.iterator, source, lower, upper, bounds.step)
    factor = ir.AffineExpr.get_constant(piece.factor)
    if piece.part == "outer":
        return NewLoop(piece.iterator, source, zero, tuple(ir.AffineExpr.get_ceil_div(e, factor) for e in upper))
    outer = next(j for j, p in enumerate(pieces) if p.sources == piece.sources and p.part == "outer")
    begin = ir.AffineExpr.get_dim(n_around + outer) * piece.factor
    remainders = tuple(e - begin for e in upper if any(c % piece.factor for c in constants([e]) or [1]))
    return NewLoop(piece.iterator, source, zero, (factor, *remainders))


def _bound(expr: ir.AffineExpr, exprs: dict[int, ir.AffineExpr], n_loops: int, n_dims: int) -> ir.AffineExpr:
    return ir.AffineExpr.simplify_affine_expr(substitute(downcast(expr), exprs, n_loops), n_dims, 0)


def _time(piece: Piece, position: int) -> str:
    return f"floor(i{position} / {piece.factor})" if piece.part == "outer" else f"i{position}"
