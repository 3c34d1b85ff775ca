"""An analytic model of the register block: how many pixels and channel blocks one innermost body computes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from loopmorph.passes.analysis.choice import RegisterBlock
from loopmorph.passes.analysis.contraction_nest import ContractionNest
from loopmorph.passes.analysis.window import windows
from loopmorph.passes.target.target import F32_BYTES, Target

UNROLL = 4  # steps of the innermost reduction in one body: fewer branches and address computations
_LARGEST_BODY = 256  # multiply-adds in one body: more would not stay in the cache of decoded instructions
_SHARE = 4  # the part of the second-level cache that one block's weights may fill
_REST_GAIN = 0.9  # a block that leaves a rest has to take less than this share: the rest is more code
_ALIKE = 1.01  # of the least time: among such blocks loads decide
_AHEAD = 2  # registers for what LLVM loads for the next step
_FEW_REGISTERS = 16
_APART = 0.02  # of the time, for each stream of weights but one: vectors of which some are left over are not packed
_SLACK = 1.2  # multiply-adds in flight, of those that hide the latency, where some wait for their operands as well


@dataclass(frozen=True)
class Work:
    """What a contraction asks of a core, whatever nest computes it.

    Attributes:
        columns: extent of the innermost pixel iterator, 1 where there is none.
        rows: extent of the second pixel iterator, 1 where there is none.
        samples: product of the extents of the other pixel iterators.
        blocks: extent of the iterator over vectors of output channels that the register block jams.
        sets: product of the extents of the other iterators that the weight depends on (planes, groups).
        depth: product of the extents of the reductions.
        lanes: f32 values in a vector of weights.
        shared: whether the blocks of a register block read the same data.
        column_taps: extent of the window along the columns, 1 where there is none or it meets no padding.
        row_taps: the same along the rows.
        live_columns: share of the pairs of a column and a tap that meet no padding.
        live_rows: the same of the rows.
        rests: whether a block need not divide the columns: those left over may get a block of their own.
        even: whether no vectors of output channels may be left over: threads share them, and cut one loop.
        in_rows: whether what a pixel reads lies side by side from the first product to the last.
        held: whether a column reads, at the next tap, the vector that its neighbour reads at this one (in a depthwise
            nest without stride).
    """

    columns: int
    rows: int
    samples: int
    blocks: int
    sets: int
    depth: int
    lanes: int
    shared: bool = True
    column_taps: int = 1
    row_taps: int = 1
    live_columns: float = 1.0
    live_rows: float = 1.0
    rests: bool = False
    even: bool = False
    in_rows: bool = False
    held: bool = False

    @property
    def macs(self) -> int:
        """Multiply-adds of one lane."""
        return self.columns * self.rows * self.samples * self.weights

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.blocks * self.sets * self.depth * self.lanes

    def passes(self, block: RegisterBlock) -> int:
        """How often the weights of a register block are read."""
        return self.rows * self.columns * self.samples // (block.rows * block.columns)


def work_of(view: ContractionNest, threads: int = 1) -> Work:
    """The work of a nest that so many threads share."""
    pixels = [loop.extent or 1 for loop in view.pixels]
    padded = windows(view, view.pixels[:2])
    columns, rows = ([padded[loop] for loop in view.pixels[k : k + 1] if loop in padded] for k in range(2))
    blocks = [loop.extent or 1 for loop in view.blocks]
    return Work(
        columns=pixels[0] if pixels else 1,
        rows=pixels[1] if len(pixels) > 1 else 1,
        samples=math.prod(pixels[2:]),
        blocks=blocks[-1] if blocks else 1,
        sets=math.prod(blocks[:-1]),
        depth=math.prod(loop.extent or 1 for loop in view.reductions),
        lanes=view.lane.extent or 1,
        shared=view.data_is_shared,
        column_taps=columns[0].tap.extent or 1 if columns else 1,
        row_taps=rows[0].tap.extent or 1 if rows else 1,
        live_columns=columns[0].live if columns else 1.0,
        live_rows=rows[0].live if rows else 1.0,
        rests=pixels[:1] != [1] and bool(pixels) and not columns,
        even=threads > 1 and not _is_cut_outside(view, threads),
        in_rows=view.data_lies_in_rows,
        held=view.data_runs_along and _is_held(view),
    )


def _is_cut_outside(view: ContractionNest, threads: int) -> bool:
    """Whether a loop around that over vectors of channels has enough iterations for the threads."""
    around = (*view.outer, *view.pixels[2:], *view.blocks[:-1])
    return any((loop.extent or 1) >= threads for loop in around)


def _is_held(view: ContractionNest) -> bool:
    """Whether the columns and a reduction move what is read by the same distance."""
    column, summed = {loop.position for loop in view.pixels[:1]}, {loop.position for loop in view.reductions}
    forms = [form.coefficients for form in view.data.forms if form is not None]
    moved = [(by[p], by[t]) for by in forms for p in column & by.keys() for t in summed & by.keys()]
    return any(pixel == tap for pixel, tap in moved)


def register_blocks(work: Work, target: Target) -> list[RegisterBlock]:
    """All blocks that fit in the registers, best first: the least time by `cost` (of rows whose scalars loads broadcast
    nearly the least counts as well); then, where weights are waited for, the least passes over them; then the least
    loads; then the most accumulators, up to what hides the latency; then the fewest, in the fewest rows.

    Several rows are whole ones, so that their padding can be left out; where registers are few, also parts of them:
    there the factors of one extent leave little choice. Where a block that leaves a rest, of the columns or of the
    vectors of channels, is that much faster than those that divide them, as 4 of 49 columns or 3 of 25 vectors are
    where registers are few, there are all of them.
    """
    even = _fitting(work, _factors(work.columns), _factors(work.blocks), target)
    few = range(1, target.registers + 1)
    columns = [count for count in few if count <= work.columns] if work.rests else _factors(work.columns)
    apart = work.shared and not work.even
    blocks = [count for count in few if count <= work.blocks] if apart else _factors(work.blocks)
    others = _fitting(work, columns, blocks, target)
    if min(cost(work, b, target) for b in others) < _REST_GAIN * min(cost(work, b, target) for b in even):
        even = others
    alike = _ALIKE * min(cost(work, block, target) for block in even) if _streams_rows(work, target) else 0.0
    return sorted(even, key=lambda block: _rank(work, block, target, alike))


def last_block(work: Work, block: RegisterBlock, target: Target) -> RegisterBlock:
    """The register block of the vectors of channels that `block` leaves over; of lone columns, as fastest."""
    few = work.blocks % block.blocks
    if not work.rests or block.rows > 1:
        return dataclasses.replace(block, blocks=few)
    rest = dataclasses.replace(work, blocks=few)
    fitting = _fitting(rest, range(1, min(work.columns, target.registers) + 1), [few], target)
    return min((each for each in fitting if each.rows == 1), key=lambda each: cost(rest, each, target))


def _fitting(work: Work, columns: Sequence[int], blocks: Sequence[int], target: Target) -> list[RegisterBlock]:
    """The blocks of so many columns and vectors of channels that fit in the registers."""
    parts = target.registers <= _FEW_REGISTERS
    return [
        RegisterBlock(r, c, b)
        for b in blocks
        for c in columns
        for r in _factors(work.rows)
        if (r == 1 or c == work.columns or (parts and work.columns % c == 0))
        and _body_registers(work, RegisterBlock(r, c, b), target) <= target.registers
    ]


def _body_registers(work: Work, block: RegisterBlock, target: Target) -> int:
    """Vector registers that a body takes. Where neighbours read the same vector one after the other, LLVM keeps all of
    them from one tap to the next, beside the accumulators. Where a scalar takes a register to be broadcast, LLVM keeps
    the scalars of a step, and reads a vector of weights when it is used, if that is for more than two of them; or the
    vectors, and broadcasts a scalar when it is used (see `keeps_vectors`).
    """
    if work.held:
        return 2 * block.accumulators
    pixels = block.rows * block.columns
    if keeps_vectors(work, block, target):
        return block.accumulators + block.blocks + 1
    streams = work.shared and not target.broadcasts_in_place and pixels > 2 and block.blocks > 1
    return block.accumulators + pixels + 1 if streams else block.registers


def keeps_vectors(work: Work, block: RegisterBlock, target: Target) -> bool:
    """Whether a step of a body goes from scalar to scalar, each of which meets all vectors of weights, rather than from
    vector to vector: where scalars take registers to be broadcast, all of a step too many, and vectors fewer.

    LLVM computes in the order that it is given, and holds what is used again. Only where rows of data are read from end
    to end (as tokens are): with pieces of images that lie apart such blocks were slower.
    """
    pixels = block.rows * block.columns
    crowded = block.accumulators + pixels + 1 > target.registers
    return _streams_rows(work, target) and 1 < block.blocks < pixels and crowded


def least_cost(work: Work, target: Target) -> float:
    """The cost of the work with its best register block, in multiply-adds of one lane."""
    return min(cost(work, block, target) for block in register_blocks(work, target))


def cost(work: Work, block: RegisterBlock, target: Target) -> float:
    """The time of the work with that block, in multiply-adds of one lane at full speed.

    Each step of the innermost reduction loads `blocks` vectors of weights and `rows * columns` scalars, and does their
    product of multiply-adds (see `Target.load_cost`). Where registers are short, scalars cost more. The weights are
    read again for every block of pixels. A network has evicted them since its last image, so they come from memory
    once, which overlaps with the arithmetic: what the next block of channels needs is fetched while this one is used;
    those of the first block are waited for.
    For the other passes they lie in the second-level cache, if they take up no more than their share of it, else in
    the last one: data, results and the weights to come lie there too. From there they come more slowly than from the
    first level.
    """
    few = work.blocks % block.blocks
    if few:
        whole, rest = (dataclasses.replace(work, blocks=count) for count in (work.blocks - few, few))
        apart = 1 + _APART * (block.blocks - 1)
        return apart * cost(whole, block, target) + cost(rest, last_block(work, block, target), target)
    over = work.columns % block.columns
    if over:
        whole, rest = (dataclasses.replace(work, columns=count) for count in (work.columns - over, over))
        return cost(whole, block, target) + _busy(rest, dataclasses.replace(block, columns=over), target)
    first = work.depth * block.blocks * work.lanes * F32_BYTES * target.balance if work.passes(block) > 1 else 0.0
    return max(_busy(work, block, target), _reading(work, block, target)) + first


def _reading(work: Work, block: RegisterBlock, target: Target) -> float:
    """The time in which the weights come from memory and from the last cache."""
    passes = work.passes(block)
    size = work.depth * block.blocks * work.lanes * F32_BYTES
    reading = work.weights * F32_BYTES * target.balance
    if passes > 1 and size > target.l2_bytes // _SHARE:
        again = target.l3_balance if target.l3_bytes else target.balance
        reading += work.weights * F32_BYTES * again * (passes - 1)
    return reading


def _busy(work: Work, block: RegisterBlock, target: Target) -> float:
    """The time of the multiply-adds alone, or of the loads where these take longer."""
    size = work.depth * block.blocks * work.lanes * F32_BYTES
    streamed = size > target.l1_bytes and work.passes(block) > 1
    streaming = F32_BYTES * target.l2_balance / (block.rows * block.columns) if streamed else 0.0
    hidden = _SLACK * target.in_flight / _hidden(block, target)
    slowest = max(1.0, target.load_cost * _loads(work, block, target), hidden, streaming)
    return work.macs * _live(work, block) * slowest


def skipped_taps(work: Work, block: RegisterBlock) -> int:
    """How many taps to unroll into the body so that its products with padding can be left out; 0: none.

    A body that holds whole rows shows which columns meet the padding, one that holds the whole image also which rows.
    """
    if block.columns != work.columns or work.live_columns == 1:
        return 0
    taps = work.column_taps * (work.row_taps if block.rows == work.rows else 1)
    return taps if taps * block.accumulators <= _LARGEST_BODY else 0


def trims_rows(work: Work, block: RegisterBlock) -> bool:
    """Whether to bound the taps along the rows, for the one row of the block, by where they meet no padding."""
    return block.rows == 1 and work.live_rows < 1 and not skipped_taps(work, block) > work.column_taps


def _live(work: Work, block: RegisterBlock) -> float:
    """The share of the multiply-adds that is left where those with padding are left out."""
    taps = skipped_taps(work, block)
    rows = trims_rows(work, block) or taps > work.column_taps
    return (work.live_columns if taps else 1.0) * (work.live_rows if rows else 1.0)


def _streams_rows(work: Work, target: Target) -> bool:
    """Whether scalars of rows that are read from end to end take registers to be broadcast."""
    return work.shared and work.in_rows and not target.broadcasts_in_place


def _rank(work: Work, block: RegisterBlock, target: Target, alike: float) -> tuple[float, int, float, float, int, int]:
    loads = round(_loads(work, block, target), 3)
    waiting = _reading(work, block, target) > _busy(work, block, target)
    passes = work.passes(block) if waiting else 0
    time = max(cost(work, block, target), alike)
    return (round(time), passes, loads, -_hidden(block, target), block.accumulators, block.rows)


def _loads(work: Work, block: RegisterBlock, target: Target) -> float:
    """Loads for each multiply-add of vectors, and what stands in their way."""
    pixels = block.rows * block.columns
    data = pixels if work.shared else pixels * block.blocks
    weight = target.scalar_cost if _is_crowded(work, block, target) else 1.0
    return (weight * data + block.blocks) / block.accumulators


def _is_crowded(work: Work, block: RegisterBlock, target: Target) -> bool:
    """Whether LLVM runs out of registers. A scalar that one multiply-add uses takes one, where no instruction
    broadcasts it on the way from memory, and often becomes the place of the sum; then sums are stored in between.
    """
    if target.broadcasts_in_place or not work.shared or block.blocks > 1:
        return False
    return block.accumulators + block.rows * block.columns + 1 > target.registers - _AHEAD


def _hidden(block: RegisterBlock, target: Target) -> float:
    return min(block.accumulators, _SLACK * target.in_flight)


def _factors(extent: int) -> list[int]:
    return [f for f in range(1, extent + 1) if extent % f == 0]
