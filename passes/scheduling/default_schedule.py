"""`morph-default-schedule`: a schedule for every nest that the user has not scheduled."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.address import Address, addressed_roots, addresses, find_nest, name_of, root_at
from loopmorph.passes.analysis.choice import (
    WINOGRAD_TILES,
    algorithm_name,
    block_text,
    chosen_block,
    read_choice,
    refuse_choice,
)
from loopmorph.passes.analysis.contraction_nest import ContractionNest, split_lane, view_contraction
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.dependence.known_operations import gathered
from loopmorph.passes.analysis.memory.dataflow import parameter_work
from loopmorph.passes.analysis.roles import accumulates
from loopmorph.passes.base import Pass
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import Step, history, record, scheduled_by_hand
from loopmorph.passes.loop.fuse import Fuse
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.fuse_nests import FuseNests
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.nest import Nest, functions, view_nest
from loopmorph.passes.scheduling.algorithm import fewer_than_all, winograd_samples, winograd_tile
from loopmorph.passes.scheduling.choose import Choose, require_possible
from loopmorph.passes.scheduling.chunk_schedule import chunk_schedule, is_fused
from loopmorph.passes.scheduling.contraction_schedules import (
    contraction_schedule,
    split_for_threads,
    transform_schedule,
)
from loopmorph.passes.scheduling.reduction_schedules import elementwise_schedule, reduction_schedule
from loopmorph.passes.scheduling.register_block import (
    register_blocks,
    work_of,
)
from loopmorph.passes.scheduling.share_schedules import SharedSchedules
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import GENERIC, Target

T = TypeVar("T")
_WORKING = (marks.MAIN, marks.MIX, marks.MIX_IN)
_TRANSFORMS = (marks.INPUT_TRANSFORM, marks.OUTPUT_TRANSFORM)
_ELEMENTWISE = (marks.MAIN, marks.PAD, marks.COPY, marks.PROLOGUE, marks.EPILOGUE, marks.EXPAND)
ALGORITHM_CHOICES = ("auto", "direct")

_Root: TypeAlias = tuple[Address, affine.AffineForOp]


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
        width: f32 lanes of a vector register; by default the target's.
        registers: number of vector registers; by default the target's.
        target: the processor (see `loopmorph.passes.target`).
        threads: how many threads will run the nests (see `morph-parallelize-all`).
    """

    name: ClassVar[str] = "morph-default-schedule"
    algorithm: str = "auto"
    width: int | None = None
    registers: int | None = None
    target: str = GENERIC
    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm not in ALGORITHM_CHOICES:
            raise ArgumentError("algorithm", f"expected one of {', '.join(ALGORITHM_CHOICES)}, got '{self.algorithm}'")
        if self.threads < 1:
            raise ArgumentError("threads", f"expected a positive number, got {self.threads}")
        self.processor()

    def processor(self) -> Target:
        """The target, with the registers that the options give.

        Raises:
            ArgumentError: there is no such target.
        """
        named = resolve_target(self.target)
        lanes = named.lanes if self.width is None else self.width
        return dataclasses.replace(named, lanes=lanes, registers=self.registers or named.registers)

    def run(self, module: ir.Operation) -> None:
        target = self.processor()
        with module.context, ir.Location.unknown():
            by_hand = scheduled_by_hand(module)
            shared = SharedSchedules(module, _apply, _apply_to)
            for address in _sums_before(module, by_hand):
                for step in reduction_schedule(find_nest(module, address), address, target):
                    _apply(module, step)
            for address, layer in _to_schedule(module, by_hand):
                root = root_at(module, address)
                if root is None:
                    continue  # taken in by a nest scheduled before it, as the mean over one pixel is
                if address == layer:
                    shared.schedule(address, root, functools.partial(self.steps, layer=address, target=target))
                else:
                    for step in self.steps(module, address, target):
                        _apply(module, step)
            vectorize_rest(module, by_hand, target)

    def steps(self, module: ir.Operation, layer: str, target: Target) -> Iterator[Step]:
        """The schedule of one layer, step by step; each is to be applied before the next is asked for."""
        nest = find_nest(module, layer)
        if not macs(nest):
            yield from reduction_schedule(nest, layer, target)
            return
        choice, label = read_choice(nest), nest.label
        if choice.algorithm is not None:
            tile = WINOGRAD_TILES.get(choice.algorithm)
        else:
            possible = self.algorithm == "auto" and nest.role == marks.MAIN
            tile = winograd_tile(nest, target) if possible else None
        outputs: list[str] = []
        chunks: tuple[str, ...] = ()
        samples: int | None = None
        if tile is not None:
            filtering = WinogradFiltering(layer, tile)
            if choice.algorithm is not None:
                require_possible(module, filtering, label, choice.algorithm)
            samples = self._samples(nest, layer, tile, target)
            filtering = dataclasses.replace(filtering, samples=fewer_than_all(nest, samples))
            known = _Transforms.around(module, nest)
            yield filtering
            inputs, outputs = known.made(module)
            if filtering.samples is not None:
                addresses = (*inputs, layer, *outputs)
                splits, chunks = chunk_schedule(find_nest(module, layer), addresses, self.threads)
                yield from splits
            for address in (*inputs, *outputs):
                yield from transform_schedule(module, address, target)
        digits = split_lane(find_nest(module, layer), target.lanes)
        if digits is not None:
            yield Fuse(layer, digits)
        view = view_contraction(find_nest(module, layer), chunks)
        if view is not None and _holds_vectors(view, target.lanes):
            yield Split(layer, view.lane.iterator, target.lanes)
            view = view_contraction(find_nest(module, layer), chunks)
        if view is not None and view.lane.extent == target.lanes:
            shared = split_for_threads(view, layer, choice, target, self.threads)
            if shared is not None:
                yield shared
                view = view_contraction(find_nest(module, layer), chunks) or view
            work = work_of(view, self.threads if choice.block is None else 1)
            block = chosen_block(label, choice, register_blocks(work, target))
            decided = Choose(layer, algorithm_name(tile), block_text(block), samples)
            if decided not in history(module):
                yield decided
            yield from contraction_schedule(view, layer, work, block, target)
        elif choice.block is None:
            yield from reduction_schedule(find_nest(module, layer), layer, target)
        else:
            reason = f"no register block can be chosen: it is no contraction with a contiguous lane of {target.lanes}"
            raise IllegalTransform(label, reason)
        for address in outputs:
            yield FuseEpilogue(address)
        if is_fused(chunks, self.threads):
            yield FuseNests(layer, chunks)

    def _samples(self, nest: Nest, layer: str, tile: int, target: Target) -> int | None:
        """How many images Winograd computes at a time; None where that is no question.

        Parts of a layer are computed over all images: to fuse the nests of one would move them behind another's.
        """
        chosen = read_choice(nest).samples
        if chosen is None and Address.parse(layer).number is not None:
            return None
        return winograd_samples(nest, tile, target, self.threads, chosen)


