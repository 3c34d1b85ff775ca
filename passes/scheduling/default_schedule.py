"""`morph-default-schedule`: a schedule for every nest that the user has not scheduled."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.choice import (
    WINOGRAD_TILES,
    algorithm_name,
    block_text,
    chosen_block,
    read_choice,
    refuse_choice,
)
from loopmorph.passes.analysis.contraction_nest import split_lane, view_contraction
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.base import Pass, Transformation, recorded_steps
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.fuse import Fuse
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.partition import Partition
from loopmorph.passes.loop.prefetch import Prefetch
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.skip_zeros import SkipZeros
from loopmorph.passes.loop.trim import Trim
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.nest import find_nest, nest_roots, view_nest
from loopmorph.passes.pipeline import parse_pipeline
from loopmorph.passes.scheduling.algorithm import winograd_tile
from loopmorph.passes.scheduling.choose import Choose, require_possible
from loopmorph.passes.scheduling.contraction_schedules import contraction_schedule, transform_schedule
from loopmorph.passes.scheduling.reduction_schedules import accumulates, elementwise_schedule, reduction_schedule
from loopmorph.passes.scheduling.register_block import (
    register_blocks,
    work_of,
)
from loopmorph.passes.scheduling.share_schedules import SharedSchedules
from loopmorph.passes.target.machine import Machine

Step = Transformation[Any]


_WORKING = (marks.MAIN, marks.MIX, marks.MIX_IN)
_ELEMENTWISE = (marks.MAIN, marks.PAD, marks.COPY, marks.EPILOGUE, marks.EXPAND)
_MAY_FIND_NOTHING = (FuseEpilogue, Interchange, Prefetch, Promote, SkipZeros, Trim)
ALGORITHM_CHOICES = ("auto", "direct")


@dataclass(frozen=True)
class DefaultSchedule(Pass):
    """Schedules contraction nests: algorithm, register block, vectors, accumulators in registers, fused epilogue.

    For each main nest that is a contraction with a contiguous lane of `width` (as `morph-blocked-layout` leaves it):
    split the pixel and channel-block iterators by the register block, order the loops as

        n, blocks, pixels | reductions | pixels of the register block, blocks of the register block, lane

    unroll and jam the register block, vectorise the lane, promote the accumulators, fuse the epilogue. A 3x3 nest
    goes through `morph-winograd` first where `loopmorph.passes.scheduling.algorithm` says that it pays. Every step
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
            by_hand = _scheduled_layers(module)
            shared = SharedSchedules(module, _apply)
            for address, layer in _to_schedule(module, by_hand):
                if address == layer:
                    shared.schedule(address, functools.partial(self.steps, layer=address, machine=machine))
                elif _is_there(module, address):  # not taken in by a nest scheduled before it
                    for step in self.steps(module, address, machine):
                        _apply(module, step)
            vectorize_rest(module, by_hand, machine)

    def steps(self, module: ir.Operation, layer: str, machine: Machine) -> Iterator[Step]:
        """The schedule of one layer, step by step; each is to be applied before the next is asked for."""
        nest = find_nest(module, layer)
        if not macs(nest):
            yield from reduction_schedule(nest, layer, machine)
            return
        choice, label = read_choice(nest), nest.label
        if choice.algorithm is not None:
            tile = WINOGRAD_TILES.get(choice.algorithm)
        else:
            possible = self.algorithm == "auto" and layer == nest.layer
            tile = winograd_tile(nest, machine) if possible else None
        if tile is not None:
            filtering = WinogradFiltering(layer, tile)
            if choice.algorithm is not None:
                require_possible(module, filtering, label, choice.algorithm)
            yield filtering
            for role in (marks.INPUT_TRANSFORM, marks.OUTPUT_TRANSFORM):
                for address in addresses(module, layer, role):
                    yield from transform_schedule(module, address, machine)
        digits = split_lane(find_nest(module, layer), machine.lanes)
        if digits is not None:
            yield Fuse(layer, digits)
        view = view_contraction(find_nest(module, layer))
        outputs = addresses(module, layer, marks.OUTPUT_TRANSFORM)
        if view is not None and view.lane.extent == machine.lanes:
            work = work_of(view)
            block = chosen_block(label, choice, register_blocks(work, machine))
            decided = Choose(layer, algorithm_name(tile), block_text(block))
            if str(decided) not in recorded_steps(module):
                yield decided
            yield from contraction_schedule(view, layer, work, block)
        elif choice.block is None:
            yield from reduction_schedule(find_nest(module, layer), layer, machine)
        else:
            reason = f"no register block can be chosen: it is no contraction with a contiguous lane of {machine.lanes}"
            raise IllegalTransform(label, reason)
        for address in outputs:
            yield FuseEpilogue(address)


