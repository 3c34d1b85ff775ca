"""The schedule of a contraction nest: register block, vectors, accumulators in registers, weights in time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.choice import Choice, RegisterBlock, chosen_block
from loopmorph.passes.analysis.contraction_nest import ContractionNest, result_lane, split_lane
from loopmorph.passes.analysis.operands import find_operands, is_prepared
from loopmorph.passes.analysis.window import windows
from loopmorph.passes.history import Step
from loopmorph.passes.loop.copy_operand import CopyOperand
from loopmorph.passes.loop.fuse import Fuse
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.pack import Pack
from loopmorph.passes.loop.peel import REST, Peel
from loopmorph.passes.loop.prefetch import Prefetch
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.skip_zeros import SkipZeros
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.trim import Trim
from loopmorph.passes.loop.unroll import Unroll
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize
from loopmorph.passes.nest import Loop, divisors
from loopmorph.passes.scheduling.first_level import is_scattered
from loopmorph.passes.scheduling.register_block import (
    UNROLL,
    Work,
    cost,
    keeps_vectors,
    last_block,
    least_cost,
    register_blocks,
    skipped_taps,
    trims_rows,
    work_of,
)
from loopmorph.passes.target.target import F32_BYTES, Target

_LAST = ".last"  # what the names of the loops over the vectors of channels that are left over end in
_GAIN = 0.95  # of the time of whole blocks: what other parts for threads have to stay below
_WORTH_COPYING = 16  # rounds in which an operand is read, after which a copy of it has paid
PREFETCH_BYTES = 16384  # of the weights' stream: what memory delivers while one request is under way


def transform_schedule(module: ir.Operation, address: str, target: Target) -> Iterator[Step]:
    """A Winograd transform in vectors of channels: its lane innermost, then vectorised."""
    digits = split_lane(find_nest(module, address), target.lanes)
    if digits is not None:
        yield Fuse(address, digits)
    nest = find_nest(module, address)
    lane = result_lane(nest)
    if lane is None or lane.extent != target.lanes:
        return
    if lane.position != len(nest.loops) - 1:
        others = [loop.iterator for loop in nest.loops if loop != lane]
        yield Interchange(address, (*others, lane.iterator))
    yield Vectorize(address, lane.iterator, target.lanes)


def split_for_threads(
    view: ContractionNest, address: str, choice: Choice, target: Target, threads: int
) -> Split | None:
    """What gives threads a loop to share as evenly as the block allows: some vectors of channels at a time, what the
    block leaves over among them, or some rows, where that takes the busiest thread less time than whole blocks do.

    Args:
        view: the nest.
        address: its address.
        choice: what it says of its block.
        target: the processor.
        threads: how many threads share it.

    Returns:
        None where whole blocks do as well.

    Raises:
        IllegalTransform: it asks for a block that does not fit; lists those that do.
    """
    even = work_of(view, threads)
    if not even.even or not view.blocks:
        return None
    alone, least = work_of(view), math.inf
    if choice.block is None:
        block = register_blocks(even, target)[0]
        rounds = even.blocks // block.blocks
        least = _GAIN * cost(even, block, target) / rounds * -(-rounds // threads)
    elif not alone.blocks % chosen_block(view.nest.label, choice, register_blocks(alone, target)).blocks:
        return None
    best = None
    for loop, count, work in _parted_loops(view, alone, threads):
        time = least_cost(work, target) * -(-count // threads)
        if time < least:
            best, least = Split(address, loop.iterator, (loop.extent or 1) // count), time
    return best


def _parted_loops(view: ContractionNest, work: Work, threads: int) -> Iterator[tuple[Loop, int, Work]]:
    """The loops that threads can share some iterations at a time, in how many parts, and the work of one part.

    Rows only where they meet no padding, which would no longer show.
    """
    for count in divisors(work.blocks, range(threads, work.blocks)):
        yield view.blocks[-1], count, dataclasses.replace(work, blocks=work.blocks // count)
    if len(view.pixels) > 1 and not windows(view, view.pixels[:2]):
        for count in divisors(work.rows, range(threads, work.rows)):
            yield view.pixels[1], count, dataclasses.replace(work, rows=work.rows // count)


@dataclass
class _Cuts:
    """Loops as the register block cuts them.

    Attributes:
        layer: the address of their nest.
        steps: the splits.
        outer: the loops that stay outside, outermost first.
        jammed: those that become copies in the innermost body, with the number of these.
    """

    layer: str
    steps: list[Step] = field(default_factory=list)
    outer: list[str] = field(default_factory=list)
    jammed: list[tuple[str, int]] = field(default_factory=list)

    def cut(self, loop: Loop, factor: int) -> None:
        """Splits off `factor` iterations for the register block."""
        if factor == 1:
            self.outer.append(loop.iterator)
        elif factor == loop.extent:
            self.jammed.append((loop.iterator, factor))
        else:
            self.steps.append(Split(self.layer, loop.iterator, factor))
            self.outer.append(f"{loop.iterator}.0")
            self.jammed.append((f"{loop.iterator}.1", factor))


def contraction_schedule(
    view: ContractionNest, layer: str, work: Work, block: RegisterBlock, target: Target
) -> list[Step]:
    """The steps that give a contraction nest, at the address `layer`, that register block.

    Vectors of output channels that are left over get a block of their own, as columns that are left over do.
    """
    few = work.blocks % block.blocks
    parts = {"": block, _LAST: last_block(work, block, target)} if few else {"": block}
    loose = any(part.columns != block.columns or work.columns % part.columns for part in parts.values())
    channels, pixels = _Cuts(layer), _Cuts(layer)
    channels.outer += [loop.iterator for loop in (view.blocks if few else view.blocks[:-1])]
    if view.blocks and not few:
        channels.cut(view.blocks[-1], block.blocks)
    if len(view.pixels) > 1:
        pixels.cut(view.pixels[1], block.rows)
    if loose:
        pixels.outer.append(view.pixels[0].iterator)
    elif view.pixels:
        pixels.cut(view.pixels[0], block.columns)
    taps = _blended_taps(view) if view.data_is_blended else _unrolled_taps(view, skipped_taps(work, block))
    jammed = [*((loop.iterator, loop.extent or 1) for loop in taps), *pixels.jammed, *channels.jammed]
    summed = [loop for loop in _summed(view) if loop not in taps]
    steps = [*channels.steps, *pixels.steps, *_weight_packing(view, layer, block, taps)]
    inner = [*(loop.iterator for loop in summed), *(n for n, _ in jammed), view.lane.iterator]
    if not taps and _is_copied(view, work, block, target):
        jammed_pixels = {name for name, _ in pixels.jammed}
        steps.append(CopyOperand(layer, "weight", (*channels.outer, *(n for n in inner if n not in jammed_pixels))))
    before = [loop.iterator for loop in (*view.outer, *reversed(view.pixels[2:]))]
    steps.append(Interchange(layer, (*before, *channels.outer, *pixels.outer, *inner)))
    first = channels.jammed if keeps_vectors(work, block, target) else []
    steps += [UnrollJam(layer, name, factor) for name, factor in first]
    steps += _rests(layer, view, work, parts, loose)
    suffixes, others = _suffixes(work, parts), [each for each in jammed if each not in first]
    steps += [UnrollJam(layer, f"{name}{suffix}", factor) for suffix in suffixes for name, factor in others]
    if taps and skipped_taps(work, block):
        steps.append(SkipZeros(layer))
    steps += [Vectorize(layer, f"{view.lane.iterator}{suffix}", view.lane.extent or 1) for suffix in suffixes]
    if summed:
        steps += _streaming(layer, summed[-1], suffixes, work, block)
        if is_prepared(view.weight.memref) and not view.data_runs_along:
            weights_of = channels.outer[-1] if channels.outer else None
            steps.append(_prefetching(layer, summed[-1], weights_of, work, block))
    if trims_rows(work, block):
        steps.append(Trim(layer, windows(view, view.pixels[:2])[view.pixels[1]].tap.iterator))
    return [*steps, FuseEpilogue(layer)]


def _is_copied(view: ContractionNest, work: Work, block: RegisterBlock, target: Target) -> bool:
    """Whether to lay what the lane runs along side by side, where it is no parameter, which is packed beforehand: it is
    read for many blocks of pixels, and lies scattered.
    """
    if is_prepared(view.weight.memref) or work.passes(block) < _WORTH_COPYING:
        return False
    extents = {loop: loop.extent or 1 for loop in (*view.reductions, view.lane)}
    if view.blocks:
        extents[view.blocks[-1]] = block.blocks
    return is_scattered(view.weight, extents, target)


def _rests(
    layer: str, view: ContractionNest, work: Work, parts: Mapping[str, RegisterBlock], loose: bool
) -> Iterator[Step]:
    """What no block divides, apart: the last vectors of channels, and in both parts the last columns; the other
    iterations jammed.

    Args:
        layer: the nest.
        view, work: what it does.
        parts: the suffix of the loops -> the block, of the vectors of channels in whole blocks and of those left over.
        loose: whether the columns are not split.
    """
    block = parts[""]
    if _LAST in parts:
        yield from _parted(layer, view.blocks[-1].iterator, work.blocks % block.blocks, block.blocks, _LAST)
    for suffix, part in parts.items():
        column, rest = f"{view.pixels[0].iterator}{suffix}" if loose else "", work.columns % part.columns
        if rest:
            yield from _parted(layer, column, rest, part.columns)
        elif loose and part.columns > 1:
            yield UnrollJam(layer, column, part.columns)


def _suffixes(work: Work, parts: Mapping[str, RegisterBlock]) -> list[str]:
    """What the names of the loops of all parts end in."""
    rests = {suffix: ["", REST] if work.columns % part.columns else [""] for suffix, part in parts.items()}
    return [f"{suffix}{rest}" for suffix in parts for rest in rests[suffix]]


def _parted(layer: str, iterator: str, rest: int, factor: int, suffix: str = REST) -> Iterator[Step]:
    """The last iterations of a loop apart, and both parts jammed: by a factor, and whole."""
    yield Peel(layer, iterator, rest, suffix=suffix)
    jams = ((iterator, factor), (f"{iterator}{suffix}", rest))
    yield from (UnrollJam(layer, name, count) for name, count in jams if count > 1)


def _streaming(layer: str, last: Loop, suffixes: Sequence[str], work: Work, block: RegisterBlock) -> Iterator[Step]:
    """The innermost reduction unrolled, accumulators in registers."""
    if _is_unrolled(last, work, block):
        yield from (Unroll(layer, f"{last.iterator}{suffix}", UNROLL) for suffix in suffixes)
    yield Promote(layer)


def _is_unrolled(last: Loop, work: Work, block: RegisterBlock) -> bool:
    extent = last.extent or 1
    return not skipped_taps(work, block) and extent > UNROLL and extent % UNROLL == 0


def _prefetching(layer: str, last: Loop, weights_of: str | None, work: Work, block: RegisterBlock) -> Prefetch:
    """Weights asked for in time. Those that serve several blocks of pixels in turn are fetched while the ones before
    them do, at an even pace; those that are read once, a little ahead of where they are needed.

    Those of a depthwise nest are few: asking for them, and for its data, costs more than it saves.

    Args:
        layer: the nest.
        last: the innermost reduction.
        weights_of: the loop whose iterations have parameters of their own, where there is one.
        work, block: what the nest does.
    """
    if weights_of is not None and work.passes(block) > 1:
        return Prefetch(layer, last.iterator, spread=weights_of)
    vectors = block.blocks * (UNROLL if _is_unrolled(last, work, block) else max(1, skipped_taps(work, block)))
    return Prefetch(layer, last.iterator, max(1, PREFETCH_BYTES // (vectors * work.lanes * F32_BYTES)))


def _unrolled_taps(view: ContractionNest, count: int) -> list[Loop]:
    """The tap iterators, rows before columns, whose product of extents is `count`; none for 0."""
    if not count:
        return []
    padded = windows(view, view.pixels[:2])
    column, *row = [padded[loop].tap for loop in view.pixels[:2] if loop in padded]
    return [column] if column.extent == count else [*row, column]


def _blended_taps(view: ContractionNest) -> list[Loop]:
    """The tap iterator along the columns: unrolled, its pixels share what has been blended for each of them."""
    padded = windows(view, view.pixels[:1])
    return [window.tap for window in padded.values()]


def _weight_packing(view: ContractionNest, layer: str, block: RegisterBlock, taps: Sequence[Loop]) -> list[Step]:
    """Lays the weight out in the order in which the register block reads it, so that memory streams into the core."""
    if (block.blocks == 1 and not taps) or not is_prepared(view.weight.memref):
        return []
    if sum(use.owner.name.endswith("load") for use in view.weight.memref.uses) > 1:
        return []  # another nest reads it in its own order
    operands = find_operands(list(view.nest.accesses))
    if operands is not None and operands.weight.memref != view.weight.memref:
        return []  # a plain layout: the lane runs along the activation
    together = block.blocks > 1 and (view.blocks[-1].extent or 1) % block.blocks == 0
    inner = [*taps, *(view.blocks[-1:] if together else []), view.lane]
    factors = [*(loop.extent or 1 for loop in taps), *([block.blocks] if together else [])]
    axes = [view.weight_axis(loop) for loop in inner]
    if None in axes:
        return []
    return [Pack(layer, "weight", tuple(a for a in axes if a is not None), (*factors, view.lane.extent or 1))]


def _summed(view: ContractionNest) -> Sequence[Loop]:
    """The reductions in the order in which the weight lies in memory: ci.0, kh, kw, ci.1."""

    def axis(loop: Loop) -> int:
        found = view.weight_axis(loop)
        return -1 if found is None else found

    return sorted(view.reductions, key=axis)
