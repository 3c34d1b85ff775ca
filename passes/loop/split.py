"""`morph-split`: one loop becomes two, over blocks and within a block (strip-mining)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.structure import perfect_band
from loopmorph.passes.building.arrange import arrange, cut, require_factor, whole
from loopmorph.passes.building.rebuild import Rebuild, rebuild
from loopmorph.passes.nest import Nest, divisors
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class Split(NestTransformation[Rebuild]):
    """Splits a loop: `morph-split{layer=conv1 iter=ow factor=4}`.

        affine.for %ow = 0 to 30 {                        affine.for %a = 0 to 8 {
          affine.store %v, %out[%ow]              ->        affine.for %b = 0 to min (4, 30 - %a * 4) {
        } {morph.iter = "ow"}                                 affine.store %v, %out[%a * 4 + %b]
                                                            } {morph.iter = "ow.1"}
                                                          } {morph.iter = "ow.0"}

    Where the factor divides the extent, the inner bound is the factor alone. The iterations keep their order, so
    every split is legal.

    Requires a loop that starts at 0 with step 1.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iter: the iterator.
        factor: extent of the inner loop, in 2 .. extent - 1.
    """

    name: ClassVar[str] = "morph-split"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iter: str
    factor: int

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Split]:
        return [cls(nest.layer, loop.iterator, f) for loop in nest.loops for f in divisors(loop.extent, (4, 8, 16))]

    def analyze_nest(self, nest: Nest) -> Rebuild:
        loop = nest.loop(self.iter)
        require_factor(nest, loop, self.factor, "factor")
        band = perfect_band(nest, loop.position)
        return arrange(nest, band, [*cut(loop, self.factor), *(whole(nest.loops[p]) for p in band[1:])])

    def rewrite(self, plan: Rebuild) -> ir.Operation:
        with plan.nest.root.context:
            return rebuild(plan)
