"""Which channel dimensions to pad to the vector width, and all that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes.affine_expr import downcast, used_dims
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.coupling.growth import Growth
from loopmorph.passes.analysis.coupling.keep_set import KeepSet
from loopmorph.passes.analysis.coupling.ties import tie
from loopmorph.passes.analysis.memory.access_index import AccessIndex, Entry, Site
from loopmorph.passes.analysis.memory.dataflow import parameter_work
from loopmorph.passes.analysis.operands import find_operands
from loopmorph.passes.analysis.roles import CHANNEL_AXIS
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.layout.channel_ties import ChannelTies, Family, Member, Read
from loopmorph.passes.layout.pad_lanes import State, adds_nothing, padded_lanes
from loopmorph.passes.nest import Loop, Nest
from loopmorph.passes.winograd.match import match_convolution

_ACTIVATION_RANK = 4
# Three 3x3 convolutions of 28x28 with AVX-512 took so many times longer unpadded, channels: 4: 1.8, 8: 5.8, 20: 14,
# 24: 20, 40: 74, 56: 100, 100: 121. So even four lanes of sixteen pay; the 3 channels of an image are not padded.
MOST_GROWTH = 4.0
# A sum need not grow with what it reads: it does for little more work, or where Winograd wants vectors of it and
# spares more than that, as it does where windows move by 1. This bound is an estimate.
MOST_SUM_GROWTH = 1.25


@dataclass(frozen=True)
class PaddedLoop:
    """A loop that runs over more iterations.

    Attributes:
        nest: its nest.
        loop: the loop.
        keep: over the new iterations, the old ones.
        is_named: whether it is an output or input channel of a contraction, which a report names.
    """

    nest: Nest
    loop: Loop
    keep: KeepSet
    is_named: bool


@dataclass(frozen=True)
class PaddedAxes:
    """The axes of a padded copy of a parameter.

    Attributes:
        keeps: for each axis, what of the copy comes from the parameter.
        repeated: the axes along which new lanes are like the last one before them; along the others they are zeros,
            since a sum runs over them.
    """

    keeps: tuple[KeepSet, ...]
    repeated: frozenset[int]


@dataclass(frozen=True)
class ChannelPadding:
    """What has to change.

    Attributes:
        loops: the loops that grow.
        axes: the axes of local memrefs that grow, and where the old indices come to lie.
        accesses: the accesses whose index is another, with the new one.
        parameters: the reads of parameters that need a padded copy.
        borders: nests that go on accessing the old part of a grown memref alone, and the loop along it.
    """

    loops: tuple[PaddedLoop, ...]
    axes: tuple[tuple[ir.Value, int, KeepSet], ...]
    accesses: tuple[tuple[Site, tuple[ir.AffineExpr, ...]], ...]
    parameters: tuple[tuple[Site, PaddedAxes], ...]
    borders: tuple[tuple[Entry, int], ...]


def plan_padding(function: func.FuncOp, width: int) -> ChannelPadding | None:
    """The padding of a function's channels to multiples of `width`; None where there is none that pays."""
    index = AccessIndex(function)
    contractions = [c for entry in index.entries if (c := _contraction(entry)) is not None]
    if all(c.is_aligned(width) for c in contractions):
        return None
    planner = _Planner(ChannelTies(index, parameter_work(function).memrefs), contractions, width)
    return planner.plan()


@dataclass(frozen=True)
class _Contraction:
    """A nest that sums products into an activation along one iterator of channels."""

    entry: Entry
    channel: Loop
    offset: int
    input: ir.Value
    work: int

    def is_aligned(self, width: int) -> bool:
        """Whether its channels are whole vectors as they are."""
        return (self.channel.extent or 1) % width == 0 and self.offset % width == 0


def _contraction(entry: Entry) -> _Contraction | None:
    nest = entry.nest
    operands = find_operands([site.access for site in entry.sites])
    if operands is None or len(operands.output.exprs) != _ACTIVATION_RANK:
        return None
    relation = tie(nest, operands.output, CHANNEL_AXIS)
    channels = [p for p in relation.loops if nest.loops[p].extent != 1]
    work = macs(nest)
    if len(channels) != 1 or relation.kind not in ("digits", "slice") or not work:
        return None
    return _Contraction(entry, nest.loops[channels[0]], relation.offset, operands.input.memref, work)


