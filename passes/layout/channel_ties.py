"""Which dimensions of a function would have to grow together, and what keeps them from growing.

A loop that indexes results is tied to every axis of an activation that it indexes. A reduction is not: it reads the
real part of a grown axis as before. A slice (of a concatenation) is tied to that range of the larger dimension, so each
range grows by itself and what follows it is renumbered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch_mlir import ir

from loopmorph.passes.affine_expr import downcast, used_dims
from loopmorph.passes.analysis.coupling.disjoint_sets import DisjointSets
from loopmorph.passes.analysis.coupling.pins import pin_of_loop, pin_of_nest
from loopmorph.passes.analysis.coupling.program_accesses import AxisKey
from loopmorph.passes.analysis.coupling.ties import Tie, tie
from loopmorph.passes.analysis.memory.access_index import AccessIndex, Entry, Site
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.roles import accumulates
from loopmorph.passes.nest import Loop, Nest

Member: TypeAlias = ir.Operation | AxisKey  # a loop, or an axis of a memref

# What may compute a padded lane: nothing that traps, and no address but those of the access maps.
_ELEMENTS = frozenset({"f16", "bf16", "f32", "f64"})
_OPERATIONS = frozenset({"addf", "subf", "mulf", "divf", "negf", "maximumf", "minimumf", "maxnumf", "minnumf", "cmpf"})
_HARMLESS = frozenset({f"arith.{name}" for name in (*_OPERATIONS, "truncf", "extf", "select", "constant")}) | {
    *("affine.for", "affine.yield", "affine.load", "affine.store", "affine.apply"),
}


@dataclass(frozen=True, eq=False)
class Read:
    """An access to an activation along an axis that does not grow with it: a sum's read, or a copy to an argument."""

    site: Site
    axis: int
    tie: Tie

    @property
    def key(self) -> AxisKey:
        return self.site.access.memref, self.axis


@dataclass(frozen=True)
class _Slice:
    """A dimension that is a range of another one."""

    part: Member
    whole: Member
    offset: int
    length: int


@dataclass(frozen=True)
class Family:
    """Dimensions that grow together: tied ones, and those of which they are slices.

    Attributes:
        extents: root of a class of tied dimensions -> extent.
        cuts: root -> where segments begin, 0 left out.
    """

    extents: dict[Member, int]
    cuts: dict[Member, set[int]]


