"""Group of two iterators that index one parameter: only the blocks on the diagonal of their product stay."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.coupling.ties import tie
from loopmorph.passes.analysis.roles import is_reduction
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.neural.strips import GroupPlan, Regrouped, require_own, require_strips, strip_mined


def plan_diagonal(nest: Nest, outer: Loop, inner: Loop, factor: int) -> GroupPlan:
    """The plan that ties `outer` and `inner`, which both index one parameter, in `factor` groups.

    Raises:
        IllegalTransform: the nest does not meet the requirements of `Group`.
    """
    if is_reduction(nest, outer.position) or not is_reduction(nest, inner.position):
        reason = f"'{outer.iterator}' has to index the result and '{inner.iterator}' to be reduced"
        raise IllegalTransform(nest.label, reason)
    require_strips(nest, (outer, inner), factor)
    weight = _common_parameter(nest, outer, inner)
    outer_axis, inner_axis = _axis_of(nest, weight, outer), _axis_of(nest, weight, inner)
    if outer_axis == inner_axis:
        raise IllegalTransform(
            nest.label, f"'{outer.iterator}' and '{inner.iterator}' index the same axis of the weight"
        )
    shape = list(ir.MemRefType(weight.memref.type).shape)
    shape[inner_axis] //= factor
    inherited = _diagonal(nest, weight, (outer, outer_axis), (inner, inner_axis), factor)
    loops, position = strip_mined(nest, (outer, inner), factor, outer)
    return GroupPlan(loops, position, (Regrouped(weight.memref, inner_axis, tuple(shape), inherited),))


def _common_parameter(nest: Nest, outer: Loop, inner: Loop) -> Access:
    """The one load of a parameter that both iterators index."""
    both = [
        load for load in nest.loads if {outer.position, inner.position} <= {d for e in load.exprs for d in used_dims(e)}
    ]
    weights = [load for load in both if marks.parameter_name(load.memref) is not None]
    if len(both) != 1 or len(weights) != 1:
        reason = f"exactly one operand, a parameter, must be indexed by both '{outer.iterator}' and '{inner.iterator}'"
        raise IllegalTransform(nest.label, f"{reason}; found {len(weights)} parameters in {len(both)} such operands")
    (weight,) = weights
    require_own(nest, weight.memref)
    return weight


def _axis_of(nest: Nest, weight: Access, loop: Loop) -> int:
    axes = [axis for axis, expr in enumerate(weight.exprs) if loop.position in used_dims(expr)]
    if len(axes) != 1 or tie(nest, weight, axes[0]).kind != "digits":
        name = marks.parameter_name(weight.memref)
        raise IllegalTransform(nest.label, f"'{loop.iterator}' does not index one axis of the weight '{name}' directly")
    return axes[0]


def _stride(nest: Nest, weight: Access, axis: int, loop: Loop) -> int:
    """How far a step of the iterator moves along the axis."""
    stride = 1
    for position in reversed(tie(nest, weight, axis).loops):
        if position == loop.position:
            break
        stride *= nest.loops[position].extent or 1
    return stride


def _diagonal(
    nest: Nest, weight: Access, outer: tuple[Loop, int], inner: tuple[Loop, int], factor: int
) -> tuple[ir.AffineExpr, ...]:
    """Old index of each new element of the weight: block number `g`, read off the outer axis, on the inner one."""
    (outer_loop, outer_axis), (inner_loop, inner_axis) = outer, inner
    constant = ir.AffineExpr.get_constant
    block = _stride(nest, weight, outer_axis, outer_loop) * ((outer_loop.extent or 1) // factor)
    number = ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(outer_axis), constant(block))
    number = ir.AffineExpr.get_mod(number, constant(factor))
    run = _stride(nest, weight, inner_axis, inner_loop) * ((inner_loop.extent or 1) // factor)
    index = ir.AffineExpr.get_dim(inner_axis)
    leading = ir.AffineExpr.get_floor_div(index, constant(run)) * (run * factor)
    exprs = [ir.AffineExpr.get_dim(d) for d in range(len(weight.exprs))]
    exprs[inner_axis] = leading + number * run + ir.AffineExpr.get_mod(index, constant(run))
    return tuple(exprs)
