"""`morph-turn-rows`: products store their results along the rows of the operand that they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from torch_mlir import ir

from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.memory.dataflow import outermost
from loopmorph.passes.analysis.roles import accumulates
from loopmorph.passes.base import Pass
from loopmorph.passes.building.edit_accesses import redirect
from loopmorph.passes.building.rows import TOKEN_RANK, has_free_rows, runs_along
from loopmorph.passes.errors import IllegalTransform, require_least
from loopmorph.passes.nest import Nest, nest_roots, view_nest

T = TypeVar("T")


@dataclass(frozen=True)
class TurnRows(Pass):
    """Swaps two axes of a result, so that one vector of an operand gives one vector of results.

    Before (width=8): a mixer's product over tokens, of which 196 fill no whole vectors

        %y = memref.alloc() : memref<384x196xf32>
        affine.for %n = 0 to 384 { affine.for %co = 0 to 196 { affine.for %ci = 0 to 196 {
          affine.load %x[%ci, %n] ... affine.load %w[%co, %ci] ... affine.store %v, %y[%n, %co] : memref<384x196xf32>
        ... affine.load %y[%w, %c]

    After:

        %y = memref.alloc() : memref<196x384xf32>
        ...
          affine.load %x[%ci, %n] ... affine.load %w[%co, %ci] ... affine.store %v, %y[%co, %n] : memref<196x384xf32>
        ... affine.load %y[%c, %w]

    `n`, the operand's row, is then the lane; no operand is copied, and who brought the tokens to the front reads
    results where it stores its own. Nests are taken in program order, so that the activation after a product and the
    product after that turn with it.

    Requires, of a product that is changed (others stay as they are): perfect and rectangular; a local result of rank 2
    or 3 that only loads and stores touch; an operand whose rows another iterator of the result runs along, alone in
    its axis and a multiple of `width`; and no operand along whose rows the result has whole vectors already. The same
    of a nest that computes each element by itself and reads what has turned.

    Options:
        width: lanes of a vector, at least 2.
    """

    name: ClassVar[str] = "morph-turn-rows"
    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least("width", self.width, 2, "lanes in a vector")

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            turned: set[ir.Value] = set()
            for root in nest_roots(module):
                nest = view_nest(root)
                axis = _axis_of_rows(nest, self.width, turned)
                if axis is not None and _swap_axes(nest.stores[0].memref, axis):
                    turned.add(nest.stores[0].memref)


def _axis_of_rows(nest: Nest, width: int, turned: set[ir.Value]) -> int | None:
    """The axis of what a nest stores along which its rows lie better; None where they are well as they are."""
    if len(nest.stores) != 1 or not nest.is_perfect or not nest.is_rectangular:
        return None
    (written,) = nest.stores
    rank = len(written.exprs)
    if not 2 <= rank <= TOKEN_RANK or not has_free_rows(written.memref):
        return None
    lane = runs_along(nest, written)
    operands = [load for load in nest.loads if load.memref != written.memref]
    if not macs(nest):
        follows = not accumulates(nest) and any(load.memref in turned for load in operands)
        if not follows or written.memref in turned:
            return None
    whole = lane is not None and not (lane.extent or 0) % width
    if lane is None or (whole and any(runs_along(nest, load) == lane for load in operands if len(load.exprs) > 1)):
        return None
    for axis in range(rank - 1):
        row = runs_along(nest, written, axis)
        if row is not None and not (row.extent or 0) % width and any(runs_along(nest, a) == row for a in operands):
            return axis
    return None


def _swap_axes(memref: ir.Value, axis: int) -> bool:
    """Swaps an axis of a memref with its last one, in its type and in all accesses; whether all could be seen."""
    type_ = ir.MemRefType(memref.type)
    roots = dict.fromkeys(outermost(use.owner.operation) for use in memref.uses)
    try:
        found = [(nest, a) for root in roots for nest in [view_nest(root.opview, memref)] for a in nest.accesses]
    except IllegalTransform:  # an index that is no affine function
        return False
    if len(found) < sum(1 for _ in memref.uses):
        return False
    shape = _swapped(type_.shape, axis)
    memref.set_type(ir.MemRefType.get(shape, type_.element_type, memory_space=type_.memory_space))
    for nest, access in found:
        redirect(access.op, memref, _swapped(access.exprs, axis), [loop.variable for loop in nest.loops])
    return True


def _swapped(values: Sequence[T], axis: int) -> list[T]:
    swapped = list(values)
    swapped[axis], swapped[-1] = swapped[-1], swapped[axis]
    return swapped
