"""An analytic model of the register block: how many pixels and channel blocks one innermost body computes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loopmorph.passes.analysis.contraction_nest import ContractionNest
from loopmorph.passes.analysis.machine import Machine

_BYTES = 4  # of an f32
_LATENCY = 8  # multiply-adds in flight that keep the units busy


@dataclass(frozen=True)
class RegisterBlock:
    """Factors by which a schedule unrolls and jams.

    Attributes:
        rows: of the second pixel iterator (1 where there is none).
        columns: of the innermost pixel iterator.
        blocks: of the last block iterator (vectors of output channels).
    """

    rows: int
    columns: int
    blocks: int

    @property
    def accumulators(self) -> int:
        return self.rows * self.columns * self.blocks


def register_blocks(view: ContractionNest, machine: Machine) -> list[RegisterBlock]:
    """All blocks that fit in the registers, best first.

    Each step of the innermost reduction loads `blocks` vectors of weights and `rows * columns` scalars, and does their
    product of multiply-adds; a core loads as many values in a cycle as it does multiply-adds. The weights of a register
    block are read again for every block of pixels, from memory unless they stay in the second-level cache meanwhile.
    Best is the least time by these two counts; then the least loads; then the most accumulators, up to what hides the
    latency; then the fewest.
    """
    columns = _factors(view.pixels[0].extent) if view.pixels else [1]
    rows = _factors(view.pixels[1].extent) if len(view.pixels) > 1 else [1]
    blocks = _factors(view.blocks[-1].extent) if view.blocks else [1]
    whole_row = view.pixels[0].extent if view.pixels else 1
    candidates = [
        RegisterBlock(r, c, b)
        for b in blocks
        for c in columns
        for r in rows
        if (r == 1 or c == whole_row) and r * c * b + b + 1 <= machine.registers
    ]
    return sorted(candidates, key=lambda block: _cost(view, block, machine))


def _cost(view: ContractionNest, block: RegisterBlock, machine: Machine) -> tuple[float, float, int, int]:
    pixels = block.rows * block.columns
    data = pixels if view.data_is_shared else pixels * block.blocks
    loads = (data + block.blocks) / (pixels * block.blocks)
    hidden = min(block.accumulators, _LATENCY)
    starved = _LATENCY / hidden
    work = view.nest.points * max(1.0, 1.1 * loads, starved)
    depth = math.prod(loop.extent or 1 for loop in view.reductions)
    resident = depth * block.blocks * machine.lanes * _BYTES <= machine.cache_bytes * 3 // 4
    passes = 1 if resident else math.prod(loop.extent or 1 for loop in view.pixels) // pixels
    weights = depth * machine.lanes * math.prod(loop.extent or 1 for loop in view.blocks)
    traffic = weights * _BYTES * passes
    return (round(work + traffic * machine.macs_per_byte), round(loads, 3), -hidden, block.accumulators)


def _factors(extent: int | None) -> list[int]:
    return [f for f in range(1, (extent or 1) + 1) if (extent or 1) % f == 0]
