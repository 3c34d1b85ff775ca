"""Carrying a `Shrinkage` out: loop bounds, memref types, access maps and parameter inheritance, all in place."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import arith, func

from loopmorph.passes import marks
from loopmorph.passes.analysis.coupling.inheritance import compose_inheritance, inherit_kept, inherit_merged
from loopmorph.passes.analysis.coupling.merging import Merging, kept_axes
from loopmorph.passes.analysis.coupling.propagation import Shrinkage
from loopmorph.passes.building.nest_builder import rewrite_access
from loopmorph.passes.building.rebuild import set_extent


def shrink(plan: Shrinkage) -> None:
    """Rewrites the program as the plan says; parameters inherit what is kept. The module verifies afterwards."""
    _rewrite_nests(plan)
    for memref, kept in kept_axes(plan).items():
        mine = _set_shape(memref, [axis.size for axis in kept])
        if mine is not None:
            mine[marks.INHERIT] = inherit_kept(mine, kept)
            marks.set_memref_marks(memref, mine)


def merge_parts(plan: Merging) -> None:
    """Rewrites the program to its first part; parameters inherit from all parts. The module verifies afterwards."""
    _rewrite_nests(plan.parts[0])
    parts = [kept_axes(part) for part in plan.parts]
    for memref, kept in parts[0].items():
        mine = _set_shape(memref, [axis.size for axis in kept])
        if mine is not None:
            merged = list(zip(*(part[memref] for part in parts), strict=True))
            summed = frozenset(axis for axis in range(len(merged)) if (memref, axis) in plan.summed)
            mine[marks.INHERIT] = inherit_merged(mine, merged, summed)
            marks.set_memref_marks(memref, mine)


def retype(memref: ir.Value, shape: Sequence[int], inherited: Sequence[ir.AffineExpr]) -> None:
    """Gives a memref another shape; if it is a parameter, element i inherits the old element `inherited(i)`."""
    mine = _set_shape(memref, shape)
    if mine is not None:
        mine[marks.INHERIT] = compose_inheritance(mine, inherited, shape)
        marks.set_memref_marks(memref, mine)


def _rewrite_nests(plan: Shrinkage) -> None:
    for change in plan.accesses:
        rewrite_access(change.access.op, change.exprs, [loop.variable for loop in change.nest.loops])
    for _, loop, kept in plan.loops:
        set_extent(loop, kept.size)
    for each in plan.constants:
        type_ = each.op.operands[each.operand].type
        with ir.InsertionPoint(each.op), each.op.location:
            each.op.operands[each.operand] = arith.ConstantOp(type_, ir.FloatAttr.get(type_, each.value)).result


def _set_shape(memref: ir.Value, shape: Sequence[int]) -> dict[str, ir.Attribute] | None:
    """Gives a memref another shape; returns the marks of a function argument, None for any other memref."""
    memref.set_type(ir.MemRefType.get(list(shape), ir.MemRefType(memref.type).element_type))
    if not isinstance(memref, ir.BlockArgument):
        return None
    function = memref.owner.owner.opview
    assert isinstance(function, func.FuncOp)
    inputs = [argument.type for argument in function.entry_block.arguments]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, function.type.results))
    return marks.memref_marks(memref)
