"""An analytic model of which algorithm computes a convolution fastest."""

from __future__ import annotations

import math

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.scheduling.register_block import Work, least_cost
from loopmorph.passes.target.target import Target
from loopmorph.passes.winograd.match import Convolution, match_convolution
from loopmorph.passes.winograd.matrices import ALGORITHMS

# Vector operations per tile and channel of the two transforms together, in multiply-adds of one lane.
_TRANSFORM_WORK = {2: 60, 4: 220}
WORTHWHILE = 0.8  # Winograd has to cost less than this share of the direct algorithm


def winograd_tile(nest: Nest, target: Target) -> int | None:
    """The tile with which Winograd pays for the nest, None where the direct algorithm is better or the only one.

    An algorithm costs its products (see `loopmorph.passes.scheduling.register_block.cost`) and its transforms. Winograd
    has fewer products, but its transformed weights are larger, which decides against it where there are few tiles.
    """
    try:
        convolution = match_convolution(nest)
    except IllegalTransform:
        return None
    lanes = [convolution.data_channels[-1:], convolution.result_channels[-1:]]
    if lanes != [convolution.inputs[-1:], convolution.outputs[-1:]]:
        return None
    if any(_extent(nest, p) != target.lanes for p in lanes):
        return None
    rows, columns = (_extent(nest, (p,)) for p in convolution.space)
    costs = {t: _winograd_cost(convolution, t, target) for t in ALGORITHMS if t <= min(rows, columns)}
    if not costs:
        return None
    best = min(costs, key=lambda t: costs[t])
    return best if costs[best] < WORTHWHILE * _direct_cost(convolution, target) else None


def _direct_cost(c: Convolution, target: Target) -> float:
    rows, columns = (_extent(c.nest, (p,)) for p in c.space)
    return least_cost(_work(c, rows, columns, 9, 1, target), target)


def _winograd_cost(c: Convolution, tile: int, target: Target) -> float:
    inputs, outputs = _extent(c.nest, c.data_channels), _extent(c.nest, c.result_channels)
    rows, columns = (-(-_extent(c.nest, (p,)) // tile) for p in c.space)
    transforms = _TRANSFORM_WORK[tile] * rows * columns * _extent(c.nest, c.samples) * (inputs + outputs)
    return least_cost(_work(c, rows, columns, 1, (tile + 2) ** 2, target), target) + transforms


def _work(c: Convolution, rows: int, columns: int, taps: int, planes: int, target: Target) -> Work:
    """The products over all channels, for `taps` weights of each pair of them, `planes` times."""
    return Work(
        columns=columns,
        rows=rows,
        samples=_extent(c.nest, c.samples),
        blocks=_extent(c.nest, c.outputs) // target.lanes,
        sets=planes * _extent(c.nest, c.groups),
        depth=taps * _extent(c.nest, c.inputs),
        lanes=target.lanes,
    )


def _extent(nest: Nest, positions: tuple[int, ...]) -> int:
    return math.prod(nest.loops[p].extent or 1 for p in positions)
