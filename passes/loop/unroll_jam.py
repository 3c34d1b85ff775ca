"""`morph-unroll-jam`: several iterations of an outer loop side by side in the innermost body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.dependence.dependence import band_violation
from loopmorph.passes.analysis.structure import perfect_band
from loopmorph.passes.building.replicate import inner_names, replicate, require_divisor
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.unroll import UnrollPlan
from loopmorph.passes.nest import Loop, Nest, divisors
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class UnrollJam(NestTransformation[UnrollPlan]):
    """Unrolls an outer loop and jams the copies into the innermost body: `morph-unroll-jam{layer=c iter=co factor=2}`.

        affine.for %co = 0 to 16 {                        affine.for %co = 0 to 8 {
          affine.for %ci = 0 to 3 {                         affine.for %ci = 0 to 3 {
            %0 = affine.load %w[%co, %ci]         ->          %0 = affine.load %w[%co * 2, %ci]
            ...                                               ...
          } {morph.iter = "ci"}                               %1 = affine.load %w[%co * 2 + 1, %ci]
        } {morph.iter = "co"}                                 ...
                                                            } {morph.iter = "ci"}
                                                          } {morph.iter = "co"}

    The loop keeps its name; with a factor equal to the extent it goes away. Below the last loop of the perfect band
    that starts at the unrolled one, bodies are copied whole, one after the other.

    Requires a loop from 0 to a constant with step 1 that holds exactly one other loop, a factor that divides its
    extent, bounds of the loops in it that do not depend on it, and that no dependence is reversed (reductions as in
    `morph-interchange`).

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iter: the iterator.
        factor: the number of copies, in 2 .. extent.
    """

    name: ClassVar[str] = "morph-unroll-jam"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iter: str
    factor: int

    @classmethod
    def space(cls, nest: Nest) -> Sequence[UnrollJam]:
        return [cls(nest.layer, loop.iterator, f) for loop in nest.loops[:-1] for f in divisors(loop.extent, (2, 4))]

    def analyze_nest(self, nest: Nest) -> UnrollPlan:
        loop = nest.loop(self.iter)
        require_divisor(nest, loop, self.factor)
        if self.factor < 2:
            raise ArgumentError("factor", f"the factor must be at least 2, got {self.factor}")
        band = perfect_band(nest, loop.position)
        if len(band) == 1:
            reason = f"'{loop.iterator}' holds no single loop to jam copies into; morph-unroll unrolls it"
            raise IllegalTransform(nest.label, reason)
        _require_independent_bounds(nest, loop, band)
        _require_order_kept(nest, band, self.factor)
        holder = nest.loops[band[-1]]
        inner_names(nest, holder, self.factor)
        return UnrollPlan(nest, loop, holder, self.factor)

    def rewrite(self, plan: UnrollPlan) -> ir.Operation:
        with plan.nest.root.context:
            return replicate(plan.nest, plan.loop, plan.holder, plan.factor)


def _require_independent_bounds(nest: Nest, loop: Loop, band: tuple[int, ...]) -> None:
    for p in band[1:]:
        bounds = nest.bounds(nest.loops[p])
        if any(loop.position in used_dims(e) for e in (*bounds.lower, *bounds.upper)):
            name = nest.iterators[p]
            raise IllegalTransform(
                nest.label, f"the bounds of '{name}' depend on '{loop.iterator}', which would be jammed"
            )


def _require_order_kept(nest: Nest, band: tuple[int, ...], factor: int) -> None:
    jammed = f"i{band[0]}"
    times = [f"floor({jammed} / {factor})", *(f"i{p}" for p in band[1:]), f"{jammed} mod {factor}"]
    violation = band_violation(nest, band, times)
    if violation is not None:
        iterator = nest.iterators[band[0]]
        raise IllegalTransform(nest.label, f"jamming '{iterator}' would reverse {violation.describe(nest)}")