def _to_schedule(module: ir.Operation, by_hand: set[str]) -> list[tuple[str, str]]:
    """Addresses and layers of the nests that accumulate; the address is the layer alone where it has one main nest.

    Raises:
        IllegalTransform: a nest that accumulates no products says how to compute them.
    """
    roots = [(root, marks.get_text(root, marks.ROLE, marks.MAIN)) for root in nest_roots(module)]
    views = [(view_nest(root), role) for root, role in roots if role in _WORKING]
    total = Counter((nest.layer, role) for nest, role in views)
    met: Counter[tuple[str, str]] = Counter()
    found = []
    for nest, role in views:
        key = (nest.layer, role)
        plain = role == marks.MAIN and total[key] == 1
        address = nest.layer if plain else f"{nest.layer}#{role}.{met[key]}"
        met[key] += 1
        if nest.layer in by_hand:
            continue
        if not macs(nest):
            refuse_choice(nest)
        if macs(nest) or accumulates(nest):
            found.append((address, nest.layer))
    return found


def _is_there(module: ir.Operation, address: str) -> bool:
    try:
        find_nest(module, address)
    except ArgumentError:
        return False
    return True


def vectorize_rest(module: ir.Operation, by_hand: set[str], machine: Machine) -> None:
    """Vectorises the copies and element-wise nests that no other nest has taken in, but for the layers `by_hand`."""
    for address, root in _elementwise(module, by_hand):
        for step in elementwise_schedule(view_nest(root), address, machine):
            _apply(module, step)


def _elementwise(module: ir.Operation, by_hand: set[str]) -> list[tuple[str, affine.AffineForOp]]:
    """The nests that copy or map activations and that no other nest has taken in, with their addresses."""
    found: list[tuple[str, affine.AffineForOp]] = []
    known: Counter[tuple[str, str]] = Counter()
    for root in nest_roots(module):
        layer, role = marks.get_text(root, marks.LAYER), marks.get_text(root, marks.ROLE, marks.MAIN)
        if layer not in by_hand and role in _ELEMENTWISE:
            found.append((f"{layer}#{role}.{known[layer, role]}", root))
        known[layer, role] += 1
    return found


def addresses(module: ir.Operation, layer: str, role: str) -> list[str]:
    """How to name each of a layer's nests of one role (see `find_nest`)."""
    nests = [
        r
        for r in nest_roots(module)
        if (marks.get_text(r, marks.LAYER), marks.get_text(r, marks.ROLE)) == (layer, role)
    ]
    return [f"{layer}#{role}.{k}" for k in range(len(nests))]


def _apply(module: ir.Operation, step: Step) -> None:
    try:
        step.apply(module)
    except (IllegalTransform, ArgumentError):
        if not isinstance(step, _MAY_FIND_NOTHING):
            raise


def _scheduled_layers(module: ir.Operation) -> set[str]:
    """The layers whose schedule is the user's: a loop transformation has touched them after the last neural one.

    What comes before a neural transformation brings iterators forward for it (a split, an interchange); the operator
    that it leaves is scheduled like any other.
    """
    found: set[str] = set()
    for step in (element for text in recorded_steps(module) for element in parse_pipeline(text).elements):
        if not isinstance(step, Transformation) or isinstance(step, Choose | Partition) or not hasattr(step, "layer"):
            continue
        layer = step.layer.partition("#")[0]
        if step.kind == "loop":
            found.add(layer)
        else:
            found.discard(layer)
    return found
