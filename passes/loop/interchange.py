"""`morph-interchange`: the loops of a nest in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.building.arrange import arrange, band_with, find_loops, require_order_kept, whole
from loopmorph.passes.building.rebuild import Rebuild, rebuild
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import Nest
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class Interchange(NestTransformation[Rebuild]):
    """Permutes loops among the places that they have: `morph-interchange{layer=conv1 order=ow,oh}`.

        affine.for %oh = 0 to 32 {                         affine.for %ow = 0 to 32 {
          affine.for %ow = 0 to 32 {                  ->     affine.for %oh = 0 to 32 {
            affine.store %v, %out[%oh, %ow]                    affine.store %v, %out[%oh, %ow]
          } {morph.iter = "ow"}                              } {morph.iter = "oh"}
        } {morph.iter = "oh"}                              } {morph.iter = "ow"}

    Requires that
      - the loops from the first to the last listed are perfectly nested,
      - no loop leaves one that its bounds depend on,
      - no dependence is reversed. The order in which a reduction takes its values is free (see `dependence`), so that
        floating-point sums may round differently.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        order: iterators, outermost first: all of the nest's, or some of them. Those not listed stay where they are.
    """

    name: ClassVar[str] = "morph-interchange"
    kind: ClassVar[Kind] = "loop"
    may_find_nothing: ClassVar[bool] = True

    layer: str
    order: tuple[str, ...]

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Interchange]:
        """Each iterator that runs more than once moved to the innermost place."""
        moved = [loop.iterator for loop in nest.loops[:-1] if loop.extent != 1]
        return [cls(nest.layer, (*(i for i in nest.iterators if i != inner), inner)) for inner in moved]

    def analyze_nest(self, nest: Nest) -> Rebuild:
        loops = find_loops(nest, self.order, "order", at_least=2)
        places = sorted(loop.position for loop in loops)
        if [loop.position for loop in loops] == places:
            raise ArgumentError("order", f"{','.join(self.order)} is the present order; this changes nothing")
        band = band_with(nest, loops)
        moved = dict(zip(places, loops, strict=True))
        pieces = [whole(moved.get(p, nest.loops[p])) for p in band]
        plan = arrange(nest, band, pieces)
        require_order_kept(nest, band, pieces)
        return plan

    def rewrite(self, plan: Rebuild) -> ir.Operation:
        with plan.nest.root.context:
            return rebuild(plan)
