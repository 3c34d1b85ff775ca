"""Strip-mining iterators by one number of groups, with one group iterator over the strips of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import LinearForm, from_linear
from loopmorph.passes.analysis.coupling.ties import tie
from loopmorph.passes.analysis.structure import require_perfect, require_scalar
from loopmorph.passes.building.nest_builder import rewrite_access
from loopmorph.passes.building.rebuild import NewLoop, Rebuild, rebuild
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest, view_nest
from loopmorph.passes.neural.shrink import retype


@dataclass(frozen=True)
class Regrouped:
    """A parameter that changes its shape with the groups.

    Attributes:
        memref: the parameter.
        axis: its axis whose index loses the group iterator; None where the group iterator gets a new leading axis.
        shape: its new shape.
        inherited: for each axis of the old shape, the old index of a new element.
    """

    memref: ir.Value
    axis: int | None
    shape: tuple[int, ...]
    inherited: tuple[ir.AffineExpr, ...]


@dataclass(frozen=True)
class GroupPlan:
    """The rebuilt nest, and the parameters that change with it.

    Attributes:
        loops: new loops and the old iterators over them; the group iterator stands before the first tied one.
        group: position of the group iterator among the new loops.
        weights: the parameters that change their shapes.
    """

    loops: Rebuild
    group: int
    weights: tuple[Regrouped, ...] = ()


def group(plan: GroupPlan) -> ir.Operation:
    """Carries the plan out; returns the rebuilt nest's outermost loop."""
    root = rebuild(plan.loops)
    nest = view_nest(root.opview)
    variables = [loop.variable for loop in nest.loops]
    for weight in plan.weights:
        new = [(a.op, _regrouped(nest, a, weight, plan.group)) for a in nest.accesses if a.memref == weight.memref]
        retype(weight.memref, weight.shape, weight.inherited)
        for op, exprs in new:
            rewrite_access(op, exprs, variables)
    return root


def require_strips(nest: Nest, loops: Sequence[Loop], factor: int) -> None:
    """Raises:
    IllegalTransform: the nest cannot be rebuilt, or the factor does not divide the extent of one of the loops.
    """
    require_scalar(nest)
    require_perfect(nest)
    if not nest.is_rectangular:
        raise IllegalTransform(nest.label, "it has a bound that is not constant (a split with a remainder)")
    for loop in loops:
        if (loop.extent or 1) % factor:
            reason = f"the extent {loop.extent} of iterator '{loop.iterator}' is not divisible by {factor}"
            raise IllegalTransform(nest.label, reason)


def require_own(nest: Nest, weight: ir.Value) -> None:
    """Raises:
    IllegalTransform: something other than the loads of the nest uses the parameter.
    """
    mine = {load.op for load in nest.loads}
    if any(use.owner not in mine for use in weight.uses):
        raise IllegalTransform(nest.label, f"its weight '{marks.parameter_name(weight)}' is read elsewhere as well")


def strip_mined(nest: Nest, tied: Sequence[Loop], factor: int, before: Loop) -> tuple[Rebuild, int]:
    """The new loops: the group iterator, of extent `factor`, right before the loop `before`, and the rest as it was.

    Each of the tied iterators becomes `g * strip + iterator`, its extent the strip.

    Returns:
        The rebuilding of the nest, and the group iterator's position among the new loops.
    """
    name = _free_name(nest)
    zero = (ir.AffineExpr.get_constant(0),)
    loops: list[NewLoop] = []
    old: dict[int, ir.AffineExpr] = {}
    for loop in nest.loops:
        extent = loop.extent or 1
        if loop in tied:
            extent //= factor
        if loop == before:
            loops.append(NewLoop(name, loop.position, zero, (ir.AffineExpr.get_constant(factor),)))
        old[loop.position] = ir.AffineExpr.get_dim(len(loops))
        loops.append(NewLoop(loop.iterator, loop.position, zero, (ir.AffineExpr.get_constant(extent),)))
    position = next(k for k, loop in enumerate(loops) if loop.iterator == name)
    for loop in tied:
        strip = (loop.extent or 1) // factor
        old[loop.position] = ir.AffineExpr.get_dim(position) * strip + old[loop.position]
    return Rebuild(nest, tuple(range(len(nest.loops))), tuple(loops), old), position


def _free_name(nest: Nest) -> str:
    names = ["g", *(f"g{k}" for k in range(1, len(nest.loops) + 1))]
    return next(name for name in names if name not in nest.iterators)


def _regrouped(nest: Nest, access: Access, weight: Regrouped, group: int) -> list[ir.AffineExpr]:
    if weight.axis is None:
        return [ir.AffineExpr.get_dim(group), *access.exprs]
    exprs = list(access.exprs)
    exprs[weight.axis] = _without_group(nest, access, weight.axis, group)
    return exprs


def _without_group(nest: Nest, access: Access, axis: int, group: int) -> ir.AffineExpr:
    """The index along the shortened axis: the same digits but the group's."""
    coefficients: dict[int, int] = {}
    weight = 1
    for position in reversed(tie(nest, access, axis).loops):
        if position != group:
            coefficients[position] = weight
            weight *= nest.loops[position].extent or 1
    return from_linear(LinearForm(coefficients))
