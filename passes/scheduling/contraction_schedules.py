"""The schedule of a contraction nest: register block, vectors, accumulators in registers, weights in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.choice import RegisterBlock
from loopmorph.passes.analysis.contraction_nest import ContractionNest, result_lane
from loopmorph.passes.analysis.operands import find_operands, is_prepared
from loopmorph.passes.analysis.window import windows
from loopmorph.passes.history import Step
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
from loopmorph.passes.nest import Loop
from loopmorph.passes.scheduling.register_block import UNROLL, Work, skipped_taps, trims_rows
from loopmorph.passes.target.target import Target

PREFETCH_BYTES = 16384  # of the weights' stream: what memory delivers while one request is under way


def transform_schedule(module: ir.Operation, address: str, target: Target) -> Iterator[Step]:
    """A Winograd transform in vectors of channels: its lane innermost, then vectorised."""
    nest = find_nest(module, address)
    lane = result_lane(nest)
    if lane is None or lane.extent != target.lanes:
        return
    if lane.position != len(nest.loops) - 1:
        others = [loop.iterator for loop in nest.loops if loop != lane]
        yield Interchange(address, (*others, lane.iterator))
    yield Vectorize(address, lane.iterator, target.lanes)


def contraction_schedule(view: ContractionNest, layer: str, work: Work, block: RegisterBlock) -> list[Step]:
    """The steps that give a contraction nest, at the address `layer`, that register block."""
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
    others = len(order_outer) > len(pixels[:-2]) and is_prepared(view.weight.memref)
    weights_of = order_outer[-1] if others else None  # the loop that moves on to other parameters
    channel_jam = jammed.copy()
    jammed.clear()
    if len(pixels) > 1:
        cut(pixels[-2], block.rows)
    rest = work.columns % block.columns
    if rest:
        order_outer.append(pixels[-1].iterator)
    elif pixels:
        cut(pixels[-1], block.columns)
    jammed += channel_jam
    taps = _blended_taps(view) if view.data_is_blended else _unrolled_taps(view, skipped_taps(work, block))
    steps += _weight_packing(view, layer, block, taps)
    summed = [loop for loop in _summed(view) if loop not in taps]
    jammed = [*((loop.iterator, loop.extent or 1) for loop in taps), *jammed]
    order = [*order_outer, *(loop.iterator for loop in summed), *(n for n, _ in jammed), view.lane.iterator]
    steps.append(Interchange(layer, tuple(order)))
    suffixes = [""]
    if rest:
        pixel = pixels[-1].iterator
        steps.append(Peel(layer, pixel, rest))
        steps += [UnrollJam(layer, n, c) for n, c in ((pixel, block.columns), (f"{pixel}{REST}", rest)) if c > 1]
        suffixes.append(REST)
    steps += [UnrollJam(layer, f"{name}{suffix}", factor) for suffix in suffixes for name, factor in jammed]
    if taps and skipped_taps(work, block):
        steps.append(SkipZeros(layer))
    steps += [Vectorize(layer, f"{view.lane.iterator}{suffix}", view.lane.extent or 1) for suffix in suffixes]
    last = summed[-1] if summed else None
    if last is not None:
        steps += _streaming(layer, last, suffixes, work, block)
        if not view.data_runs_along:
            steps.append(_prefetching(layer, last, weights_of, work, block))
    if trims_rows(work, block):
        steps.append(Trim(layer, windows(view, view.pixels[:2])[view.pixels[1]].tap.iterator))
    return [*steps, FuseEpilogue(layer)]


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
    return Prefetch(layer, last.iterator, max(1, PREFETCH_BYTES // (vectors * work.lanes * 4)))


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
    inner = [*taps, *(view.blocks[-1:] if block.blocks > 1 else []), view.lane]
    factors = [*(loop.extent or 1 for loop in taps), *([block.blocks] if block.blocks > 1 else [])]
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
