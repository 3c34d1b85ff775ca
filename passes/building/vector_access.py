"""How the accesses of a loop's body read and write when several iterations of the loop run as the lanes of a vector.

The frame of the expressions here: dimension p is loop p of the nest, where the vectorised loop counts vectors; the
dimension after the last loop is the lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch_mlir import ir

from loopmorph.passes.affine_expr import moves_by_one, simplify, substitute, used_dims
from loopmorph.passes.analysis.bounds import known_limits
from loopmorph.passes.nest import Access, Loop, Nest

Form = Literal["uniform", "contiguous", "scattered"]


@dataclass(frozen=True)
class LaneAccess:
    """One access, for all lanes.

    Attributes:
        access: the scalar access.
        form: "uniform" where all lanes touch one element, "contiguous" where lane k touches the element that lies k
            after lane 0's in memory, else "scattered".
        exprs: one expression per axis over the frame.
        lane: the frame's dimension that is the lane.
    """

    access: Access
    form: Form
    exprs: tuple[ir.AffineExpr, ...]
    lane: int

    def at(self, lane: int) -> list[ir.AffineExpr]:
        """What one lane touches, over the nest's loops alone."""
        number = {self.lane: ir.AffineExpr.get_constant(lane)}
        exprs = (substitute(e, number, self.lane + 1) for e in self.exprs)
        return [ir.AffineExpr.simplify_affine_expr(e, self.lane, 0) for e in exprs]


def lane_accesses(nest: Nest, loop: Loop, width: int) -> list[LaneAccess]:
    """The accesses in the body of an innermost loop, from 0 by 1, of constant extent.

    Iteration `vector * width + lane` of the loop runs in lane `lane`.
    """
    lane = len(nest.loops)
    vectors = (loop.extent or 0) // width
    place = ir.AffineExpr.get_dim(loop.position) * width + ir.AffineExpr.get_dim(lane)
    if vectors == 1:
        place = ir.AffineExpr.get_dim(lane)
    by_value = known_limits(nest)
    limits = [by_value.get(other.variable) for other in nest.loops] + [width]
    limits[loop.position] = vectors
    replaced: dict[tuple[ir.AffineExpr, ...], tuple[ir.AffineExpr, ...]] = {}
    found = []
    for access in nest.accesses:
        if access.loops[-1] == loop.position:
            if access.exprs not in replaced:
                exprs = (substitute(e, {loop.position: place}, lane) for e in access.exprs)
                replaced[access.exprs] = tuple(_simplified(e, limits) for e in exprs)
            exprs_by_lane = replaced[access.exprs]
            found.append(LaneAccess(access, _form(access, exprs_by_lane, lane), exprs_by_lane, lane))
    return found


def _form(access: Access, exprs: Sequence[ir.AffineExpr], lane: int) -> Form:
    uses = [lane in used_dims(e) for e in exprs]
    if not any(uses):
        return "uniform"
    by_one = not any(uses[:-1]) and moves_by_one(exprs[-1], lane)
    return "contiguous" if by_one and _is_dense_along_last_axis(ir.MemRefType(access.memref.type)) else "scattered"


def _is_dense_along_last_axis(type_: ir.MemRefType) -> bool:
    """Whether neighbours along the last axis lie side by side, element after element, as in a vector."""
    element = type_.element_type
    if isinstance(element, ir.IntegerType) and element.width % 8:
        return False  # an i1 fills a byte in a memref and a bit in a vector
    if type_.affine_map == ir.AffineMap.get_identity(type_.rank):
        return True
    try:
        strides, _ = type_.get_strides_and_offset()
    except RuntimeError:  # a layout that is no strided one
        return False
    return strides[-1] == 1


def _simplified(expr: ir.AffineExpr, limits: Sequence[int | None]) -> ir.AffineExpr:
    if all(limits[d] is not None for d in used_dims(expr)):
        return simplify(expr, [limit or 1 for limit in limits])
    return ir.AffineExpr.simplify_affine_expr(expr, len(limits), 0)
