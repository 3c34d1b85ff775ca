"""`morph-align-groups`: groups whose channels fill no whole vectors are cut where vectors begin instead."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import linear_form
from loopmorph.passes.analysis.roles import CHANNEL_AXIS, accumulates, has_channels
from loopmorph.passes.base import Pass
from loopmorph.passes.building.rebuild import NewLoop, Rebuild, rebuild
from loopmorph.passes.errors import require_least
from loopmorph.passes.nest import Loop, Nest, nest_roots, view_nest


@dataclass(frozen=True)
class _Groups:
    """Adjacent loops over groups and over the output channels of one."""

    nest: Nest
    group: Loop
    channel: Loop

    @property
    def size(self) -> int:
        return self.channel.extent or 1

    @property
    def channels(self) -> int:
        return (self.group.extent or 1) * self.size


@dataclass(frozen=True)
class AlignGroups(Pass):
    """Cuts a grouped nest into nests over ranges of output channels that begin and end with whole vectors.

    Before (width=16): two groups of 24 output channels.

        affine.for %g = 0 to 2 { affine.for %co = 0 to 24 { affine.for %ci = 0 to 24 {
          ... affine.load %x[%g * 24 + %ci] ... affine.store %v, %y[%g * 24 + %co] } } }

    After: 16 channels of the first group, 8 of each, 16 of the second group.

        affine.for %c = 0 to 16 { affine.for %ci = 0 to 24 {
          ... affine.load %x[%ci] ... affine.store %v, %y[%c] } }
        affine.for %c = 0 to 16 { affine.for %ci = 0 to 24 {
          ... affine.load %x[(%c floordiv 8) * 24 + %ci] ... affine.store %v, %y[%c + 16] } }
        affine.for %c = 0 to 16 { affine.for %ci = 0 to 24 {
          ... affine.load %x[%ci + 24] ... affine.store %v, %y[%c + 32] } }

    Each element is still computed by the same sum. Only main nests are cut that are perfect, rectangular and
    accumulate, whose channels altogether fill whole vectors, and whose groups are neither made of whole vectors nor
    whole parts of one.

    Options:
        width: elements of a vector, at least 2.
    """

    name: ClassVar[str] = "morph-align-groups"
    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least("width", self.width, 2, "elements in a vector")

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for root in nest_roots(module):
                if marks.get_text(root, marks.ROLE, marks.MAIN) == marks.MAIN:
                    groups = _misaligned(view_nest(root), self.width)
                    if groups is not None:
                        _cut(groups, self.width)


def _misaligned(nest: Nest, width: int) -> _Groups | None:
    if not accumulates(nest) or not has_channels(nest.stores[0]):
        return None
    form = linear_form(nest.stores[0].exprs[CHANNEL_AXIS])
    if form is None or len(form.coefficients) != 2 or form.constant % width:
        return None
    group, channel = sorted(form.coefficients)
    found = _Groups(nest, nest.loops[group], nest.loops[channel])
    digits = form.coefficients[channel] == 1 and form.coefficients[group] == found.size and channel == group + 1
    aligned = found.size % width == 0 or width % found.size == 0
    return found if digits and not aligned and found.channels % width == 0 else None


def _cut(groups: _Groups, width: int) -> None:
    """Puts one nest for each range in the place of the nest."""
    root = groups.nest.root
    for begin, end in _ranges(groups, width):
        copy = root.operation.clone(ir.InsertionPoint(root))
        rebuild(_range(view_nest(copy.opview), groups, begin, end))
    root.operation.erase()


def _ranges(groups: _Groups, width: int) -> list[tuple[int, int]]:
    """Whole vectors of one group, and the vectors in which groups meet."""
    cuts = {0, groups.channels}
    for first in range(groups.size, groups.channels, groups.size):
        cuts |= {first // width * width, -(-first // width) * width}
    ordered = sorted(cuts)
    return list(itertools.pairwise(ordered))


def _range(nest: Nest, groups: _Groups, begin: int, end: int) -> Rebuild:
    """The nest over the output channels from `begin` to `end`, not included."""
    zero = (ir.AffineExpr.get_constant(0),)
    loops: list[NewLoop] = []
    old: dict[int, ir.AffineExpr] = {}
    for loop in nest.loops:
        if loop.position == groups.channel.position:
            channel = ir.AffineExpr.get_dim(len(loops)) + begin
            old[groups.group.position] = ir.AffineExpr.get_floor_div(channel, groups.size)
            old[loop.position] = ir.AffineExpr.get_mod(channel, groups.size)
            loops.append(NewLoop(loop.iterator, loop.position, zero, (ir.AffineExpr.get_constant(end - begin),)))
        elif loop.position != groups.group.position:
            old[loop.position] = ir.AffineExpr.get_dim(len(loops))
            loops.append(NewLoop(loop.iterator, loop.position, zero, (ir.AffineExpr.get_constant(loop.extent or 1),)))
    return Rebuild(nest, tuple(range(len(nest.loops))), tuple(loops), old)