@dataclass(frozen=True)
class _Transforms:
    """Winograd's transforms of a layer before one of its nests gets its own, which then stand in that nest's place.

    Attributes:
        layer: qualified name of the layer.
        total: how many the layer has, by role.
        earlier: how many of these stand before the nest.
    """

    layer: str
    total: Counter[str]
    earlier: Counter[str]

    @classmethod
    def around(cls, module: ir.Operation, nest: Nest) -> _Transforms:
        """Those of a nest's layer, the nest's own not yet made."""
        roots = [r for a, r in addressed_roots(module) if a.layer == nest.layer and a.role in _TRANSFORMS]
        main = nest.root.operation
        roles = [(name_of(root)[1], root.operation.is_before_in_block(main)) for root in roots]
        return cls(nest.layer, Counter(r for r, _ in roles), Counter(r for r, is_earlier in roles if is_earlier))

    def made(self, module: ir.Operation) -> tuple[list[str], list[str]]:
        """The addresses of the transforms that have come: those of inputs, those of outputs."""
        found = []
        for role in _TRANSFORMS:
            known = addresses(module, self.layer, role)
            first = self.earlier[role]
            found.append(known[first : first + len(known) - self.total[role]])
        inputs, outputs = found
        return inputs, outputs


def _holds_vectors(view: ContractionNest, lanes: int) -> bool:
    """Whether the lane of a product of matrices is several whole vectors long, which become blocks."""
    extent = view.lane.extent or 1
    apart = view.lane.position not in view.data.dims
    return apart and extent > lanes and extent % lanes == 0


