"""Copies of what a nest reads, laid out in the order of loops."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import memref

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import substitute
from loopmorph.passes.building.edit_accesses import redirect
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.nest import Access, Loop, Nest


def copied_operand(nest: Nest, access: Access, loops: Sequence[Loop], shape: Sequence[int], role: str) -> ir.Value:
    """Builds a copy of what an access loads, by a nest before the one that reads it, and lets the access load that.

    Args:
        nest: the nest.
        access: a scalar load in it.
        loops: those that index the access, from 0 to constants, in the order of the copy's axes.
        shape: the copy's; at least as many elements along each axis as the loop has iterations, the others unwritten.
        role: that of the copying nest.

    Returns:
        The copy.
    """
    element = ir.MemRefType(access.memref.type).element_type
    axes = {loop.position: ir.AffineExpr.get_dim(axis) for axis, loop in enumerate(loops)}
    read = ir.AffineMap.get(len(loops), 0, [substitute(e, axes, len(nest.loops)) for e in access.exprs])
    identity = ir.AffineMap.get_identity(len(loops))
    texts = {name: marks.get_text(nest.root, name) for name in (marks.LAYER, marks.NODE)} | {marks.ROLE: role}
    extents = tuple(loop.extent or 1 for loop in loops)
    location = nest.root.location
    with ir.InsertionPoint(nest.root), location:
        copy = memref.AllocOp(ir.MemRefType.get(list(shape), element), [], []).result
        build_nest(
            NestHeader(tuple(loop.iterator for loop in loops), extents, texts),
            lambda variables: store(load(access.memref, read, variables), copy, identity, variables),
            location,
        )
    places = [ir.AffineExpr.get_dim(loop.position) for loop in loops]
    redirect(access.op, copy, places, [loop.variable for loop in nest.loops])
    return copy
