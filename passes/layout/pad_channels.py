"""`morph-pad-channels`: channels that fill no whole vectors get more lanes, which nobody reads."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
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
from loopmorph.passes.layout.padding_plan import ChannelPadding, PaddedAxes, PaddedLoop, plan_padding
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
        affine.for ... to 32 { ... %p from %b[19] ... } {morph.role = "pack"}
        affine.for ... to 20 { ... %p from %b ... } {morph.role = "pack"}
        affine.for %co = 0 to 32 { ... affine.load %p[%co] : memref<32xf32> ... affine.store %v, %y[%n, %co] ... }

    All loops and axes of local memrefs that are tied to the channels of a contraction grow together; of a
    concatenation each slice grows by itself, and what follows it is renumbered. Parameters are replaced by copies,
    which `morph-split-prepare` moves to `@prepare`: in new lanes of results they repeat those of the last real lane, so
    that these are finite where that one is; in new lanes that are summed over they are zeros.

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


@dataclass(frozen=True)
class _Piece:
    """Indices along an axis of a copy: `length` from `new` on; they are those from `old` on, or all repeat that one."""

    old: int
    new: int
    length: int
    repeats: bool = False


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
    copies: dict[tuple[ir.Value, PaddedAxes], ir.Value] = {}
    for site, axes in plan.parameters:
        key = (site.access.memref, axes)
        if key not in copies:
            copies[key] = _padded_copy(site, axes, width)
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


def _padded_copy(site: Site, axes: PaddedAxes, width: int) -> ir.Value:
    """Builds, before the nest that reads it, a padded copy of a parameter.

    The copying nests are cut where whole vectors end, like everything else that is to be laid out in blocks. What
    repeats a lane fills whole vectors; the real lanes come over it.
    """
    reader, value = site.entry.nest, site.access.memref
    type_ = ir.MemRefType(value.type)
    keeps = axes.keeps
    shape = [keep.extent for keep in keeps]
    texts = {name: marks.get_text(reader.root, name) for name in (marks.LAYER, marks.NODE)} | {marks.ROLE: marks.PACK}
    with ir.InsertionPoint(reader.root), reader.root.location as location:
        copy = memref.AllocOp(ir.MemRefType.get(shape, type_.element_type), [], []).result
        if any(not keep.is_whole for axis, keep in enumerate(keeps) if axis not in axes.repeated):
            zero = arith.ConstantOp(type_.element_type, ir.FloatAttr.get(type_.element_type, 0.0)).result
            identity = ir.AffineMap.get_identity(len(shape))
            header = NestHeader(_names(len(shape)), tuple(shape), texts)
            build_nest(header, lambda variables: store(zero, copy, identity, variables), location)
        pieces = [_pieces(keep, width) for keep in keeps]
        lasts = [_lasts(keep) if axis in axes.repeated else pieces[axis] for axis, keep in enumerate(keeps)]
        for boxes in (*itertools.product(*lasts), *itertools.product(*pieces)):
            _build_copy(value, copy, boxes, texts)
    return copy


def _names(rank: int) -> tuple[str, ...]:
    return tuple(f"i{axis}" for axis in range(rank))


def _lasts(keep: KeepSet) -> list[_Piece]:
    """The indices from each kept interval to the next one, all with the last kept one's value."""
    ends = [*(begin for begin, _ in keep.intervals[1:]), keep.extent]
    pairs = zip(keep.intervals, ends, strict=True)
    return [_Piece(keep.below(end) - 1, begin, upto - begin, repeats=True) for (begin, end), upto in pairs]


def _pieces(keep: KeepSet, width: int) -> list[_Piece]:
    """The kept indices, whole vectors apart from the rest; all at once if whole."""
    if keep.is_whole:
        return [_Piece(0, 0, keep.extent)]
    found = []
    old = 0
    for begin, end in keep.intervals:
        vectors = (end - begin) // width * width
        for first, last in ((begin, begin + vectors), (begin + vectors, end)):
            if first < last:
                found.append(_Piece(old, first, last - first))
                old += last - first
    return found


def _build_copy(source: ir.Value, target: ir.Value, boxes: Sequence[_Piece], texts: Mapping[str, str]) -> None:
    dims = [ir.AffineExpr.get_dim(axis) for axis in range(len(boxes))]
    pairs = list(zip(dims, boxes, strict=True))
    read = [ir.AffineExpr.get_constant(box.old) if box.repeats else d + box.old for d, box in pairs]
    write = ir.AffineMap.get(len(dims), 0, [d + box.new for d, box in pairs])
    build_nest(
        NestHeader(_names(len(boxes)), tuple(box.length for box in boxes), dict(texts)),
        lambda v: store(load(source, ir.AffineMap.get(len(dims), 0, read), v), target, write, v),
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