def _to_schedule(module: ir.Operation, by_hand: frozenset[str]) -> list[tuple[str, str]]:
    """Addresses and layers of the nests that accumulate; the address is the layer alone where it has one main nest.

    Raises:
        IllegalTransform: a nest that accumulates no products says how to compute them.
    """
    nests = [(a, view_nest(root)) for a, root in addressed_roots(module) if a.role in _WORKING]
    total = Counter((address.layer, address.role) for address, _ in nests)
    found = []
    for address, nest in nests:
        plain = address.role == marks.MAIN and total[address.layer, address.role] == 1
        if nest.layer in by_hand:
            continue
        scattered = bool(gathered(nest))  # elements from anywhere fill no vector
        if scattered or not macs(nest):
            refuse_choice(nest)
        if scattered:
            continue
        if macs(nest) or accumulates(nest):
            found.append((nest.layer if plain else str(address), nest.layer))
    return found


def _sums_before(module: ir.Operation, by_hand: frozenset[str]) -> list[str]:
    """Addresses of the sums of inputs before main nests: the means of a LayerNorm, say.

    The last ones first: taking in what follows a nest changes the numbers of those behind it alone.
    """
    wanted = [a for a in addressed_roots(module) if a[0].role == marks.PROLOGUE and a[0].layer not in by_hand]
    found = [(str(address), view_nest(root)) for address, root in _without_prepared(module, wanted)]
    return [address for address, nest in reversed(found) if accumulates(nest) and not gathered(nest)]


def _without_prepared(module: ir.Operation, roots: list[_Root]) -> list[_Root]:
    """All but the prologues that `@prepare` will do, where no vectors are needed; it takes long to find these."""
    if all(address.role != marks.PROLOGUE for address, _ in roots):
        return roots
    prepared = {op for function in functions(module) for op in parameter_work(function).ops}
    return [(a, root) for a, root in roots if a.role != marks.PROLOGUE or root.operation not in prepared]


def vectorize_rest(module: ir.Operation, by_hand: frozenset[str], target: Target) -> None:
    """Vectorises the copies and element-wise nests that no other nest has taken in, but for the layers `by_hand`."""
    applied: list[Step] = []
    for address, nest in _elementwise(module, by_hand):
        for step in elementwise_schedule(nest, address, target):
            changed = _apply_to(nest, step)
            if changed is not None:
                applied.append(step)
                nest = view_nest(changed)
    record(module, *applied)


def _elementwise(module: ir.Operation, by_hand: frozenset[str]) -> list[tuple[str, Nest]]:
    """The nests that copy or map activations and that no other nest has taken in, with their addresses."""
    wanted = [a for a in addressed_roots(module) if a[0].layer not in by_hand and a[0].role in _ELEMENTWISE]
    found = [(str(address), view_nest(root)) for address, root in _without_prepared(module, wanted)]
    return [(address, nest) for address, nest in found if not gathered(nest)]


def _apply_to(nest: Nest, step: Step) -> affine.AffineForOp | None:
    """Applies a step to a nest; what became of its outermost loop, None where the step is left out."""
    changed = _if_possible(step, lambda: step.apply_to(nest))
    return None if changed is None else changed.opview


def _apply(module: ir.Operation, step: Step) -> None:
    _if_possible(step, lambda: step.apply(module))


def _if_possible(step: Step, apply: Callable[[], T]) -> T | None:
    """What applying a step gives; None where it is one that may be left out, and is refused."""
    try:
        return apply()
    except (IllegalTransform, ArgumentError):
        if not step.may_find_nothing:
            raise
        return None
