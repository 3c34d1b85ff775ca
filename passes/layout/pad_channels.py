"""`morph-pad-channels`: channels that fill no whole vectors get more lanes, whose parameters are zeros."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import arith, memref

from loopmorph.passes import marks
from loopmorph.passes.analysis.coupling.keep_set import KeepSet
from loopmorph.passes.analysis.memory.access_index import Entry, Site
from loopmorph.passes.base import Pass
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, rewrite_access, store
from loopmorph.passes.building.rebuild import keep_range, set_extent
from loopmorph.passes.errors import require_least
from loopmorph.passes.layout.padding_plan import ChannelPadding, PaddedLoop, plan_padding
from loopmorph.passes.nest import functions

PADDED = "morph.padded"  # on the module: what was padded, as texts "LAYER ITERATOR EXTENT -> EXTENT"
_TEXT = re.compile(r"(.*) (\S+) (\d+) -> (\d+)")


@dataclass(frozen=True)
class PadChannels(Pass):
    """Pads channels to whole vectors, so that `morph-blocked-layout` can lay them out in blocks.

    Before (width=16, the loops over pixels left out):

        %y = memref.alloc() : memref<1x20xf32>
        affine.for %co = 0 to 20 { ... affine.load %b[%co] : memref<20xf32> ... affine.store %v, %y[%n, %co] ... }

    After:

        %p = memref.alloc() : memref<32xf32>   %y = memref.alloc() : memref<1x32xf32>
        affine.for ... to 32 { affine.store %zero, %p[...] } {morph.role = "pack"}
        affine.for ... to 20 { ... %p from %b ... } {morph.role = "pack"}
        affine.for %co = 0 to 32 { ... affine.load %p[%co] : memref<32xf32> ... affine.store %v, %y[%n, %co] ... }

    All loops and axes of local memrefs that are tied to the channels of a contraction grow together; of a
    concatenation each slice grows by itself, and what follows it is renumbered. Parameters are replaced by copies with
    zeros in the new lanes, which `morph-split-prepare` moves to `@prepare`.

    No real lane ever depends on a padded one, by the access maps: a loop that indexes results reads and writes its own
    lane of what grows. Reductions go on over the real lanes alone, unless each term has a factor of a parameter, which
    is zero there, and the others are finite (see `loopmorph.passes.layout.pad_lanes`); such sums grow where that
    makes for faster code. Nests at the network's inputs and outputs keep to the real lanes; they are cut where whole
    vectors end.

    What cannot be padded in this way stays as it is: several iterators in one index (groups), an iterator that enters
    the computed values, integer arithmetic, nests that are vectorised or not rectangular already. So do dimensions
    whose padding does not pay (see `loopmorph.passes.layout.padding_plan`). What was padded is written to the
    module (see `padded_channels`).

    Options:
        width: lanes of a vector, at least 2.
    """

    name: ClassVar[str] = "morph-pad-channels"
    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least("width", self.width, 2, "lanes in a vector")

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for function in functions(module):
                plan = plan_padding(function, self.width)
                if plan is not None:
                    _apply(plan, self.width)
                    _record(module, plan.loops)


@dataclass(frozen=True)
class PaddedChannels:
    """One iterator of a layer that was padded."""

    layer: str
    iterator: str
    extent: int
    padded: int

    def __str__(self) -> str:
        return f"{self.layer} {self.iterator} {self.extent} -> {self.padded}"


def padded_channels(module: ir.Operation) -> tuple[PaddedChannels, ...]:
    """The iterators over channels that `morph-pad-channels` has padded in a module, in program order."""
    if PADDED not in module.attributes:
        return ()
    found = [_TEXT.fullmatch(ir.StringAttr(a).value) for a in ir.ArrayAttr(module.attributes[PADDED])]
    return tuple(PaddedChannels(m[1], m[2], int(m[3]), int(m[4])) for m in found if m is not None)


def _record(module: ir.Operation, loops: Sequence[PaddedLoop]) -> None:
    named = [
        PaddedChannels(each.nest.layer, each.loop.iterator, each.loop.extent or 0, each.keep.extent)
        for each in loops
        if each.is_named
    ]
    texts = [str(channels) for channels in dict.fromkeys([*padded_channels(module), *named])]
    module.attributes[PADDED] = ir.ArrayAttr.get([ir.StringAttr.get(text) for text in texts])


def _apply(plan: ChannelPadding, width: int) -> None:
    copies: dict[tuple[ir.Value, tuple[KeepSet, ...]], ir.Value] = {}
    for site, keeps in plan.parameters:
        key = (site.access.memref, keeps)
        if key not in copies:
            copies[key] = _padded_copy(site, keeps, width)
        site.access.op.operands[0] = copies[key]
    for site, exprs in plan.accesses:
        rewrite_access(site.access.op, exprs, site.entry.variables)
    for each in plan.loops:
        set_extent(each.loop, each.keep.extent)
    for value, axis, keep in plan.axes:
        type_ = ir.MemRefType(value.type)
        shape = [keep.extent if k == axis else extent for k, extent in enumerate(type_.shape)]
        value.set_type(ir.MemRefType.get(shape, type_.element_type, memory_space=type_.memory_space))
    for entry, position in plan.borders:
        _cut(entry, position, width)


def _padded_copy(site: Site, keeps: Sequence[KeepSet], width: int) -> ir.Value:
    """Builds, before the nest that reads it, a copy of a parameter with zeros where no old index comes to lie.

    The copying nests are cut where whole vectors end, like everything else that is to be laid out in blocks.
    """
    reader, value = site.entry.nest, site.access.memref
    type_ = ir.MemRefType(value.type)
    shape = [keep.extent for keep in keeps]
    texts = {name: marks.get_text(reader.root, name) for name in (marks.LAYER, marks.NODE)} | {marks.ROLE: marks.PACK}
    names = tuple(f"i{axis}" for axis in range(len(shape)))
    identity = ir.AffineMap.get_identity(len(shape))
    with ir.InsertionPoint(reader.root), reader.root.location as location:
        copy = memref.AllocOp(ir.MemRefType.get(shape, type_.element_type), [], []).result
        zero = arith.ConstantOp(type_.element_type, ir.FloatAttr.get(type_.element_type, 0.0)).result
        header = NestHeader(names, tuple(shape), texts)
        build_nest(header, lambda variables: store(zero, copy, identity, variables), location)
        for boxes in itertools.product(*(_pieces(keep, width) for keep in keeps)):
            _build_copy(value, copy, boxes, NestHeader(names, tuple(length for _, _, length in boxes), texts))
    return copy


def _pieces(keep: KeepSet, width: int) -> list[tuple[int, int, int]]:
    """The kept indices as (old begin, new begin, length), whole vectors apart from the rest; all at once if whole."""
    if keep.is_whole:
        return [(0, 0, keep.extent)]
    found = []
    old = 0
    for begin, end in keep.intervals:
        vectors = (end - begin) // width * width
        for first, last in ((begin, begin + vectors), (begin + vectors, end)):
            if first < last:
                found.append((old, first, last - first))
                old += last - first
    return found


def _build_copy(source: ir.Value, target: ir.Value, boxes: Sequence[tuple[int, int, int]], header: NestHeader) -> None:
    dims = [ir.AffineExpr.get_dim(axis) for axis in range(len(boxes))]
    read = ir.AffineMap.get(len(dims), 0, [d + old for d, (old, _, _) in zip(dims, boxes, strict=True)])
    write = ir.AffineMap.get(len(dims), 0, [d + new for d, (_, new, _) in zip(dims, boxes, strict=True)])
    build_nest(
        header,
        lambda variables: store(load(source, read, variables), target, write, variables),
        ir.Location.current,
    )


def _cut(entry: Entry, position: int, width: int) -> None:
    """Cuts a loop of a perfect element-wise nest where whole vectors end: one nest for these, one for the rest."""
    root = entry.nest.root
    extent = entry.nest.loops[position].extent or 1
    vectors = extent // width * width
    if vectors in (0, extent):
        return
    for begin, end in ((0, vectors), (vectors, extent)):
        copy = root.operation.clone(ir.InsertionPoint(root))
        keep_range(copy.opview, position, begin, end - begin)
    root.operation.erase()
