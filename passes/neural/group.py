"""`morph-group`: tie two iterators: the network computes only the blocks on the diagonal of their product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.affine_expr import LinearForm, from_linear, used_dims
from loopmorph.passes.analysis.coupling import is_reduction, parameter_name, tie
from loopmorph.passes.base import Kind, Transformation
from loopmorph.passes.building.nest_builder import rewrite_access
from loopmorph.passes.building.rebuild import NewLoop, Rebuild, rebuild
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest, divisors, find_nest, require_perfect, require_scalar, view_nest
from loopmorph.passes.neural.shrink import retype


@dataclass(frozen=True)
class GroupPlan:
    """The rebuilt nest, and the weight whose `inner` axis loses the groups.

    Attributes:
        loops: new loops and the old iterators over them; the group iterator stands before the outer one.
        group: position of the group iterator among the new loops.
        weight: the parameter indexed by both iterators.
        axis: its axis that the inner iterator indexes.
        shape: its new shape.
        inherited: for each axis, the old index of a new element.
    """

    loops: Rebuild
    group: int
    weight: ir.Value
    axis: int
    shape: tuple[int, ...]
    inherited: tuple[ir.AffineExpr, ...]


@dataclass(frozen=True)
class Group(Transformation[GroupPlan]):
    """Strip-mines two iterators by `factor` and fuses the two outer strips into one group iterator.

    With `iters=co,ci` that is a grouped convolution (Turner et al., ASPLOS 2021, section 4): each group of output
    channels reads its own group of input channels, and the weight's `ci` axis shrinks.

    Before, for `morph-group{layer=a iters=co,ci factor=2}`:

        affine.for %co = 0 to 64 {
          affine.for %ci = 0 to 32 {
            ... affine.load %x[%ci] ... affine.load %w[%co, %ci] : memref<64x32xf32> ... affine.store %v, %t[%co]
          } {morph.iter = "ci"}
        } {morph.iter = "co"}

    After:

        affine.for %g = 0 to 2 {
          affine.for %co = 0 to 32 {
            affine.for %ci = 0 to 16 {
              ... affine.load %x[%g * 16 + %ci] ... affine.load %w[%g * 32 + %co, %ci] : memref<64x16xf32> ...
              ... affine.store %v, %t[%g * 32 + %co]
            } {morph.iter = "ci"}
          } {morph.iter = "co"}
        } {morph.iter = "g"}

    Requires: a perfect, rectangular nest; a first iterator that indexes the result, a second one that is reduced; one
    parameter that both index, on separate axes, and that no other nest reads; a factor of at least 2 that divides
    both extents. The weight inherits the blocks on its diagonal.

    Options:
        layer: qualified name of the layer.
        iters: the two iterators, the one of the output first.
        factor: number of groups.
    """

    name: ClassVar[str] = "morph-group"
    kind: ClassVar[Kind] = "neural"

    layer: str
    iters: tuple[str, ...]
    factor: int

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Group]:
        extents = dict(zip(nest.iterators, nest.extents, strict=True))
        if "co" not in extents or "ci" not in extents:
            return []
        common = divisors(extents["co"], (2, 4, 8, 16))
        return [cls(nest.layer, ("co", "ci"), f) for f in common if f in divisors(extents["ci"], common)]

    def analyze(self, module: ir.Operation) -> GroupPlan:
        nest = find_nest(module, self.layer)
        if len(self.iters) != 2 or self.iters[0] == self.iters[1]:
            raise ArgumentError("iters", f"expected two iterators, the output's first, got '{','.join(self.iters)}'")
        if self.factor < 2:
            raise ArgumentError("factor", f"expected an integer of at least 2, got {self.factor}")
        outer, inner = (nest.loop(name, "iters") for name in self.iters)
        return plan_group(nest, outer, inner, self.factor)

    def rewrite(self, plan: GroupPlan) -> ir.Operation:
        return group(plan)


def plan_group(nest: Nest, outer: Loop, inner: Loop, factor: int) -> GroupPlan:
    """The plan that ties `outer` and `inner` in `factor` groups.

    Raises:
        IllegalTransform: the nest does not meet the requirements of `Group`.
    """
    require_scalar(nest)
    require_perfect(nest)
    if not nest.is_rectangular:
        raise IllegalTransform(nest.label, "it has a bound that is not constant (a split with a remainder)")
    if is_reduction(nest, outer.position) or not is_reduction(nest, inner.position):
        reason = f"'{outer.iterator}' has to index the result and '{inner.iterator}' to be reduced"
        raise IllegalTransform(nest.label, reason)
    for loop in (outer, inner):
        if (loop.extent or 1) % factor:
            reason = f"the extent {loop.extent} of iterator '{loop.iterator}' is not divisible by {factor}"
            raise IllegalTransform(nest.label, reason)
    weight = _common_parameter(nest, outer, inner)
    outer_axis, inner_axis = _axis_of(nest, weight, outer), _axis_of(nest, weight, inner)
    if outer_axis == inner_axis:
        raise IllegalTransform(
            nest.label, f"'{outer.iterator}' and '{inner.iterator}' index the same axis of the weight"
        )
    shape = list(ir.MemRefType(weight.memref.type).shape)
    shape[inner_axis] //= factor
    inherited = _diagonal(nest, weight, (outer, outer_axis), (inner, inner_axis), factor)
    loops, position = _strip_mined(nest, outer, inner, factor)
    return GroupPlan(loops, position, weight.memref, inner_axis, tuple(shape), inherited)


def group(plan: GroupPlan) -> ir.Operation:
    """Carries the plan out; returns the rebuilt nest's outermost loop."""
    root = rebuild(plan.loops)
    nest = view_nest(root.opview)
    variables = [loop.variable for loop in nest.loops]
    for access in nest.accesses:
        if access.memref == plan.weight:
            exprs = list(access.exprs)
            exprs[plan.axis] = _without_groups(nest, access, plan)
            rewrite_access(access.op, exprs, variables)
    retype(plan.weight, plan.shape, plan.inherited)
    return root