class _Planner:
    """Chooses the families that grow, drops those that some nest cannot follow, then collects all that changes."""

    def __init__(self, ties: ChannelTies, contractions: Sequence[_Contraction], width: int) -> None:
        self.ties = ties
        self.contractions = contractions
        self.width = width
        self.growth: dict[Member, Growth] = {}
        self.family: dict[Member, Family] = {}
        self.sums: dict[ir.Operation, KeepSet] = {}  # reductions that grow
        self.written: dict[Member, list[_Contraction]] = {}
        for contraction in contractions:
            self.written.setdefault(ties.root(contraction.channel.op.operation), []).append(contraction)
        inputs = {(c.entry, c.input, CHANNEL_AXIS) for c in contractions}
        self.summed = {ties.root(r.key) for r in ties.reads if (r.site.entry, *r.key) in inputs}
        # the axes of which a nest at the border writes the real part alone
        self.unwritten = {read.key for read in ties.reads if read.site.access.kind == "store"}

    def plan(self) -> ChannelPadding | None:
        for family in self.ties.families(self.written.keys() | self.summed):
            growth = {r: Growth.of(extent, family.cuts[r], self.width) for r, extent in family.extents.items()}
            if self._pays(growth):
                self.growth |= growth
                self.family |= dict.fromkeys(growth, family)
        while self.growth and (refused := self._refused()):
            for root in refused:
                self._drop(root)
        return self._collect() if self.growth else None

    def _pays(self, growth: Mapping[Member, Growth]) -> bool:
        """Whether the work that grows with a family is worth the vectors."""
        if all(g.keep.is_whole for g in growth.values()):
            return False
        written = [(c, _ratio(growth[root])) for root in growth for c in self.written.get(root, ())]
        if written:
            return sum(c.work * ratio for c, ratio in written) <= MOST_GROWTH * sum(c.work for c, _ in written)
        summed = self.summed & growth.keys()
        unwritten = {self.ties.root(key) for key in self.unwritten}
        return not summed & unwritten and all(_ratio(growth[root]) <= MOST_GROWTH for root in summed)

    def _drop(self, root: Member) -> None:
        if root in self.family:
            for each in self.family[root].extents:
                del self.growth[each], self.family[each]

    # -- reductions

    def _refused(self) -> set[Member]:
        """Decides which reductions grow; the classes that a read cannot follow."""
        self.sums = {}
        state = self._state()
        refused: set[Member] = set()
        reads: dict[ir.Operation, list[Read]] = {}
        for read in self.ties.reads:
            if self._growth_of(read.key) is not None:
                reads.setdefault(read.site.entry.nest.root.operation, []).append(read)
        for own in reads.values():
            nest = own[0].site.entry.nest
            needed = {self.ties.root(read.key) for read in own if not self._stays(read)}
            borders = self.ties.borders.get(nest.root.operation, set())
            for position in sorted({p for read in own for p in _moving(nest, read)} - borders):
                keep = self._growth_of_sum(own, position, state)
                if keep is not None and (needed or _pays_in_sum(nest, keep)):
                    self.sums[nest.loops[position].op.operation] = keep
                    grown = {self.ties.root(read.key) for read in own if _moving(nest, read) == [position]}
                    needed -= grown
            refused |= needed
        return refused

    def _state(self) -> State:
        padded: dict[ir.Operation, list[int]] = {}
        for entry in self.ties.entries:
            grown = [loop.position for loop in entry.nest.loops if self._result_growth(loop) is not None]
            if grown:
                padded[entry.nest.root.operation] = grown
        unwritten = {key[0] for key in self.unwritten if self._growth_of(key) is not None}
        return padded_lanes([e.nest for e in self.ties.entries], padded, self.ties.parameters, unwritten)

    def _result_growth(self, loop: Loop) -> Growth | None:
        """How a loop that indexes results grows."""
        return self._growth_of(loop.op.operation)

    def _growth_of(self, member: Member) -> Growth | None:
        """How a dimension grows, None where it does not."""
        growth = self.growth.get(self.ties.root(member))
        return None if growth is None or growth.keep.is_whole else growth

    def _stays(self, read: Read) -> bool:
        """Whether the read can go on over the old indices."""
        growth = self.growth[self.ties.root(read.key)]
        if len(_moving(read.site.entry.nest, read)) == 1 and read.tie.kind in ("digits", "slice"):
            return growth.is_contiguous(*_range(read))
        return len(growth.keep.intervals) == 1

    def _growth_of_sum(self, reads: Sequence[Read], position: int, state: State) -> KeepSet | None:
        """How a reduction could grow: with all that it indexes, and without a change of the sums."""
        entry = reads[0].site.entry
        loop = entry.nest.loops[position]
        found: set[KeepSet | None] = set()
        following = {(read.site, read.axis): read for read in reads if _moving(entry.nest, read) == [position]}
        for site in entry.sites:
            for axis, expr in enumerate(site.access.exprs):
                if position not in used_dims(expr):
                    continue
                if site.access.memref in self.ties.parameters:
                    if not _runs_over(site, axis, loop):
                        return None
                elif (site, axis) not in following or following[site, axis].tie.kind not in ("digits", "slice"):
                    return None
                else:
                    read = following[site, axis]
                    found.add(self.growth[self.ties.root(read.key)].whole_segments(*_range(read)))
        (keep,) = found if len(found) == 1 else (None,)
        if keep is None or keep.is_whole or not adds_nothing(entry.nest, position, self.ties.parameters, state):
            return None
        return keep

    # -- all that changes

    def _collect(self) -> ChannelPadding:
        loops: list[PaddedLoop] = []
        parameters: list[tuple[Site, PaddedAxes]] = []
        accesses: list[tuple[Site, tuple[ir.AffineExpr, ...]]] = []
        borders: list[tuple[Entry, int]] = []
        channels = {c.channel.op.operation for c in self.contractions}
        summed = {c.entry for c in self.contractions}
        for entry in self.ties.entries:
            keeps: dict[int, KeepSet] = {}
            for loop in entry.nest.loops:
                op = loop.op.operation
                growth = self._result_growth(loop)
                keep = growth.keep if growth is not None else self.sums.get(op)
                if keep is not None:
                    keeps[loop.position] = keep
                    named = op in channels or (growth is None and entry in summed)
                    loops.append(PaddedLoop(entry.nest, loop, keep, named))
            for site in entry.sites:
                copied = self._copied(site, keeps)
                if copied is not None:
                    parameters.append((site, copied))
                exprs = self._renumbered(site)
                if exprs != site.access.exprs:
                    accesses.append((site, exprs))
            borders += [(entry, position) for position in self._border(entry)[:1]]
        axes = [(*key, g.keep) for key, g in self._grown_axes() if not g.keep.is_whole]
        return ChannelPadding(tuple(loops), tuple(axes), tuple(accesses), tuple(parameters), tuple(borders))

    def _grown_axes(self) -> list[tuple[tuple[ir.Value, int], Growth]]:
        members = [(member, growth) for root, growth in self.growth.items() for member in self.ties.members[root]]
        return [(member, growth) for member, growth in members if isinstance(member, tuple)]

    def _copied(self, site: Site, keeps: Mapping[int, KeepSet]) -> PaddedAxes | None:
        """The axes of a padded copy; None where the access reads no parameter in padded lanes."""
        if site.access.memref not in self.ties.parameters:
            return None
        exprs = [downcast(e) for e in site.access.exprs]
        shape = ir.MemRefType(site.access.memref.type).shape
        along = [e.position if isinstance(e, ir.AffineDimExpr) else None for e in exprs]
        if not any(p in keeps for p in along):
            return None
        pairs = zip(along, shape, strict=True)
        loops = site.entry.nest.loops
        summed = {loop.position for loop in loops if loop.op.operation in self.sums}
        return PaddedAxes(
            tuple(KeepSet.whole(extent) if p is None or p not in keeps else keeps[p] for p, extent in pairs),
            frozenset(axis for axis, p in enumerate(along) if p in keeps and p not in summed),
        )

    def _renumbered(self, site: Site) -> tuple[ir.AffineExpr, ...]:
        access = site.access
        exprs = list(access.exprs)
        for axis in range(len(exprs)):
            growth = self._growth_of((access.memref, axis))
            if growth is not None:
                relation = tie(site.entry.nest, access, axis)
                if relation.kind == "slice" and relation.offset:
                    exprs[axis] = exprs[axis] + (growth.place(relation.offset) - relation.offset)
        return tuple(exprs)

    def _border(self, entry: Entry) -> list[int]:
        """The loops along which a nest at the border accesses the old part of a memref that grows."""
        grown = {
            p
            for read in self.ties.reads
            if read.site.entry is entry and self._growth_of(read.key) is not None
            for p in _moving(entry.nest, read)
        }
        return sorted(grown & self.ties.borders.get(entry.nest.root.operation, set()))


def _moving(nest: Nest, read: Read) -> list[int]:
    """The loops of more than one iteration that a read depends on."""
    return sorted(p for p in used_dims(read.site.access.exprs[read.axis]) if nest.loops[p].extent != 1)


def _range(read: Read) -> tuple[int, int]:
    """The old indices that a read by one loop touches, the end excluded."""
    nest = read.site.entry.nest
    (position,) = _moving(nest, read)
    return read.tie.offset, read.tie.offset + (nest.loops[position].extent or 1)


def _runs_over(site: Site, axis: int, loop: Loop) -> bool:
    expr = downcast(site.access.exprs[axis])
    shape = ir.MemRefType(site.access.memref.type).shape
    return isinstance(expr, ir.AffineDimExpr) and expr.position == loop.position and shape[axis] == loop.extent


def _ratio(growth: Growth) -> float:
    return growth.extent / growth.keep.size


def _pays_in_sum(nest: Nest, keep: KeepSet) -> bool:
    """Whether a reduction should run over the padded lanes, though it need not."""
    if keep.extent <= MOST_SUM_GROWTH * keep.size:
        return True
    try:
        return match_convolution(nest).stride == 1
    except IllegalTransform:
        return False
