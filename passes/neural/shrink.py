"""Carrying a `Shrinkage` out: loop bounds, memref types, access maps and parameter inheritance, all in place."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import LinearForm, from_linear
from loopmorph.passes.analysis.coupling import Shrinkage, tie
from loopmorph.passes.analysis.inheritance import compose_inheritance
from loopmorph.passes.building.nest_builder import rewrite_access
from loopmorph.passes.nest import Access, Loop, Nest


def shrink(plan: Shrinkage) -> None:
    """Rewrites the program as the plan says; the module verifies afterwards."""
    _rewrite_maps(plan)
    for _, loop in plan.loops:
        set_extent(loop, _new_extent(loop, plan))
    shapes: dict[ir.Value, list[int]] = {}
    for memref, axis in plan.axes:
        shapes.setdefault(memref, list(ir.MemRefType(memref.type).shape))[axis] //= plan.factor
    for memref, shape in shapes.items():
        axes = [axis for value, axis in plan.axes if value == memref]
        exprs = [_kept(d, extent, plan) if d in axes else ir.AffineExpr.get_dim(d) for d, extent in enumerate(shape)]
        retype(memref, shape, exprs)


def set_extent(loop: Loop, extent: int) -> None:
    """Makes a loop run from 0 to `extent`."""
    loop.op.attributes["upperBoundMap"] = ir.AffineMapAttr.get(ir.AffineMap.get_constant(extent))


def retype(memref: ir.Value, shape: Sequence[int], inherited: Sequence[ir.AffineExpr]) -> None:
    """Gives a memref another shape; if it is a parameter, element i inherits the old element `inherited(i)`."""
    element = ir.MemRefType(memref.type).element_type
    memref.set_type(ir.MemRefType.get(list(shape), element))
    if not isinstance(memref, ir.BlockArgument):
        return
    function = memref.owner.owner.opview
    assert isinstance(function, func.FuncOp)
    inputs = [argument.type for argument in function.entry_block.arguments]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, function.type.results))
    all_marks = marks.argument_marks(function)
    mine = all_marks[memref.arg_number]
    mine[marks.INHERIT] = compose_inheritance(mine, inherited, shape)
    marks.set_argument_marks(function, all_marks)


def _new_extent(loop: Loop, plan: Shrinkage) -> int:
    extent = loop.extent or 1
    return extent // plan.factor if any(loop.op.operation == other.op.operation for _, other in plan.loops) else extent


def _kept(axis: int, extent: int, plan: Shrinkage) -> ir.AffineExpr:
    """Old index of a new one, `extent` being the new extent of the axis: the head of every block is kept."""
    index = ir.AffineExpr.get_dim(axis)
    if plan.blocks == 1 or extent % plan.blocks:
        return index
    head = extent // plan.blocks
    quotient = ir.AffineExpr.get_floor_div(index, ir.AffineExpr.get_constant(head))
    return quotient * (head * plan.factor) + ir.AffineExpr.get_mod(index, ir.AffineExpr.get_constant(head))


def _rewrite_maps(plan: Shrinkage) -> None:
    """Renews the weights of mixed-radix accesses (`g * 32 + co`) to axes that shrink."""
    changed = set(plan.axes)
    for nest in {nest.root.operation: nest for nest, _ in plan.loops}.values():
        variables = [loop.variable for loop in nest.loops]
        for access in nest.accesses:
            exprs = [
                _renewed(nest, access, axis, plan) if (access.memref, axis) in changed else expr
                for axis, expr in enumerate(access.exprs)
            ]
            if any(new != old for new, old in zip(exprs, access.exprs, strict=True)):
                rewrite_access(access.op, exprs, variables)


def _renewed(nest: Nest, access: Access, axis: int, plan: Shrinkage) -> ir.AffineExpr:
    relation = tie(nest, access, axis)
    if relation.kind != "digits" or len(relation.loops) == 1:
        return access.exprs[axis]
    coefficients: dict[int, int] = {}
    weight = 1
    for position in reversed(relation.loops):
        coefficients[position] = weight
        weight *= _new_extent(nest.loops[position], plan)
    return from_linear(LinearForm(coefficients))
