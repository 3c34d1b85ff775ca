"""`morph-default-schedule`: a schedule for every nest that the user has not scheduled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.access_index import is_local
from loopmorph.passes.analysis.algorithm import winograd_tile
from loopmorph.passes.analysis.choice import (
    WINOGRAD_TILES,
    algorithm_name,
    block_text,
    chosen_block,
    read_choice,
    refuse_choice,
)
from loopmorph.passes.analysis.contraction_nest import ContractionNest, result_lane, view_contraction
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.machine import Machine
from loopmorph.passes.analysis.register_block import UNROLL, RegisterBlock, register_blocks, spreads, work_of
from loopmorph.passes.base import Pass, Transformation, recorded_steps
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.choose import Choose
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.pack import Pack
from loopmorph.passes.loop.prefetch import Prefetch
from loopmorph.passes.loop.prefetch_next import PrefetchNext
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.unroll import Unroll
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.lowering.share_schedules import SharedSchedules
from loopmorph.passes.nest import Loop, find_nest, nest_roots, view_nest
from loopmorph.passes.pipeline import parse_pipeline
from loopmorph.passes.reduction_schedules import accumulates, elementwise_schedule, reduction_schedule

Step = Transformation[Any]


PREFETCH_BYTES = 8192  # of the weights' stream: what memory delivers while one request is under way
ALGORITHM_CHOICES = ("auto", "direct")


@dataclass(frozen=True)
class DefaultSchedule(Pass):
    """Schedules contraction nests: algorithm, register block, vectors, accumulators in registers, fused epilogue.

    For each main nest that is a contraction with a contiguous lane of `width` (as `morph-blocked-layout` leaves it):
    split the pixel and channel-block iterators by the register block, order the loops as

        n, blocks, pixels | reductions | pixels of the register block, blocks of the register block, lane

    unroll and jam the register block, vectorise the lane, promote the accumulators, fuse the epilogue. A 3x3 nest
    goes through `morph-winograd` first where `loopmorph.passes.analysis.algorithm` says that it pays. Every step
    is one of the public passes and is recorded, so the same schedule can be printed, written or changed by hand.
    What then remains of copies and element-wise nests is vectorised along its lane. Nests that do not fit, and layers
    that a recorded loop transformation has touched already, are left as they are. Where the nest itself says which
    algorithm or register block to use (see `morph-choose`), that is done instead of what the models say, or refused.
    What was decided is recorded as a `morph-choose` too.

    Options:
        algorithm: "auto", or "direct" for no Winograd.
        width: f32 lanes of a vector register.
        registers: number of vector registers.
    """

    name: ClassVar[str] = "morph-default-schedule"
    algorithm: str = "auto"
    width: int = 16
    registers: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm not in ALGORITHM_CHOICES:
            raise ArgumentError("algorithm", f"expected one of {', '.join(ALGORITHM_CHOICES)}, got '{self.algorithm}'")

    def run(self, module: ir.Operation) -> None:
        machine = Machine(self.width, self.registers)
        with module.context, ir.Location.unknown():
            mains = [view_nest(root) for root in nest_roots(module) if _is_main(root)]
            layers = Counter(nest.layer for nest in mains)
            by_hand = _scheduled_layers(module)
            for nest in mains:
                if nest.layer not in by_hand and (layers[nest.layer] > 1 or not macs(nest)):
                    refuse_choice(nest)
            shared = SharedSchedules(module, _apply)
            for layer in [nest.layer for nest in mains if macs(nest) or accumulates(nest)]:
                if layers[layer] == 1 and layer not in by_hand:
                    shared.schedule(layer, self.steps(module, layer, machine))
            vectorize_rest(module, by_hand, machine)

    def steps(self, module: ir.Operation, layer: str, machine: Machine) -> Iterator[Step]:
        """The schedule of one layer, step by step; each is to be applied before the next is asked for."""
        nest = find_nest(module, layer)
        if not macs(nest):
            yield from reduction_schedule(nest, machine)
            return
        choice, label = read_choice(nest), nest.label
        if choice.algorithm is not None:
            tile = WINOGRAD_TILES.get(choice.algorithm)
        else:
            tile = winograd_tile(nest, machine) if self.algorithm == "auto" else None
        if tile is not None:
            filtering = WinogradFiltering(layer, tile)
            if choice.algorithm is not None:
                _require_possible(module, filtering, label, choice.algorithm)
            yield filtering
            for role in (marks.INPUT_TRANSFORM, marks.OUTPUT_TRANSFORM):
                for address in addresses(module, layer, role):
                    yield from transform_schedule(module, address, machine)
        view = view_contraction(find_nest(module, layer))
        if view is not None and view.lane.extent == machine.lanes:
            block = chosen_block(label, choice, register_blocks(work_of(view), machine))
            decided = Choose(layer, algorithm_name(tile), block_text(block))
            if str(decided) not in recorded_steps(module):
                yield decided
            yield from contraction_schedule(view, block, machine)
        elif choice.block is None:
            yield from reduction_schedule(find_nest(module, layer), machine)
        else:
            reason = f"no register block can be chosen: it is no contraction with a contiguous lane of {machine.lanes}"
            raise IllegalTransform(label, reason)
        for address in addresses(module, layer, marks.OUTPUT_TRANSFORM):
            yield FuseEpilogue(address)


def vectorize_rest(module: ir.Operation, by_hand: set[str], machine: Machine) -> None:
    """Vectorises the copies and element-wise nests that no other nest has taken in, but for the layers `by_hand`."""
    for address in _elementwise(module, by_hand):
        for step in elementwise_schedule(find_nest(module, address), address, machine):
            _apply(module, step)


def _elementwise(module: ir.Operation, by_hand: set[str]) -> list[str]:
    """The nests that copy or map activations and that no other nest has taken in, by address."""
    found: list[str] = []
    known: Counter[tuple[str, str]] = Counter()
    for root in nest_roots(module):
        layer, role = marks.get_text(root, marks.LAYER), marks.get_text(root, marks.ROLE, marks.MAIN)
        if layer not in by_hand and role in (marks.MAIN, marks.PAD, marks.COPY, marks.EPILOGUE):
            found.append(f"{layer}#{role}.{known[layer, role]}")
        known[layer, role] += 1
    return found


def _require_possible(module: ir.Operation, step: Step, label: str, algorithm: str) -> None:
    """Raises:
    IllegalTransform: the nest asks for an algorithm that it does not admit.
    """
    try:
        step.analyze(module)
    except IllegalTransform as refusal:
        reason = f"the algorithm '{algorithm}' is not possible: {refusal.reason}; 'direct' is accepted"
        raise IllegalTransform(label, reason) from refusal


def addresses(module: ir.Operation, layer: str, role: str) -> list[str]:
    """How to name each of a layer's nests of one role (see `find_nest`)."""
    nests = [
        r
        for r in nest_roots(module)
        if (marks.get_text(r, marks.LAYER), marks.get_text(r, marks.ROLE)) == (layer, role)
    ]
    return [f"{layer}#{role}.{k}" for k in range(len(nests))]


