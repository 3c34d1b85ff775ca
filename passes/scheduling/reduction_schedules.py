"""Schedules of main nests that reduce but are no contraction with a contiguous lane: dot products, pooling, means."""

from __future__ import annotations

from loopmorph.passes.affine_expr import linear_form, used_dims
from loopmorph.passes.analysis.contraction_nest import result_lane
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.roles import accumulates, is_reduction, reduction_loops
from loopmorph.passes.history import Step
from loopmorph.passes.loop.fuse import Fuse
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.peel import REST, Peel
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.transpose import Transpose, runs_along
from loopmorph.passes.loop.unroll import Unroll
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.target.target import Target

MOST_ACCUMULATORS = 8  # side by side: as many as hide an addition's latency


def reduction_schedule(nest: Nest, layer: str, target: Target) -> list[Step]:
    """The steps for an accumulating nest; none where it has no iterator of vector width in a useful place.

    Args:
        nest: the nest.
        layer: its address.
        target: the processor.
    """
    if not accumulates(nest):
        return []
    lane = result_lane(nest)
    if lane is not None and lane.extent == target.lanes:
        return _across_lanes(nest, layer, lane)
    return _dot_product(nest, layer, target)


def elementwise_schedule(nest: Nest, layer: str, target: Target) -> list[Step]:
    """The steps for a nest that computes each element by itself, in vectors of channels; none where it has no lane.

    Args:
        nest: the nest.
        layer: its address.
        target: the processor.
    """
    lane = result_lane(nest)
    if not nest.is_perfect or not nest.is_rectangular or nest.is_vectorised or len(nest.stores) != 1 or lane is None:
        return []
    others = [loop for loop in nest.loops if loop != lane]
    if not others or accumulates(nest) or macs(nest):
        return []
    lanes = target.lanes
    rest = (lane.extent or 0) % lanes
    if lane.extent != lanes and not (_runs_along(nest, lane) and (not rest or _can_overlap(nest, lane, lanes))):
        return _transposition(nest, layer, lane, lanes)
    steps: list[Step] = []
    if lane.position != len(nest.loops) - 1:
        steps.append(Interchange(layer, (*(loop.iterator for loop in others), lane.iterator)))
    if rest:
        steps += [Peel(layer, lane.iterator, rest, lanes - rest), Vectorize(layer, f"{lane.iterator}{REST}", lanes)]
    steps.append(Vectorize(layer, lane.iterator, lanes))
    pixel = others[-1]
    factor = _largest_divisor(pixel.extent, 4)
    if 1 < factor < (pixel.extent or 1) and not rest:
        steps.append(Unroll(layer, pixel.iterator, factor))
    return steps


def _runs_along(nest: Nest, lane: Loop) -> bool:
    """Whether all that the lane indexes runs along it."""
    return all(lane.position not in a.dims or lane.position in _running(a) for a in nest.accesses)


def _can_overlap(nest: Nest, lane: Loop, lanes: int) -> bool:
    """Whether the last vector may begin before the one before it ends."""
    written = {store.memref for store in nest.stores}
    return (lane.extent or 0) > lanes and all(load.memref not in written for load in nest.loads)


def _transposition(nest: Nest, layer: str, lane: Loop, size: int) -> list[Step]:
    """A nest that reads along one iterator and writes along another: squares that are transposed in registers.

    ..., w.0, h.0 | squares of w.1, h.1; what of `w` fills no square goes element by element.
    """
    read = {d for load in nest.loads for d in _running(load)}
    columns = [loop for loop in nest.loops if loop.position in read and loop != lane]
    if len(columns) != 1 or len(nest.loops) < 3 or (lane.extent or 0) < size:
        return []
    (column,) = columns
    if (column.extent or 0) % size or size & (size - 1) or not _transposes(nest, lane, column):
        return []
    rest = (lane.extent or 0) % size
    outer = [loop.iterator for loop in nest.loops if loop not in (lane, column)]
    steps: list[Step] = [Interchange(layer, (*outer, lane.iterator, column.iterator))]
    if rest:
        steps.append(Peel(layer, lane.iterator, rest))
    halves: dict[str, tuple[str, str]] = {}
    for loop, extent in ((lane, (lane.extent or 0) - rest), (column, column.extent or 0)):
        name = loop.iterator
        if extent > size:
            steps.append(Split(layer, name, size))
        halves[name] = (f"{name}.0", f"{name}.1") if extent > size else ("", name)
    counted, inner = zip(halves[lane.iterator], halves[column.iterator], strict=True)
    order = [*filter(None, counted), *inner]
    return [*steps, Interchange(layer, tuple(order)), Transpose(layer, *inner)]


