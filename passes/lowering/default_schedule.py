"""`morph-default-schedule`: a schedule for every nest that the user has not scheduled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.base import Pass, Transformation
from loopmorph.passes.contraction_nest import ContractionNest, view_contraction
from loopmorph.passes.cost import macs
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize
from loopmorph.passes.nest import Loop, find_nest, nest_roots, view_nest
from loopmorph.passes.register_block import Machine, RegisterBlock, register_blocks

Step = Transformation[Any]


@dataclass(frozen=True)
class DefaultSchedule(Pass):
    """Schedules contraction nests: register block, vectors, accumulators in registers, fused epilogue.

    For each main nest that is a contraction with a contiguous lane of `width` (as `morph-blocked-layout` leaves it):
    split the pixel and channel-block iterators by the register block, order the loops as

        n, blocks, pixels | reductions | pixels of the register block, blocks of the register block, lane

    unroll and jam the register block, vectorise the lane, promote the accumulators, fuse the epilogue. Every step is
    one of the public passes, so the same schedule can be written, printed or changed by hand. Nests that do not fit
    are left as they are.

    Options:
        width: f32 lanes of a vector register.
        registers: number of vector registers.
    """

    name: ClassVar[str] = "morph-default-schedule"
    width: int = 16
    registers: int = 32

    def run(self, module: ir.Operation) -> None:
        machine = Machine(self.width, self.registers)
        with module.context, ir.Location.unknown():
            mains = [view_nest(root) for root in nest_roots(module) if _is_main(root)]
            layers = Counter(nest.layer for nest in mains)
            for layer in [nest.layer for nest in mains if macs(nest) and layers[nest.layer] == 1]:
                self._schedule(module, layer, machine)

    def _schedule(self, module: ir.Operation, layer: str, machine: Machine) -> None:
        view = view_contraction(find_nest(module, layer))
        if view is None or view.lane.extent != machine.lanes:
            return
        choices = register_blocks(view, machine)
        if not choices:
            return
        for step in contraction_schedule(view, choices[0]):
            try:
                step.apply(module)
            except (IllegalTransform, ArgumentError):
                if not isinstance(step, FuseEpilogue | Interchange):  # the steps that may find nothing to do
                    raise


def contraction_schedule(view: ContractionNest, block: RegisterBlock) -> list[Step]:
    """The steps that give a contraction nest that register block."""
    layer = view.nest.layer
    steps: list[Step] = []
    order_outer: list[str] = []
    jammed: list[tuple[str, int]] = []

    def cut(loop: Loop, factor: int) -> None:
        """Splits off `factor` iterations for the register block."""
        if factor == 1:
            order_outer.append(loop.iterator)
        elif factor == loop.extent:
            jammed.append((loop.iterator, factor))
        else:
            steps.append(Split(layer, loop.iterator, factor))
            order_outer.append(f"{loop.iterator}.0")
            jammed.append((f"{loop.iterator}.1", factor))

    pixels = list(reversed(view.pixels))
    for loop in pixels[:-2]:
        order_outer.append(loop.iterator)
    for loop in view.blocks[:-1]:
        order_outer.append(loop.iterator)
    if view.blocks:
        cut(view.blocks[-1], block.blocks)
    channel_jam = jammed.copy()
    jammed.clear()
    if len(pixels) > 1:
        cut(pixels[-2], block.rows)
    if pixels:
        cut(pixels[-1], block.columns)
    jammed += channel_jam
    order = [*order_outer, *(loop.iterator for loop in _summed(view)), *(n for n, _ in jammed), view.lane.iterator]
    steps.append(Interchange(layer, tuple(order)))
    steps += [UnrollJam(layer, name, factor) for name, factor in jammed]
    steps += [Vectorize(layer, view.lane.iterator, view.lane.extent or 1), Promote(layer), FuseEpilogue(layer)]
    return steps


def _summed(view: ContractionNest) -> Sequence[Loop]:
    """The reductions, the one that walks along the weight's lanes innermost: ci.0, kh, kw, ci.1."""
    inner = [loop for loop in view.reductions if loop.iterator.endswith(".1")]
    return [loop for loop in view.reductions if loop not in inner] + inner


def _is_main(root: ir.OpView) -> bool:
    return marks.get_text(root, marks.ROLE, marks.MAIN) == marks.MAIN