def transform_schedule(module: ir.Operation, address: str, machine: Machine) -> Iterator[Step]:
    """A Winograd transform in vectors of channels: its lane innermost, then vectorised."""
    nest = find_nest(module, address)
    lane = result_lane(nest)
    if lane is None or lane.extent != machine.lanes:
        return
    if lane.position != len(nest.loops) - 1:
        others = [loop.iterator for loop in nest.loops if loop != lane]
        yield Interchange(address, (*others, lane.iterator))
    yield Vectorize(address, lane.iterator, machine.lanes)


def contraction_schedule(view: ContractionNest, block: RegisterBlock, machine: Machine) -> list[Step]:
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
    steps += _weight_packing(view, block)
    summed = _summed(view)
    order = [*order_outer, *(loop.iterator for loop in summed), *(n for n, _ in jammed), view.lane.iterator]
    steps.append(Interchange(layer, tuple(order)))
    steps += [UnrollJam(layer, name, factor) for name, factor in jammed]
    steps.append(Vectorize(layer, view.lane.iterator, view.lane.extent or 1))
    last = summed[-1] if summed else None
    unrolled = last is not None and last.extent is not None and last.extent > UNROLL and last.extent % UNROLL == 0
    if last is not None and unrolled:
        steps.append(Unroll(layer, last.iterator, UNROLL))
    steps.append(Promote(layer))
    if last is not None:
        lines = block.blocks * (UNROLL if unrolled else 1)
        if spreads(work_of(view), block, machine):
            steps.append(PrefetchNext(layer, last.iterator))
        else:
            step_bytes = lines * (view.lane.extent or 1) * 4
            steps.append(Prefetch(layer, last.iterator, max(1, PREFETCH_BYTES // step_bytes)))
    return [*steps, FuseEpilogue(layer)]


def _weight_packing(view: ContractionNest, block: RegisterBlock) -> list[Step]:
    """Lays the weight out in the order in which the register block reads it, so that memory streams into the core."""
    if block.blocks == 1 or not is_local(view.weight.memref):
        return []
    axes = (view.weight_axis(view.blocks[-1]), view.weight_axis(view.lane))
    if axes[0] is None or axes[1] is None:
        return []
    return [Pack(view.nest.layer, "weight", (axes[0], axes[1]), (block.blocks, view.lane.extent or 1))]


def _summed(view: ContractionNest) -> Sequence[Loop]:
    """The reductions, the one that walks along the weight's lanes innermost: ci.0, kh, kw, ci.1."""
    inner = [loop for loop in view.reductions if loop.iterator.endswith(".1")]
    return [loop for loop in view.reductions if loop not in inner] + inner


def _apply(module: ir.Operation, step: Step) -> None:
    try:
        step.apply(module)
    except (IllegalTransform, ArgumentError):
        if not isinstance(
            step, FuseEpilogue | Interchange | Prefetch | PrefetchNext
        ):  # the steps that may find nothing to do
            raise


def _scheduled_layers(module: ir.Operation) -> set[str]:
    """The layers that a loop transformation has touched: their schedule is the user's."""
    steps = [element for text in recorded_steps(module) for element in parse_pipeline(text).elements]
    loops = [s for s in steps if isinstance(s, Transformation) and s.kind == "loop" and not isinstance(s, Choose)]
    return {step.layer.partition("#")[0] for step in loops if hasattr(step, "layer")}


def _is_main(root: ir.OpView) -> bool:
    return marks.get_text(root, marks.ROLE, marks.MAIN) == marks.MAIN