def _transposes(nest: Nest, lane: Loop, column: Loop) -> bool:
    """Whether all that is read lies along `column` or stays there, what is written along `lane`, in another memref."""
    (store,) = nest.stores
    apart = all(load.memref != store.memref for load in nest.loads)
    return apart and runs_along(store, lane) is True and all(runs_along(a, column) is not None for a in nest.loads)


def _running(load: Access) -> frozenset[int]:
    """The iterator along which a load moves element by element along the last axis, and no other axis."""
    form = linear_form(load.exprs[-1]) if load.exprs else None
    by_one = {d for d, c in form.coefficients.items() if c == 1} if form is not None else set()
    return frozenset(by_one - {d for e in load.exprs[:-1] for d in used_dims(e)})


def _across_lanes(nest: Nest, layer: str, lane: Loop) -> list[Step]:
    """Pooling: each lane reduces for itself; several pixels side by side.

    n, c.0, oh, ow.0 | kh, kw | ow.1, lane; the pixels jammed, the lane vectorised, the accumulators in registers.
    """
    kept = [loop for loop in nest.loops if loop != lane and not is_reduction(nest, loop.position)]
    reduced = reduction_loops(nest)
    if not reduced or not kept:
        return []
    pixel = kept[-1]
    factor = _largest_divisor(pixel.extent)
    steps: list[Step] = []
    outer, jammed = [loop.iterator for loop in kept], pixel.iterator
    if 1 < factor < (pixel.extent or 1):
        steps.append(Split(layer, pixel.iterator, factor))
        outer[-1], jammed = f"{pixel.iterator}.0", f"{pixel.iterator}.1"
    elif factor > 1:
        outer.pop()
    order = [*outer, *(loop.iterator for loop in reduced), *([jammed] if factor > 1 else []), lane.iterator]
    steps.append(Interchange(layer, tuple(order)))
    if factor > 1:
        steps.append(UnrollJam(layer, jammed, factor))
    return [*steps, Vectorize(layer, lane.iterator, lane.extent or 1), Promote(layer), FuseEpilogue(layer)]


def _dot_product(nest: Nest, layer: str, target: Target) -> list[Step]:
    """A linear layer whose weight is stored row by row: several rows at once, each in lanes along the row.

    n, co.0 | co.1, ci; `co.1` jammed, `ci` (its digits fused) vectorised, which leaves one sum over lanes at the end.
    """
    reduced = reduction_loops(nest)
    kept = [loop for loop in nest.loops if loop not in reduced]
    neighbours = [loop.position for loop in reduced] == list(range(len(kept), len(nest.loops)))
    if not reduced or not kept or not neighbours or len(reduced) > 2:
        return []
    length = 1
    for loop in reduced:
        length *= loop.extent or 1
    moving = (
        {d for load in nest.loads for d in used_dims(load.exprs[-1])} if all(a.exprs for a in nest.loads) else set()
    )
    ragged = length % target.lanes and (macs(nest) or length < target.lanes)  # a rest goes element by element
    if ragged or reduced[-1].position not in moving:
        return []
    steps: list[Step] = []
    along = reduced[-1].iterator
    if len(reduced) == 2:
        steps.append(Fuse(layer, tuple(loop.iterator for loop in reduced)))
        along = "_".join(loop.iterator for loop in reduced)
    row = kept[-1]
    factor = _largest_divisor(row.extent)
    if 1 < factor < (row.extent or 1):
        steps += [Split(layer, row.iterator, factor), UnrollJam(layer, f"{row.iterator}.1", factor)]
    elif factor > 1:
        steps.append(UnrollJam(layer, row.iterator, factor))
    return [*steps, Vectorize(layer, along, target.lanes)]


def _largest_divisor(extent: int | None, limit: int = MOST_ACCUMULATORS) -> int:
    whole = extent or 1
    return max(f for f in range(1, limit + 1) if whole % f == 0)