class ChannelTies:
    """The ties of one function.

    Attributes:
        entries: its nests but for those that only parameters pass through.
        parameters: memrefs that depend on parameters alone.
        reads: accesses by loops that are not tied to what they access: reductions, and those of `borders`.
        borders: root of a nest -> its loops along which it accesses an argument, whose shape stays.
        pinned: dimensions that have to stay as they are.
        members: what stands for a class of tied dimensions -> all of them.
    """

    def __init__(self, index: AccessIndex, parameters: Collection[ir.Value]) -> None:
        self.parameters = parameters
        self.reads: list[Read] = []
        self.borders: dict[ir.Operation, set[int]] = {}
        self.pinned: set[Member] = set()
        self._activations = {m for m in index.sites if m not in parameters and is_local(m) and index.is_known(m)}
        self.entries = [e for e in index.entries if any(s.access.memref not in parameters for s in e.sites)]
        self._extents: dict[Member, int] = {}
        self._slices: list[_Slice] = []
        self._sets: DisjointSets[Member] = DisjointSets()
        for entry in self.entries:
            self._collect(entry)
        self.members: dict[Member, list[Member]] = {}
        for member in self._extents:
            self.members.setdefault(self._sets.find(member), []).append(member)

    def root(self, member: Member) -> Member:
        """What stands for all dimensions tied to this one."""
        return self._sets.find(member)

    def families(self, wanted: Collection[Member]) -> Iterator[Family]:
        """The families that hold one of the wanted classes and nothing pinned, with the segments of each."""
        pinned = {self._sets.find(member) for member in self.pinned}
        for roots in self._connected():
            if any(root in wanted for root in roots) and not any(root in pinned for root in roots):
                extents = {root: self._extents[self.members[root][0]] for root in roots}
                yield Family(extents, self._cuts(roots))

    # -- collecting

    def _collect(self, entry: Entry) -> None:
        nest = entry.nest
        if pin_of_nest(nest) is not None or not _is_lane_by_lane(nest):
            self._pin_all(entry)
            return
        stored = {d for store in nest.stores for e in store.exprs for d in used_dims(e)}
        borders = self._border_loops(entry, stored)
        if borders:
            self.borders[nest.root.operation] = borders
        for loop in nest.loops:
            if loop.position in stored:
                self._extents[loop.op.operation] = loop.extent or 1
                if pin_of_loop(nest, loop) is not None or not _indexes_all_stores(nest, loop):
                    self.pinned.add(loop.op.operation)
        sums = accumulates(nest)
        for site in entry.sites:
            if self._is_foreign(site) and not borders:
                self.pinned |= {nest.loops[d].op.operation for e in site.access.exprs for d in used_dims(e)}
            for axis, extent in enumerate(ir.MemRefType(site.access.memref.type).shape):
                if extent == 1:
                    continue
                if site.access.memref in self.parameters:
                    self._parameter(site, axis)
                elif site.access.memref in self._activations:
                    self._extents[site.access.memref, axis] = extent
                    self._activation(site, axis, stored, borders, sums)

    def _border_loops(self, entry: Entry, stored: Collection[int]) -> set[int]:
        """The loops that index an argument; only of element-wise nests, which can be cut."""
        nest = entry.nest
        if len(stored) < len(nest.loops) or not nest.is_perfect:
            return set()
        return {d for site in entry.sites if self._is_foreign(site) for e in site.access.exprs for d in used_dims(e)}

    def _is_foreign(self, site: Site) -> bool:
        return site.access.memref not in self.parameters and site.access.memref not in self._activations

    def _pin_all(self, entry: Entry) -> None:
        """Pins every dimension that a nest touches."""
        for site in entry.sites:
            for axis, extent in enumerate(ir.MemRefType(site.access.memref.type).shape):
                self._extents[site.access.memref, axis] = extent
                self.pinned.add((site.access.memref, axis))

    def _parameter(self, site: Site, axis: int) -> None:
        """A loop over an axis of a parameter can grow if it runs over all of it."""
        expr = downcast(site.access.exprs[axis])
        type_ = ir.MemRefType(site.access.memref.type)
        loops = site.entry.nest.loops
        whole = isinstance(expr, ir.AffineDimExpr) and loops[expr.position].extent == type_.shape[axis]
        if whole and str(type_.element_type) in _ELEMENTS:
            return
        self.pinned |= {loops[p].op.operation for p in used_dims(expr) if loops[p].extent != 1}

    def _activation(self, site: Site, axis: int, stored: Collection[int], borders: Collection[int], sums: bool) -> None:
        nest, access = site.entry.nest, site.access
        key = (access.memref, axis)
        relation = tie(nest, access, axis)
        loops = [p for p in used_dims(access.exprs[axis]) if nest.loops[p].extent != 1]
        reductions = [p for p in loops if p not in stored]
        single = len(loops) == 1 and not reductions
        if single and relation.kind == "digits" and loops[0] in borders:
            self.reads.append(Read(site, axis, relation))
            return
        if single and relation.kind == "digits":
            self._sets.join(nest.loops[loops[0]].op.operation, key)
        elif single and relation.kind == "slice" and loops[0] not in borders:
            loop = nest.loops[loops[0]]
            self._slices.append(_Slice(loop.op.operation, key, relation.offset, loop.extent or 1))
        elif reductions and access.kind == "load" and sums:
            self.reads.append(Read(site, axis, relation))
            self.pinned |= {nest.loops[p].op.operation for p in loops if p not in reductions}
        else:
            self.pinned.add(key)
            self.pinned |= {nest.loops[p].op.operation for p in loops}

    # -- classes

    def _connected(self) -> list[list[Member]]:
        """The classes that slices connect."""
        group: dict[Member, list[Member]] = {root: [root] for root in self.members}
        for edge in self._slices:
            a, b = group[self._sets.find(edge.part)], group[self._sets.find(edge.whole)]
            if a is not b:
                a += b
                for root in b:
                    group[root] = a
        return list({id(roots): roots for roots in group.values()}.values())

    def _cuts(self, roots: Sequence[Member]) -> dict[Member, set[int]]:
        """Where slices cut the dimensions, each carried over to those that it is a slice of, and back."""
        cuts: dict[Member, set[int]] = {root: set() for root in roots}
        edges = [edge for edge in self._slices if self._sets.find(edge.whole) in cuts]
        changed = True
        while changed:
            changed = False
            for edge in edges:
                part, whole = cuts[self._sets.find(edge.part)], cuts[self._sets.find(edge.whole)]
                end = edge.offset + edge.length
                n_known = len(part) + len(whole)
                whole |= {edge.offset, end, *(edge.offset + cut for cut in part)}
                whole -= {0, self._extents[edge.whole]}
                part |= {cut - edge.offset for cut in whole if edge.offset < cut < end}
                changed |= len(part) + len(whole) != n_known
        return cuts


def _indexes_all_stores(nest: Nest, loop: Loop) -> bool:
    """Whether each iteration of the loop writes elements of its own alone."""
    inside = [store for store in nest.stores if loop.position in store.loops]
    return all(loop.position in store.dims for store in inside)


def _is_lane_by_lane(nest: Nest) -> bool:
    """Whether the nest computes floats alone, by operations that a lane of any contents can go through."""
    ops = [op.operation for loop in nest.loops for op in loop.op.body.operations]
    return all(op.name in _HARMLESS or op.name.startswith("math.") for op in ops)
