"""`morph-narrow`: an iterator keeps only a range of its iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.coupling.coupling import Coupling
from loopmorph.passes.analysis.coupling.propagation import Shrinkage
from loopmorph.passes.analysis.dimension_names import find_loop
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Loop, Nest
from loopmorph.passes.neural.shrink import shrink
from loopmorph.passes.transformation import Kind, Transformation


@dataclass(frozen=True)
class NarrowPlan:
    """The nest of the layer, and all that shrinks with its iterator."""

    nest: Nest
    shrinkage: Shrinkage


@dataclass(frozen=True)
class Narrow(Transformation[NarrowPlan]):
    """Keeps `extent` iterations of one iterator, from `begin` on: `torch.narrow` for loops.

    On a reduction iterator (`ci`) the layer reads only that slice of its input, which stays as it is, and the weights
    follow; on a window iterator (`kh`) it keeps only these taps. On an output iterator (`co`) every memref axis and
    loop that shares the dimension keeps the same slice, as for `morph-bottleneck`.

    Before, for `morph-narrow{layer=a iter=ci begin=8 extent=16}`:

        affine.for %co = 0 to 64 { affine.for %ci = 0 to 32 {
          ... affine.load %x[%ci] : memref<32xf32> ... affine.load %w[%co, %ci] : memref<64x32xf32> ... } }

    After:

        affine.for %co = 0 to 64 { affine.for %ci = 0 to 16 {
          ... affine.load %x[%ci + 8] : memref<32xf32> ... affine.load %w[%co, %ci] : memref<64x16xf32> ... } }

        with %w {morph.inherit = affine_map<(d0, d1) -> (d0, d1 + 8)>}

    Requires: a range within the iterator's extent that is not all of it; no tie of an output iterator to the network's
    input or output; only accesses that `passes.analysis.coupling` can follow.

    Options:
        layer: qualified name of the layer.
        iter: the iterator.
        begin: the first iteration that is kept, counted from 0.
        extent: how many are kept; all up to the end where it is not given.
    """

    name: ClassVar[str] = "morph-narrow"
    kind: ClassVar[Kind] = "neural"

    layer: str
    iter: str
    begin: int
    extent: int | None = None

    @property
    def shrinks(self) -> str:
        return self.iter

    def analyze(self, module: ir.Operation) -> NarrowPlan:
        nest, loop = find_loop(module, self.layer, self.iter)
        begin, end = self._range(nest, loop)
        return NarrowPlan(nest, Coupling(module).keep(nest, loop, [(begin, end)]))

    def rewrite(self, plan: NarrowPlan) -> ir.Operation:
        shrink(plan.shrinkage)
        return plan.nest.root.operation

    def _range(self, nest: Nest, loop: Loop) -> tuple[int, int]:
        if loop.extent is None:
            raise IllegalTransform(nest.label, f"iterator '{loop.iterator}' has a bound that is not constant")
        if not 0 <= self.begin < loop.extent:
            raise ArgumentError(
                "begin", f"expected 0 to {loop.extent - 1} for iterator '{loop.iterator}', got {self.begin}"
            )
        extent = loop.extent - self.begin if self.extent is None else self.extent
        if not 1 <= extent <= loop.extent - self.begin:
            where = f"from {self.begin} on for iterator '{loop.iterator}'"
            raise ArgumentError("extent", f"expected 1 to {loop.extent - self.begin} {where}, got {extent}")
        if extent == loop.extent:
            raise ArgumentError("extent", f"all {extent} iterations of '{loop.iterator}' would be kept")
        return self.begin, self.begin + extent
