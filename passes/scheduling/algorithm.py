"""An analytic model of which algorithm computes a convolution fastest, and of how many images at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.scheduling.register_block import Work, least_cost
from loopmorph.passes.target.target import F32_BYTES, Target
from loopmorph.passes.winograd.chunks import chunk_sizes
from loopmorph.passes.winograd.match import Convolution, match_convolution
from loopmorph.passes.winograd.matrices import ALGORITHMS

# Vector operations per tile and channel of the two transforms together, in multiply-adds of one lane.
_TRANSFORM_WORK = {(1, 2): 60, (1, 4): 220, (2, 2): 90}  # by stride and tile
WORTHWHILE = 0.8  # Winograd has to cost less than this share of the direct algorithm
_TRANSFERS = 3  # of what is written and read once: a line is fetched before it is written
# The part of a cache that holds what a nest hands to the next one, beside all else that these touch; cores share the
# last one.
_L2_SHARE, _L3_SHARE = 2, 8


def winograd_tile(nest: Nest, target: Target) -> int | None:
    """The tile with which Winograd pays for the nest, None where the direct algorithm is better or the only one.

    An algorithm costs its products (see `loopmorph.passes.scheduling.register_block.cost`) and its transforms. Winograd
    has fewer products, but its transformed weights are larger, which decides against it where there are few tiles.
    """
    try:
        convolution = match_convolution(nest)
    except IllegalTransform:
        return None
    lanes = [convolution.data_channels[-1:], convolution.result_lane]
    if [lane[-1:] for lane in lanes] != [convolution.inputs[-1:], convolution.outputs[-1:]]:
        return None
    if any(_extent(nest, lane) != target.lanes for lane in lanes):
        return None
    rows, columns = (_extent(nest, (p,)) for p in convolution.space)
    tiles = [tile for tile in ALGORITHMS[convolution.stride] if tile <= min(rows, columns)]
    costs = {tile: _winograd_cost(convolution, tile, target) for tile in tiles}
    if not costs:
        return None
    best = min(costs, key=lambda t: costs[t])
    return best if costs[best] < WORTHWHILE * _direct_cost(convolution, target) else None


def winograd_samples(nest: Nest, tile: int, target: Target, threads: int = 1, chosen: int | None = None) -> int | None:
    """How many iterations of the outermost loop over images to compute at a time with Winograd's tiles of that extent.

    What is transformed lies in memory between transforms and products: that of few images stays in cache. The
    transformed weights are read again for each chunk of images, so that few tiles at a time cost more. Several threads
    take equally many chunks.

    Args:
        nest: the nest.
        tile: extent of a tile.
        target: the processor.
        threads: how many threads share the chunks.
        chosen: what somebody has chosen already.

    Returns:
        All of them where that is best, None where they cannot be cut (see `morph-winograd`).

    Raises:
        IllegalTransform: what is chosen is not possible; lists what is.
    """
    convolution = match_convolution(nest)
    extent = _extent(nest, convolution.samples[:1])
    possible = [*chunk_sizes(convolution), extent]
    if chosen is not None:
        if chosen not in possible:
            listed = ", ".join(map(str, possible))
            raise IllegalTransform(nest.label, f"{chosen} images at a time are not possible; accepted are {listed}")
        return chosen
    fair = [size for size in possible if extent // size % threads == 0 or size == extent]
    if len(possible) == 1:
        return None
    return min(fair, key=lambda size: (_chunked_cost(convolution, tile, size, target), -size))


def fewer_than_all(nest: Nest, samples: int | None) -> int | None:
    """The option `samples` of `morph-winograd` for that many iterations at a time: None for all of them."""
    return samples if samples in chunk_sizes(match_convolution(nest)) else None


def _direct_cost(c: Convolution, target: Target) -> float:
    rows, columns = (_extent(c.nest, (p,)) for p in c.space)
    return least_cost(_work(c, rows, columns, 9, 1, target), target)


def _winograd_cost(c: Convolution, tile: int, target: Target) -> float:
    tiles = _tiles(c, tile) * _extent(c.nest, c.samples)
    return least_cost(_products(c, tile, tiles, target), target) + _transforms(c, tile, tiles)


def _chunked_cost(c: Convolution, tile: int, size: int, target: Target) -> float:
    """The cost of the whole convolution in chunks of so many iterations of the outermost loop over images."""
    chunks = _extent(c.nest, c.samples[:1]) // size
    tiles = _tiles(c, tile) * _extent(c.nest, c.samples) // chunks
    work = _products(c, tile, tiles, target)
    handed = F32_BYTES * _points(c, tile) * tiles * _channels(c)
    warm = dataclasses.replace(target, balance=_balance(handed + F32_BYTES * work.weights, target))
    products = least_cost(work, target) + (chunks - 1) * least_cost(work, warm)
    return products + chunks * (_transforms(c, tile, tiles) + _TRANSFERS * handed * _balance(handed, target))


def _tiles(c: Convolution, tile: int) -> int:
    """Tiles of one image."""
    return math.prod(-(-_extent(c.nest, (p,)) // tile) for p in c.space)


def _channels(c: Convolution) -> int:
    """Those of data and result, which are transformed."""
    return _extent(c.nest, c.data_channels) + _extent(c.nest, c.result_channels)


def _transforms(c: Convolution, tile: int, tiles: int) -> float:
    return _TRANSFORM_WORK[c.stride, tile] * tiles * _channels(c)


def _points(c: Convolution, tile: int) -> int:
    """Products for a tile and a pair of channels."""
    return ALGORITHMS[c.stride][tile].reach ** 2


def _products(c: Convolution, tile: int, tiles: int, target: Target) -> Work:
    """The products of so many tiles, which are one iterator of their nest."""
    return dataclasses.replace(_work(c, 1, tiles, 1, _points(c, tile), target), samples=1, rests=tiles > 1)


def _balance(size: int, target: Target) -> float:
    """The balance of the level of memory in which so many bytes lie from one nest to the next (see `Target`)."""
    if size <= target.l2_bytes // _L2_SHARE:
        return min(target.l2_balance, target.balance)
    if size <= target.l3_bytes // _L3_SHARE:
        return min(target.l3_balance, target.balance)
    return target.balance


def _work(c: Convolution, rows: int, columns: int, taps: int, planes: int, target: Target) -> Work:
    """The products over all channels, for `taps` weights of each pair of them, `planes` times."""
    apart = [p for p in c.groups if p not in c.result_lane]
    blocks = [p for p in c.outputs if p not in c.result_lane]
    return Work(
        columns=columns,
        rows=rows,
        samples=_extent(c.nest, c.samples),
        blocks=_extent(c.nest, blocks),
        sets=planes * _extent(c.nest, apart),
        depth=taps * _extent(c.nest, c.inputs),
        lanes=target.lanes,
    )


def _extent(nest: Nest, positions: Sequence[int]) -> int:
    return math.prod(nest.loops[p].extent or 1 for p in positions)
