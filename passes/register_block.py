"""An analytic model of the register block: how many pixels and channel blocks one innermost body computes."""

from __future__ import annotations

from dataclasses import dataclass

from loopmorph.passes.contraction_nest import ContractionNest
from loopmorph.passes.machine import Machine


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
    product of multiply-adds. Registers hold the accumulators, the weights and one broadcast. Best is the least loads
    per multiply-add; then the most accumulators, up to what hides the latency; then the longest run of columns.
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
    return sorted(candidates, key=_cost)


def _cost(block: RegisterBlock) -> tuple[float, int, int]:
    pixels = block.rows * block.columns
    loads = (pixels + block.blocks) / (pixels * block.blocks)
    hidden = min(block.accumulators, 16)
    return (round(max(loads, 0.5), 3), -hidden, block.accumulators)


def _factors(extent: int | None) -> list[int]:
    return [f for f in range(1, (extent or 1) + 1) if (extent or 1) % f == 0]
