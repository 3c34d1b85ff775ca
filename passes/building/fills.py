"""Nests that fill a memref with one value, and what of them is overwritten before it is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.memory.access_index import AccessIndex, Entry, Site
from loopmorph.passes.analysis.memory.box import Box, filled, remainder
from loopmorph.passes.analysis.structure import body_of
from loopmorph.passes.building.edit_accesses import erase_nest
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, store
from loopmorph.passes.building.rebuild import NEST_MARKS

MAX_PIECES = 8  # a fill in more pieces than this costs more than writing some elements twice


def is_fill(entry: Entry) -> bool:
    """Whether the nest does nothing but store one constant to one memref."""
    if len(entry.sites) != 1 or not entry.is_plain or len(body_of(entry.nest.loops[-1].op)) != 1:
        return False
    site = entry.sites[0]
    return site.access.kind == "store" and _is_outer_constant(site.access.op.operands[0])


def shrink_fills(index: AccessIndex, memrefs: Iterable[ir.Value]) -> None:
    """Lets each fill of the memrefs leave out what is overwritten before it is read.

    Only boxes count that a perfect rectangular nest overwrites whole. What is left is filled by one nest per box;
    the new nests are not entered into the index.
    """
    place = index.positions()
    for memref in list(memrefs):
        if index.is_known(memref):
            sites = sorted(index.sites[memref], key=lambda site: place[site.entry])
            for k, site in enumerate(sites):
                if is_fill(site.entry):
                    _shrink(site, sites[k + 1 :], index)


def _shrink(fill: Site, later: Sequence[Site], index: AccessIndex) -> None:
    box = _filled(fill)
    if box is None:
        return
    holes = _overwritten([site for site in later if site.region.overlaps(box)])
    if not holes:
        return
    pieces = remainder(box, holes)
    if len(pieces) <= MAX_PIECES:
        for piece in pieces:
            _build_fill(fill, piece)
        erase_nest(index, fill.entry)


def _overwritten(later: Sequence[Site]) -> list[Box]:
    """The boxes that are overwritten, each by one nest, before anything is read there. `later` is in program order."""
    read: list[Box] = []
    holes: list[Box] = []
    for _, group in groupby(later, key=lambda site: site.entry):
        mine = list(group)
        read += [site.region for site in mine if site.access.kind == "load"]
        for site in mine:
            if site.access.kind == "store" and site.entry.is_plain:
                hole = _filled(site)
                if hole is not None and not any(hole.overlaps(box) for box in read):
                    holes.append(hole)
    return holes


def _filled(site: Site) -> Box | None:
    """The box that a store of a perfect rectangular nest fills, if it fills one."""
    return filled(site.access.exprs, [extent or 0 for extent in site.entry.nest.extents])


def _build_fill(fill: Site, piece: Box) -> None:
    """Builds, before the fill, a nest that fills just a piece with the same value; axes keep their iterators' names."""
    root = fill.entry.nest.root
    value, memref = fill.access.op.operands[0], fill.access.memref
    names = [_iterator(fill, expr, axis) for axis, expr in enumerate(fill.access.exprs)]
    texts = {name: marks.get_text(root, name) for name in NEST_MARKS if name in root.attributes}
    exprs = [ir.AffineExpr.get_dim(axis) + begin for axis, begin in enumerate(piece.begin)]
    map_ = ir.AffineMap.get(len(exprs), 0, exprs)
    with ir.InsertionPoint(root):
        header = NestHeader(tuple(names), piece.shape, texts)
        build_nest(header, lambda variables: store(value, memref, map_, variables), root.location)


def _iterator(fill: Site, expr: ir.AffineExpr, axis: int) -> str:
    """The name of the loop that runs over an axis."""
    dims = used_dims(expr)
    return fill.entry.nest.iterators[min(dims)] if dims else f"i{axis}"


def _is_outer_constant(value: ir.Value) -> bool:
    owner = value.owner
    return isinstance(owner, ir.Operation | ir.OpView) and owner.name == "arith.constant" and _is_outer(owner)


def _is_outer(op: ir.Operation | ir.OpView) -> bool:
    return op.operation.parent.name == "func.func"
