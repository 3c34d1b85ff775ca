"""`morph-fuse`: adjacent loops become one (coalescing)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.building.arrange import Piece, arrange, band_with, find_loops, require_normal, whole
from loopmorph.passes.building.rebuild import Rebuild, rebuild
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class Fuse(NestTransformation[Rebuild]):
    """Fuses adjacent loops of one nest into a single one: `morph-fuse{layer=conv1 iters=co,oh}`.

        affine.for %co = 0 to 16 {                      affine.for %f = 0 to 512 {
          affine.for %oh = 0 to 32 {              ->      affine.store %v, %out[%f floordiv 32, %f mod 32]
            affine.store %v, %out[%co, %oh]             } {morph.iter = "co_oh"}
          } {morph.iter = "oh"}
        } {morph.iter = "co"}

    The iterations keep their order, so it is legal wherever it is possible.

    Requires that each of the loops holds nothing but the next, and that all start at 0 with step 1 and end at a
    constant.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iters: the iterators, outermost first; the new one is called by their names, joined by `_`.
    """

    name: ClassVar[str] = "morph-fuse"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iters: tuple[str, ...]

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Fuse]:
        """Every two neighbouring iterators that both run more than once."""
        pairs = zip(nest.loops, nest.loops[1:], strict=False)
        return [cls(nest.layer, (a.iterator, b.iterator)) for a, b in pairs if 1 not in (a.extent, b.extent)]

    def analyze_nest(self, nest: Nest) -> Rebuild:
        loops = find_loops(nest, self.iters, "iters", at_least=2)
        positions = tuple(loop.position for loop in loops)
        if list(positions) != sorted(positions):
            raise ArgumentError("iters", f"expected outermost first, got {','.join(self.iters)}")
        band = band_with(nest, loops)
        if positions != band[: len(positions)]:
            between = [nest.iterators[p] for p in band if positions[0] < p < positions[-1] and p not in positions]
            raise IllegalTransform(nest.label, f"loops to fuse must be adjacent; between them: {', '.join(between)}")
        for loop in loops:
            require_normal(nest, loop)
        fused = Piece("_".join(self.iters), positions)
        return arrange(nest, band, [fused, *(whole(nest.loops[p]) for p in band[len(positions) :])])

    def rewrite(self, plan: Rebuild) -> ir.Operation:
        with plan.nest.root.context:
            return rebuild(plan)
