"""An analytic model of which algorithm computes a convolution fastest."""

from __future__ import annotations

import math

from torch_mlir import ir

from loopmorph.passes.analysis.machine import Machine
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.winograd.match import Convolution, match_convolution
from loopmorph.passes.winograd.matrices import ALGORITHMS

# Vector operations per tile and channel of the two transforms together, in multiply-adds of one lane.
_TRANSFORM_WORK = {2: 60, 4: 220}
WORTHWHILE = 0.8  # Winograd has to cost less than this share of the direct algorithm


def winograd_tile(nest: Nest, machine: Machine) -> int | None:
    """The tile with which Winograd pays for the nest, None where the direct algorithm is better or the only one.

    Costs are in multiply-adds: an algorithm costs its products, its transforms, and the reading of its weights, which
    a network has evicted from the caches since the last image. Winograd has fewer products, but its transformed
    weights are larger, which decides against it where there are few tiles.
    """
    try:
        convolution = match_convolution(nest)
    except IllegalTransform:
        return None
    lanes = [convolution.data_channels[-1:], convolution.result_channels[-1:]]
    if lanes != [convolution.inputs[-1:], convolution.outputs[-1:]]:
        return None
    if any(_extent(nest, p) != machine.lanes for p in lanes):
        return None
    rows, columns = (_extent(nest, (p,)) for p in convolution.space)
    costs = {t: _winograd_cost(convolution, t, machine) for t in ALGORITHMS if t <= min(rows, columns)}
    if not costs:
        return None
    best = min(costs, key=lambda t: costs[t])
    return best if costs[best] < WORTHWHILE * _direct_cost(convolution, machine) else None


def _direct_cost(c: Convolution, machine: Machine) -> float:
    channels = _extent(c.nest, c.groups) * _extent(c.nest, c.inputs) * _extent(c.nest, c.outputs)
    work = 9 * channels * _extent(c.nest, c.space) * _extent(c.nest, c.samples)
    return work + _reading(9 * channels, c, machine)


def _winograd_cost(c: Convolution, tile: int, machine: Machine) -> float:
    inputs, outputs = _extent(c.nest, c.data_channels), _extent(c.nest, c.result_channels)
    channels = _extent(c.nest, c.groups) * _extent(c.nest, c.inputs) * _extent(c.nest, c.outputs)
    tiles = math.prod(-(-_extent(c.nest, (p,)) // tile) for p in c.space) * _extent(c.nest, c.samples)
    planes = (tile + 2) ** 2
    work = planes * tiles * channels + _TRANSFORM_WORK[tile] * tiles * (inputs + outputs)
    return work + _reading(planes * channels, c, machine)


def _reading(weights: int, c: Convolution, machine: Machine) -> float:
    element = ir.MemRefType(c.weight.memref.type).element_type
    return weights * (ir.FloatType(element).width // 8) * machine.macs_per_byte


def _extent(nest: Nest, positions: tuple[int, ...]) -> int:
    return math.prod(nest.loops[p].extent or 1 for p in positions)
