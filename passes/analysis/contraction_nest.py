"""The roles that a contraction's iterators play, read off its access maps: what a schedule needs to know of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from loopmorph.passes.affine_expr import linear_form, moves_by_one, used_dims
from loopmorph.passes.nest import Access, Loop, Nest


@dataclass(frozen=True)
class ContractionNest:
    """A perfect, rectangular nest that accumulates products, by the roles of its iterators.

    Attributes:
        nest: the nest.
        weight: the operand that the lane runs along.
        data: the other operand.
        lane: indexes the last axis of the result with stride 1: the iterator to vectorise.
        pixels: the other iterators of the result that the weight does not depend on, innermost axis first, and of one
            axis the innermost loop.
        blocks: the other iterators of the result that the weight depends on (blocks of output channels, groups).
        reductions: the iterators that are summed over, in the order of the nest.
        outer: iterators that stay outermost; the others are those of one iteration of these.
    """

    nest: Nest
    weight: Access
    data: Access
    lane: Loop
    pixels: tuple[Loop, ...]
    blocks: tuple[Loop, ...]
    reductions: tuple[Loop, ...]
    outer: tuple[Loop, ...] = ()

    @property
    def data_is_blended(self) -> bool:
        """Whether the lanes of one vector read different data (groups of fewer channels than a vector)."""
        return self.lane.position in self.data.dims and not _contiguous(self.data, self.lane)

    @property
    def data_runs_along(self) -> bool:
        """Whether a vector of data lies in memory as the lane reads it (in a depthwise nest)."""
        return _contiguous(self.data, self.lane)

    @property
    def data_is_shared(self) -> bool:
        """Whether the blocks of a register block read the same data (not so in a depthwise nest)."""
        return not self.blocks or self.blocks[-1].position not in self.data.dims

    @property
    def data_lies_in_rows(self) -> bool:
        """Whether what a pixel reads lies side by side from the first product to the last (in a linear layer)."""
        return len(self.reductions) == 1 and _contiguous(self.data, self.reductions[0])

    def weight_axis(self, loop: Loop) -> int | None:
        """The axis of the weight that the iterator alone indexes."""
        axes = [a for a, e in enumerate(self.weight.exprs) if used_dims(e) == {loop.position}]
        return axes[0] if len(axes) == 1 else None


def view_contraction(nest: Nest, outer: Collection[str] = ()) -> ContractionNest | None:
    """The roles, or None where the nest is no contraction of two operands into a result with a contiguous lane.

    Args:
        nest: the nest.
        outer: its outermost iterators, where they are to stay so.
    """
    if not nest.is_perfect or not nest.is_rectangular or len(nest.stores) != 1 or nest.is_vectorised:
        return None
    (store,) = nest.stores
    operands = [load for load in nest.loads if load.memref != store.memref]
    if len(operands) != 2 or len(nest.loads) != 3:
        return None
    lane = _lane(nest, store)
    if lane is None:
        return None
    running = [a for a in operands if _contiguous(a, lane)]
    if not running:
        return None
    # Both run along in a depthwise nest; the weight is what the result's pixels do not index.
    weight = min(running, key=lambda a: len({d for e in a.exprs for d in used_dims(e)}))
    data = next(a for a in operands if a is not weight)
    in_result = {d for e in store.exprs for d in used_dims(e)}
    in_weight = {d for e in weight.exprs for d in used_dims(e)}
    rank = {d: axis for axis, e in enumerate(store.exprs) for d in used_dims(e)}
    others = [loop for loop in nest.loops if loop.position in in_result and loop != lane]
    kept = [loop for loop in nest.loops if loop.iterator in outer]
    others = [loop for loop in others if loop not in kept]
    pixels = [loop for loop in others if loop.position not in in_weight]
    pixels.sort(key=lambda loop: (rank[loop.position], loop.position), reverse=True)
    blocks = [loop for loop in others if loop.position in in_weight]
    reductions = [loop for loop in nest.loops if loop.position not in in_result]
    return ContractionNest(nest, weight, data, lane, tuple(pixels), tuple(blocks), tuple(reductions), tuple(kept))


def split_lane(nest: Nest, lanes: int) -> tuple[str, ...] | None:
    """The adjacent iterators that together run along the last axis of each result, one vector of `lanes` elements.

    So it is in a grouped layer whose groups have fewer channels than a vector: `g.1 * 8 + co`.
    """
    if not nest.is_perfect or not nest.is_rectangular or nest.is_vectorised:
        return None
    along = {store.exprs[-1] if store.exprs else None for store in nest.stores}
    (last,) = along if len(along) == 1 else (None,)
    form = linear_form(last) if last is not None else None
    digits = sorted(form.coefficients, key=lambda p: form.coefficients[p], reverse=True) if form is not None else []
    if form is None or len(digits) < 2 or digits != list(range(digits[0], digits[0] + len(digits))):
        return None
    weight = 1
    for position in reversed(digits):
        if form.coefficients[position] != weight:
            return None
        weight *= nest.loops[position].extent or 0
    return tuple(nest.iterators[p] for p in digits) if weight == lanes and not form.constant else None


def result_lane(nest: Nest) -> Loop | None:
    """The iterator that indexes the last axis of every store of the nest with stride 1 and offset 0."""
    lanes = {lane.position: lane for lane in (_lane(nest, store) for store in nest.stores) if lane is not None}
    return next(iter(lanes.values())) if len(lanes) == 1 else None


def _lane(nest: Nest, access: Access) -> Loop | None:
    """The iterator that indexes the last axis with stride 1, alone or as the last digit: `lane` in `co * 16 + lane`."""
    if not access.exprs:
        return None
    form = linear_form(access.exprs[-1])
    if form is None:
        return None
    by_one = [position for position, coefficient in form.coefficients.items() if coefficient == 1]
    if len(by_one) != 1:
        return None
    lane = nest.loops[by_one[0]]
    others = [c for position, c in form.coefficients.items() if position != lane.position]
    return lane if not others or (lane.extent and not any(c % lane.extent for c in others)) else None


def _contiguous(access: Access, lane: Loop) -> bool:
    """Whether a step of the lane is a step of 1 along the last axis, and none along the others."""
    if not access.exprs or any(lane.position in used_dims(e) for e in access.exprs[:-1]):
        return False
    return moves_by_one(access.exprs[-1], lane.position)
