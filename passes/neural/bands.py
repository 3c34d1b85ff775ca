"""Group with bands of the output: an output iterator that indexes no parameter, tied to a reduction or to the weights.

A band is a strip of the output's rows (or columns). With a reduction iterator each band reads its own slice of the
input; alone, each band has weights of its own.
"""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.roles import is_batch, is_grid, is_reduction
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Loop, Nest
from loopmorph.passes.neural.strips import GroupPlan, Regrouped, require_own, require_strips, strip_mined


def plan_slices(nest: Nest, outer: Loop, inner: Loop, factor: int) -> GroupPlan:
    """The plan in which band k of `outer` sums over slice k of `inner`; no parameter changes its shape.

    Raises:
        IllegalTransform: the nest does not meet the requirements of `Group`.
    """
    _require_band(nest, outer)
    if not is_reduction(nest, inner.position):
        raise IllegalTransform(
            nest.label, f"'{outer.iterator}' has to index the result and '{inner.iterator}' to be reduced"
        )
    require_strips(nest, (outer, inner), factor)
    loops, position = strip_mined(nest, (outer, inner), factor, _first_of_result(nest))
    return GroupPlan(loops, position)


def plan_bands(nest: Nest, loop: Loop, factor: int) -> GroupPlan:
    """The plan in which each of `factor` bands of `loop` has its own copy of every parameter that the nest reads.

    Raises:
        IllegalTransform: the nest does not meet the requirements of `Group`.
    """
    _require_band(nest, loop)
    require_strips(nest, (loop,), factor)
    loops, position = strip_mined(nest, (loop,), factor, _first_of_result(nest))
    parameters = [load.memref for load in nest.loads if marks.parameter_name(load.memref) is not None]
    weights: list[Regrouped] = []
    for parameter in dict.fromkeys(parameters):
        require_own(nest, parameter)
        shape = tuple(ir.MemRefType(parameter.type).shape)
        inherited = tuple(ir.AffineExpr.get_dim(axis + 1) for axis in range(len(shape)))
        weights.append(Regrouped(parameter, None, (factor, *shape), inherited))
    return GroupPlan(loops, position, tuple(weights))


def _first_of_result(nest: Nest) -> Loop:
    """The outermost loop within a sample: bands around the channels share nothing, so that is where `g` costs least."""
    return next(loop for loop in nest.loops if not is_batch(nest, loop))


def _require_band(nest: Nest, loop: Loop) -> None:
    """Raises:
    IllegalTransform: the loop does not run over points of a contraction's output that share all parameters.
    """
    if is_reduction(nest, loop.position):
        reason = f"'{loop.iterator}' is reduced; bands are of an iterator that indexes the result"
        raise IllegalTransform(nest.label, reason)
    for load in nest.loads:
        name = marks.parameter_name(load.memref)
        if name is not None and loop.position in load.dims:
            reason = (
                f"'{loop.iterator}' already indexes its weight '{name}'; it can be grouped with a reduction iterator"
            )
            raise IllegalTransform(nest.label, reason)
    if not is_grid(nest, loop):
        raise IllegalTransform(nest.label, "it is no contraction that reads a parameter; its bands would all be alike")
    if is_batch(nest, loop):
        reason = f"'{loop.iterator}' runs over the batch; each sample would be computed otherwise"
        raise IllegalTransform(nest.label, reason)
