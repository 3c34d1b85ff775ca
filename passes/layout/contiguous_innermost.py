"""`morph-contiguous-innermost`: the loop that walks along memory goes inside, in every nest without a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.affine_expr import LinearForm, linear_form
from loopmorph.passes.base import Pass
from loopmorph.passes.building.arrange import arrange, require_order_kept, whole
from loopmorph.passes.building.rebuild import rebuild
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Loop, Nest, nest_roots, view_nest, walk_loops


@dataclass(frozen=True)
class ContiguousInnermost(Pass):
    """Moves, in each nest, the iterator that indexes the result's last axis with stride 1 to the innermost place.

    LLVM then turns the innermost loop into vector code: copies, start values, element-wise steps, pooling.

    Before:

        affine.for %c = 0 to 16 { affine.for %h = 0 to 8 { ... affine.store %v, %y[%h, %c] : memref<8x16xf32> } }

    After:

        affine.for %h = 0 to 8 { affine.for %c = 0 to 16 { ... affine.store %v, %y[%h, %c] : memref<8x16xf32> } }

    Nests that are imperfect, not rectangular, vectorised already, that store at several places, or whose dependences
    forbid the order are left as they are.
    """

    name: ClassVar[str] = "morph-contiguous-innermost"

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for root in filter(_is_scalar_band, nest_roots(module)):
                nest = view_nest(root)
                lane = _lane(nest)
                if lane is not None and lane.position != len(nest.loops) - 1:
                    _move_inside(nest, lane)


def _is_scalar_band(root: affine.AffineForOp) -> bool:
    """Whether a nest is perfect and computes no vectors; a view of it, which takes longer, is to be had only then."""
    *band, innermost = walk_loops(root)
    body = (op.operation for op in innermost.body.operations)
    is_perfect = all(len(list(loop.body.operations)) == 2 for loop in band)
    return is_perfect and not any(isinstance(v.type, ir.VectorType) for op in body for v in (*op.results, *op.operands))


def _lane(nest: Nest) -> Loop | None:
    """The iterator that indexes the last axis of what the nest stores, with stride 1."""
    if not nest.is_rectangular or len(nest.stores) != 1:
        return None
    (store,) = nest.stores
    form = linear_form(store.exprs[-1]) if store.exprs else None
    unit = [p for p, coefficient in (form or LinearForm({})).coefficients.items() if coefficient == 1]
    return nest.loops[unit[0]] if len(unit) == 1 else None


def _move_inside(nest: Nest, lane: Loop) -> None:
    pieces = [whole(loop) for loop in nest.loops if loop != lane] + [whole(lane)]
    band = range(len(nest.loops))
    try:
        plan = arrange(nest, band, pieces)
        require_order_kept(nest, band, pieces)
    except IllegalTransform:  # the order stays; this pass is an optimisation
        return
    rebuild(plan)
