"""`morph-depthwise`: group with as many groups as there are channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.roles import loops_of
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.neural.diagonal import plan_diagonal
from loopmorph.passes.neural.strips import GroupPlan, group
from loopmorph.passes.transformation import Kind, Transformation


@dataclass(frozen=True)
class Depthwise(Transformation[GroupPlan]):
    """Ties `co` and `ci` completely: each output channel reads one input channel (Turner et al., ASPLOS 2021).

    Before, for `morph-depthwise{layer=a}`:

        affine.for %co = 0 to 64 {
          affine.for %ci = 0 to 64 {
            ... affine.load %x[%ci] ... affine.load %w[%co, %ci] : memref<64x64xf32> ... affine.store %v, %t[%co]
          } {morph.iter = "ci"}
        } {morph.iter = "co"}

    After:

        affine.for %g = 0 to 64 {
          affine.for %co = 0 to 1 {
            affine.for %ci = 0 to 1 {
              ... affine.load %x[%g] ... affine.load %w[%g, 0] : memref<64x1xf32> ... affine.store %v, %t[%g]
            } {morph.iter = "ci"}
          } {morph.iter = "co"}
        } {morph.iter = "g"}

    Requires: what `morph-group` with `iters=co,ci` requires, and equal extents of at least 2 of the two.

    Options:
        layer: qualified name of the layer.
    """

    name: ClassVar[str] = "morph-depthwise"
    kind: ClassVar[Kind] = "neural"

    layer: str

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Depthwise]:
        outer, inner = loops_of(nest, "output"), loops_of(nest, "reduction")
        alone = len(outer) == len(inner) == 1
        return [cls(nest.layer)] if alone and outer[0].extent == inner[0].extent != 1 else []

    def analyze(self, module: ir.Operation) -> GroupPlan:
        nest = find_nest(module, self.layer)
        outer, inner = nest.loop("co", "layer"), nest.loop("ci", "layer")
        if outer.extent != inner.extent:
            reason = f"depthwise needs as many output as input channels: 'co' has {outer.extent}, 'ci' {inner.extent}"
            raise IllegalTransform(nest.label, reason)
        if outer.extent in (None, 1):
            raise IllegalTransform(nest.label, f"'co' has extent {outer.extent}; there is nothing to tie")
        return plan_diagonal(nest, outer, inner, outer.extent)

    def rewrite(self, plan: GroupPlan) -> ir.Operation:
        return group(plan)