def _common_parameter(nest: Nest, outer: Loop, inner: Loop) -> Access:
    """The one load of a parameter that both iterators index."""
    both = [
        load for load in nest.loads if {outer.position, inner.position} <= {d for e in load.exprs for d in used_dims(e)}
    ]
    weights = [load for load in both if parameter_name(load.memref) is not None]
    if len(both) != 1 or len(weights) != 1:
        reason = f"exactly one operand, a parameter, must be indexed by both '{outer.iterator}' and '{inner.iterator}'"
        raise IllegalTransform(nest.label, f"{reason}; found {len(weights)} parameters in {len(both)} such operands")
    (weight,) = weights
    if any(use.owner != weight.op for use in weight.memref.uses):
        raise IllegalTransform(nest.label, f"its weight '{parameter_name(weight.memref)}' is read elsewhere as well")
    return weight


def _axis_of(nest: Nest, weight: Access, loop: Loop) -> int:
    axes = [axis for axis, expr in enumerate(weight.exprs) if loop.position in used_dims(expr)]
    if len(axes) != 1 or tie(nest, weight, axes[0]).kind != "digits":
        name = parameter_name(weight.memref)
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


def _strip_mined(nest: Nest, outer: Loop, inner: Loop, factor: int) -> tuple[Rebuild, int]:
    """The new loops, the group iterator right before the outer one, and the group iterator's position."""
    name = _free_name(nest)
    zero = (ir.AffineExpr.get_constant(0),)
    loops: list[NewLoop] = []
    old: dict[int, ir.AffineExpr] = {}
    for loop in nest.loops:
        extent = loop.extent or 1
        if loop in (outer, inner):
            extent //= factor
        if loop == outer:
            loops.append(NewLoop(name, loop.position, zero, (ir.AffineExpr.get_constant(factor),)))
        old[loop.position] = ir.AffineExpr.get_dim(len(loops))
        loops.append(NewLoop(loop.iterator, loop.position, zero, (ir.AffineExpr.get_constant(extent),)))
    position = next(k for k, loop in enumerate(loops) if loop.iterator == name)
    for loop in (outer, inner):
        strip = (loop.extent or 1) // factor
        old[loop.position] = ir.AffineExpr.get_dim(position) * strip + old[loop.position]
    return Rebuild(nest, tuple(range(len(nest.loops))), tuple(loops), old), position


def _free_name(nest: Nest) -> str:
    names = ["g", *(f"g{k}" for k in range(1, len(nest.loops) + 1))]
    return next(name for name in names if name not in nest.iterators)


def _without_groups(nest: Nest, access: Access, plan: GroupPlan) -> ir.AffineExpr:
    """The index along the shortened axis: the same digits but the group's."""
    relation = tie(nest, access, plan.axis)
    coefficients: dict[int, int] = {}
    weight = 1
    for position in reversed(relation.loops):
        if position != plan.group:
            coefficients[position] = weight
            weight *= nest.loops[position].extent or 1
    return from_linear(LinearForm(coefficients))
