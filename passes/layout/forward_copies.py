"""`morph-forward-copies`: what is only copied into a part of another memref is computed there at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.affine_expr import downcast, linear_form, substitute
from loopmorph.passes.analysis.memory.access_index import AccessIndex, Entry, Site
from loopmorph.passes.analysis.memory.box import Box, hull, whole
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.structure import body_of
from loopmorph.passes.base import Pass
from loopmorph.passes.building.edit_accesses import erase_nest, move_nest_before, redirect_sites
from loopmorph.passes.building.fills import is_fill, shrink_fills
from loopmorph.passes.nest import functions


@dataclass(frozen=True)
class ForwardCopies(Pass):
    """Makes a memref the region of another one to which a nest copies it, and drops the copy.

    Before (a padded result):

        %x = memref.alloc() : memref<8xf32>   %y = memref.alloc() : memref<10xf32>
        affine.for %i = 0 to 8 { ... affine.store %v, %x[%i] }
        affine.for %i = 0 to 10 { affine.store %zero, %y[%i] }
        affine.for %i = 0 to 8 { %a = affine.load %x[%i]  affine.store %a, %y[%i + 1] }

    After:

        %y = memref.alloc() : memref<10xf32>
        affine.for %i = 0 to 1 { affine.store %zero, %y[%i] }
        affine.for %i = 0 to 1 { affine.store %zero, %y[%i + 9] }
        affine.for %i = 0 to 8 { ... affine.store %v, %y[%i + 1] }

    A copy is a perfect rectangular nest that loads every element of a `memref.alloc` x once, at the loops' own
    indices, and stores it to `y[m]`, where each index of m is one iterator times a constant plus a constant; y is a
    `memref.alloc` or an output. Every access `x[e]` becomes `y[m(e)]`. Of several copies of x the one that makes up
    most of y goes, the others then read y. Chains collapse: a concatenation of concatenations shares one memref.

    A copy stays where its region of y is read before it or written by others while x is in use. A nest that fills
    all of y with one value beforehand is no obstacle: it moves ahead of the first write to x.

    Finally every nest that fills a memref with one value leaves out the boxes that are overwritten before they are
    read: of the padding of an image only the border is written.
    """

    name: ClassVar[str] = "morph-forward-copies"

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for function in functions(module):
                index = AccessIndex(function)
                _forward_all(index)
                shrink_fills(index, [memref for memref in index.sites if is_local(memref) or memref in index.outputs])


@dataclass(frozen=True, eq=False)
class _Copy:
    """A copy nest.

    Attributes:
        entry: the nest.
        read: its load of x.
        write: its store to y.
        map: index of x -> index of y: one expression per axis of y over the axes of x.
        region: a box around what it writes in y.
    """

    entry: Entry
    read: Site
    write: Site
    map: tuple[ir.AffineExpr, ...]
    region: Box

    @property
    def source(self) -> ir.Value:
        return self.read.access.memref

    @property
    def target(self) -> ir.Value:
        return self.write.access.memref

    @property
    def coverage(self) -> float:
        """The part of y that x makes up."""
        source, target = (whole(ir.MemRefType(m.type).shape) for m in (self.source, self.target))
        return source.points / target.points


@dataclass(frozen=True)
class _Plan:
    """How a copy is forwarded: the fills of y to move, and the nest that they move ahead of."""

    copy: _Copy
    fills: tuple[Entry, ...]
    first: Entry


def _forward_all(index: AccessIndex) -> None:
    """Forwards copies, the last of the program first, until none is left that can be."""
    order = {op.operation: k for k, op in enumerate(index.function.entry_block.operations)}
    places = {memref: order[memref.owner] for memref in index.sites if is_local(memref)}
    changed = True
    while changed:
        changed = False
        for entry in reversed(list(index.entries)):
            copy = _copy_of(entry, index)
            if copy is None:
                continue
            rivals = [_copy_of(site.entry, index) for site in index.sites[copy.source]]
            choice = sorted((r for r in rivals if r is not None and r.source == copy.source), key=lambda r: -r.coverage)
            plan = next((p for r in choice if (p := _plan(r, index)) is not None), None)
            if plan is not None:
                _forward(plan, index, places)
                changed = True


def _copy_of(entry: Entry, index: AccessIndex) -> _Copy | None:
    """The entry as a copy nest, None where it is none or copies from or to something unsuitable."""
    if len(entry.sites) != 2 or not entry.is_plain or len(body_of(entry.nest.loops[-1].op)) != 2:
        return None
    read, write = entry.sites
    if (read.access.kind, write.access.kind) != ("load", "store"):
        return None
    source, target = read.access.memref, write.access.memref
    if source == target or not is_local(source) or not (is_local(target) or target in index.outputs):
        return None
    if write.access.op.operands[0] != read.access.op.results[0]:
        return None
    shape = ir.MemRefType(source.type).shape
    axis_of = _axes(read, shape)
    if axis_of is None:
        return None
    map_ = tuple(substitute(e, axis_of, len(entry.nest.loops)) for e in write.access.exprs)
    if not _is_one_to_one(map_, shape):
        return None
    return _Copy(entry, read, write, map_, hull(map_, shape, ir.MemRefType(target.type).shape))


def _axes(read: Site, shape: list[int]) -> dict[int, ir.AffineExpr] | None:
    """For each loop the axis of x that it runs over (0 for a loop of extent 1); None unless they run over all of x."""
    extents = read.entry.nest.extents
    axes: dict[int, ir.AffineExpr] = {}
    for axis, expr in enumerate(map(downcast, read.access.exprs)):
        if isinstance(expr, ir.AffineDimExpr) and expr.position not in axes and extents[expr.position] == shape[axis]:
            axes[expr.position] = ir.AffineExpr.get_dim(axis)
        elif shape[axis] != 1:
            return None
    if any(d not in axes and extent != 1 for d, extent in enumerate(extents)):
        return None
    return {d: ir.AffineExpr.get_constant(0) for d in range(len(extents))} | axes


def _is_one_to_one(map_: tuple[ir.AffineExpr, ...], shape: list[int]) -> bool:
    """Whether each axis of x longer than 1 moves exactly one axis of y, which no other axis of x moves."""
    seen: list[int] = []
    for expr in map_:
        form = linear_form(expr)
        if form is None:
            return False
        moving = {axis: c for axis, c in form.coefficients.items() if shape[axis] > 1}
        if len(moving) > 1 or any(c < 0 for c in moving.values()):
            return False
        seen += moving
    return sorted(seen) == [axis for axis, extent in enumerate(shape) if extent > 1]


def _plan(copy: _Copy, index: AccessIndex) -> _Plan | None:
    """Checks whether x can live in y; None where a value would be lost."""
    same_element = ir.MemRefType(copy.source.type).element_type == ir.MemRefType(copy.target.type).element_type
    if not same_element or not index.is_known(copy.source) or not index.is_known(copy.target):
        return None
    place = index.positions()
    here = place[copy.entry]
    mine = [site for site in index.sites[copy.source] if site is not copy.read]
    writes = [place[site.entry] for site in mine if site.access.kind == "store"]
    if not writes or max(writes) > here:
        return None
    first, last = min(place[site.entry] for site in mine), max(place[site.entry] for site in mine)
    others = [site for site in index.sites[copy.target] if site is not copy.write]
    fills = []
    for site in (s for s in others if s.region.overlaps(copy.region)):
        when = place[site.entry]
        if when > here and (site.access.kind == "load" or when > last):
            continue
        if when >= here or site.access.kind == "load":
            return None
        if when < first:
            continue
        if not is_fill(site.entry) or any(place[o.entry] < when for o in others):
            return None
        fills.append(site.entry)
    return _Plan(copy, tuple(fills), index.entries[first])


def _forward(plan: _Plan, index: AccessIndex, places: dict[ir.Value, int]) -> None:
    copy, source, target = plan.copy, plan.copy.source, plan.copy.target
    if target in places and places[target] > places[source]:
        target.owner.move_before(source.owner)
        places[target] = places[source]
    start = next(iter(index.function.entry_block.operations)).operation
    for fill in plan.fills:
        value = fill.sites[0].access.op.operands[0].owner
        if value != start:
            value.move_before(start)
        move_nest_before(index, fill, plan.first)
    erase_nest(index, copy.entry)
    rank = len(ir.MemRefType(source.type).shape)
    exprs_of = {}
    for site in index.sites[source]:
        axes = dict(enumerate(site.access.exprs))
        exprs_of[site] = [substitute(e, axes, rank) for e in copy.map]
    redirect_sites(index, source, target, exprs_of)
    source.owner.erase()
