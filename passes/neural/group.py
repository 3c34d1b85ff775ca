"""`morph-group`: tie iterators: the network computes only the blocks on the diagonal of their product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.roles import is_batch, is_grid, loops_of
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import Nest, divisors
from loopmorph.passes.neural.bands import plan_bands, plan_slices
from loopmorph.passes.neural.diagonal import plan_diagonal
from loopmorph.passes.neural.strips import GroupPlan, group
from loopmorph.passes.transformation import Kind, Transformation


@dataclass(frozen=True)
class Group(Transformation[GroupPlan]):
    """Strip-mines iterators by `factor` and fuses the outer strips into one group iterator `g`.

    What that does to the parameters is read off the access maps; there are three cases.

    **An output iterator that indexes a parameter, and a reduction iterator that indexes it too** (`co,ci`): a grouped
    convolution (Turner et al., ASPLOS 2021, section 4). Each group of output channels reads its own group of input
    channels, and the weight's `ci` axis shrinks; it inherits the blocks on its diagonal. Before, for
    `morph-group{layer=a iters=co,ci factor=2}`:

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

    **An output iterator that indexes no parameter, and a reduction iterator** (`oh,ci`): each band of the output reads
    its own slice of the input, with the part of the weight that belongs to it; the weight keeps its shape. For
    `morph-group{layer=a iters=oh,ci factor=2}`, before:

        affine.for %oh = 0 to 8 { affine.for %ci = 0 to 32 {
          ... affine.load %x[%ci, %oh] ... affine.load %w[%ci] : memref<32xf32> ... affine.store %v, %t[%oh] } }

    After:

        affine.for %g = 0 to 2 { affine.for %oh = 0 to 4 { affine.for %ci = 0 to 16 {
          ... affine.load %x[%g * 16 + %ci, %g * 4 + %oh] ... affine.load %w[%g * 16 + %ci] : memref<32xf32> ...
          ... affine.store %v, %t[%g * 4 + %oh] } } }

    The group iterator stands around all iterators of a sample, the output channels included, as a band shares least
    with the others.

    **One output iterator that indexes no parameter** (`oh`): the bands are tied to the parameters themselves. Every
    parameter that the nest reads gets a leading axis, so that each band has weights of its own; all of them inherit
    the old ones. For `morph-group{layer=a iters=oh factor=2}` the nest above becomes:

        affine.for %g = 0 to 2 { affine.for %oh = 0 to 4 { affine.for %ci = 0 to 32 {
          ... affine.load %x[%ci, %g * 4 + %oh] ... affine.load %w[%g, %ci] : memref<2x32xf32> ...
          ... affine.store %v, %t[%g * 4 + %oh] } } }

    Requires: a perfect nest of scalars with constant bounds; a factor of at least 2 that divides every extent; first
    an iterator that indexes the result, then one that is reduced. In the first case one parameter that both index,
    on separate axes; in the others a contraction, and not the batch as output iterator. No other nest may read a
    parameter that changes its shape. Groups can be grouped again; the iterators are then `g` and `g1`.

    Options:
        layer: qualified name of the layer.
        iters: the two iterators, the one of the output first; or one iterator of the output.
        factor: number of groups.
    """

    name: ClassVar[str] = "morph-group"
    kind: ClassVar[Kind] = "neural"

    layer: str
    iters: tuple[str, ...]
    factor: int

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Group]:
        outputs, inputs = loops_of(nest, "output"), loops_of(nest, "reduction")
        found: list[Group] = []
        if len(outputs) == len(inputs) == 1:
            common = divisors(outputs[0].extent, (2, 4, 8, 16))
            pair = (outputs[0].iterator, inputs[0].iterator)
            found += [cls(nest.layer, pair, f) for f in common if f in divisors(inputs[0].extent, common)]
        # Rows only: bands of columns would cost the same and read memory in shorter runs.
        for row in [loop for loop in nest.loops if is_grid(nest, loop) and not is_batch(nest, loop)][:1]:
            for channel in inputs if len(inputs) == 1 else []:
                both = [f for f in divisors(row.extent, (2, 4)) if f in divisors(channel.extent, (2, 4))]
                found += [cls(nest.layer, (row.iterator, channel.iterator), f) for f in both]
            found += [cls(nest.layer, (row.iterator,), f) for f in divisors(row.extent, (2,))]
        return found

    def vector_extents(self, extents: Mapping[str, int | None]) -> Mapping[str, int]:
        outer = self.iters[0]  # the inner one is summed over in each group
        return {outer: (extents.get(outer) or 0) // self.factor}

    def analyze(self, module: ir.Operation) -> GroupPlan:
        nest = find_nest(module, self.layer)
        if len(self.iters) not in (1, 2) or len(set(self.iters)) != len(self.iters):
            wanted = "one iterator of the output, or two iterators, the output's first"
            raise ArgumentError("iters", f"expected {wanted}, got '{','.join(self.iters)}'")
        if self.factor < 2:
            raise ArgumentError("factor", f"expected an integer of at least 2, got {self.factor}")
        loops = [nest.loop(name, "iters") for name in self.iters]
        if len(loops) == 1:
            return plan_bands(nest, loops[0], self.factor)
        if is_grid(nest, loops[0]):
            return plan_slices(nest, loops[0], loops[1], self.factor)
        return plan_diagonal(nest, loops[0], loops[1], self.factor)

    def rewrite(self, plan: GroupPlan) -> ir.Operation:
        return group(plan)
