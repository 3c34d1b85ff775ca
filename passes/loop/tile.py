"""`morph-tile`: several loops run block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.building.arrange import (
    arrange,
    band_with,
    cut,
    find_loops,
    require_factor,
    require_order_kept,
    whole,
)
from loopmorph.passes.building.rebuild import Rebuild, rebuild
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import Nest, divisors
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class Tile(NestTransformation[Rebuild]):
    """Tiles loops: `morph-tile{layer=conv1 iters=oh,ow sizes=8,4}`.

        affine.for %oh = 0 to 32 {                    affine.for %a = 0 to 4 {                       // oh.0
          affine.for %ow = 0 to 32 {          ->        affine.for %b = 0 to 8 {                     // ow.0
            affine.store %v, %out[%oh, %ow]               affine.for %c = 0 to 8 {                   // oh.1
          } {morph.iter = "ow"}                             affine.for %d = 0 to 4 {                 // ow.1
        } {morph.iter = "oh"}                                 affine.store %v, %out[%a * 8 + %c, %b * 4 + %d]

    The loops over tiles take the place of the first tiled loop, in the order given. Below them all loops from there on
    keep their places, those that are not tiled included; the places of the tiled loops are taken by the loops within a
    tile, in the order given. The tiled loops need not be adjacent. Sizes that do not divide give `min` bounds, as in
    `morph-split`. On a convolution with 8 x 8 pixels: `morph-tile{layer=a iters=oh,ow sizes=4,2}`.

    Requires that the loops from the first to the last tiled are perfectly nested, that the tiled ones start at 0 with
    step 1, that no loop leaves one that its bounds depend on, and that no dependence is reversed (reductions as in
    `morph-interchange`).

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iters: the iterators to tile.
        sizes: for each, the extent of a tile, in 2 .. extent - 1.
    """

    name: ClassVar[str] = "morph-tile"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iters: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Tile]:
        """Every two neighbouring iterators that blocks of 4 or 8 divide."""
        pairs = zip(nest.loops, nest.loops[1:], strict=False)
        sizes = [(a, b, divisors(a.extent, (4, 8)), divisors(b.extent, (4, 8))) for a, b in pairs]
        return [
            cls(nest.layer, (a.iterator, b.iterator), (x, y))
            for a, b, left, right in sizes
            for x in left
            for y in right
        ]

    def analyze_nest(self, nest: Nest) -> Rebuild:
        loops = find_loops(nest, self.iters, "iters")
        if len(self.sizes) != len(loops):
            raise ArgumentError("sizes", f"expected {len(loops)} sizes, one for each iterator, got {len(self.sizes)}")
        for loop, size in zip(loops, self.sizes, strict=True):
            require_factor(nest, loop, size, "sizes")
        band = band_with(nest, loops)
        cuts = [cut(loop, size) for loop, size in zip(loops, self.sizes, strict=True)]
        points = dict(zip(sorted(loop.position for loop in loops), (inner for _, inner in cuts), strict=True))
        pieces = [*(outer for outer, _ in cuts), *(points.get(p) or whole(nest.loops[p]) for p in band)]
        plan = arrange(nest, band, pieces)
        require_order_kept(nest, band, pieces)
        return plan

    def rewrite(self, plan: Rebuild) -> ir.Operation:
        with plan.nest.root.context:
            return rebuild(plan)
