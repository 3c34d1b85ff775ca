"""`morph-bottleneck`: an iterator, and with it every memref axis that it spans, shrinks by a factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.coupling import Coupling, Shrinkage
from loopmorph.passes.base import Kind, Transformation
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import Nest, divisors, find_nest
from loopmorph.passes.neural.shrink import shrink


@dataclass(frozen=True)
class BottleneckPlan:
    """The nest of the layer, and all that shrinks with its iterator."""

    nest: Nest
    shrinkage: Shrinkage


@dataclass(frozen=True)
class Bottleneck(Transformation[BottleneckPlan]):
    """Divides the extent of one iterator by `factor` (Turner et al., ASPLOS 2021, Fig. 1).

    On an output iterator (`co`) every memref axis and loop that shares the dimension follows, through BatchNorm,
    residual additions, pooling and flattening up to the consumers' `ci`. On a reduction iterator (`ci`) the layer
    reads only the first part of its input, and of each group's input, and the weights follow.

    Before, for `morph-bottleneck{layer=a iter=co factor=2}`:

        affine.for %co = 0 to 64 { affine.for %ci = 0 to 16 {
          ... affine.load %wa[%co, %ci] : memref<64x16xf32> ... affine.store %v, %t[%co] : memref<64xf32> } }
        affine.for %co = 0 to 8 { affine.for %ci = 0 to 64 {
          ... affine.load %wb[%co, %ci] : memref<8x64xf32> ... affine.load %t[%ci] : memref<64xf32> } }

    After:

        affine.for %co = 0 to 32 { affine.for %ci = 0 to 16 {
          ... affine.load %wa[%co, %ci] : memref<32x16xf32> ... affine.store %v, %t[%co] : memref<32xf32> } }
        affine.for %co = 0 to 8 { affine.for %ci = 0 to 32 {
          ... affine.load %wb[%co, %ci] : memref<8x32xf32> ... affine.load %t[%ci] : memref<32xf32> } }

    Requires: `factor` of at least 2 that divides the extent of every tied iterator; no tie to the network's input or
    output; only accesses that `passes.analysis.coupling` can follow. Parameters keep the head of the dimension,
    or of each of its blocks where some tied nest is grouped.

    Options:
        layer: qualified name of the layer.
        iter: the iterator.
        factor: the divisor of its extent.
    """

    name: ClassVar[str] = "morph-bottleneck"
    kind: ClassVar[Kind] = "neural"

    layer: str
    iter: str
    factor: int

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Bottleneck]:
        channels = [loop for loop in nest.loops if loop.iterator in ("co", "ci", "c")]
        return [cls(nest.layer, loop.iterator, f) for loop in channels for f in divisors(loop.extent, (2, 4))]

    def analyze(self, module: ir.Operation) -> BottleneckPlan:
        if self.factor < 2:
            raise ArgumentError("factor", f"expected an integer of at least 2, got {self.factor}")
        nest = find_nest(module, self.layer)
        loop = nest.loop(self.iter)
        return BottleneckPlan(nest, Coupling(module).shrink(nest, loop, self.factor))

    def rewrite(self, plan: BottleneckPlan) -> ir.Operation:
        shrink(plan.shrinkage)
        return plan.nest.root.operation
