"""`morph-bottleneck`: an iterator shrinks by a factor, and with it what it indexes, or the grid that it runs over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.coupling.coupling import Coupling
from loopmorph.passes.analysis.coupling.merging import Merging, merge
from loopmorph.passes.analysis.coupling.propagation import Shrinkage
from loopmorph.passes.analysis.dimension_names import find_loop
from loopmorph.passes.analysis.roles import channels, is_batch, is_grid, loops_of
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Loop, Nest, divisors
from loopmorph.passes.neural.coarse_grid import coarsen
from loopmorph.passes.neural.coarse_plan import CoarsePlan, plan_coarse_grid
from loopmorph.passes.neural.shrink import merge_parts, shrink
from loopmorph.passes.transformation import Kind, Transformation

INHERIT = ("slice", "mean")  # what weights can inherit


@dataclass(frozen=True)
class BottleneckPlan:
    """The nest of the layer, and all that shrinks with its iterator, by keeping a part or by merging parts."""

    nest: Nest
    change: Shrinkage | Merging


@dataclass(frozen=True)
class Bottleneck(Transformation[BottleneckPlan | CoarsePlan]):
    """Divides the extent of one iterator by `factor` (Turner et al., ASPLOS 2021, Fig. 1).

    What follows is read off the access maps; there are four cases.

    **An output iterator that indexes a parameter** (`co`), or any iterator of a nest without parameters (`c`): every
    memref axis and loop that shares the dimension follows, through BatchNorm, residual additions, concatenations,
    pooling and flattening up to the consumers' `ci`. Before, for `morph-bottleneck{layer=a iter=co factor=2}`:

        affine.for %co = 0 to 64 { affine.for %ci = 0 to 16 {
          ... affine.load %wa[%co, %ci] : memref<64x16xf32> ... affine.store %v, %t[%co] : memref<64xf32> } }
        affine.for %co = 0 to 8 { affine.for %ci = 0 to 64 {
          ... affine.load %wb[%co, %ci] : memref<8x64xf32> ... affine.load %t[%ci] : memref<64xf32> } }

    After:

        affine.for %co = 0 to 32 { affine.for %ci = 0 to 16 {
          ... affine.load %wa[%co, %ci] : memref<32x16xf32> ... affine.store %v, %t[%co] : memref<32xf32> } }
        affine.for %co = 0 to 8 { affine.for %ci = 0 to 32 {
          ... affine.load %wb[%co, %ci] : memref<8x32xf32> ... affine.load %t[%ci] : memref<32xf32> } }

    **A reduction iterator**: the layer reads a part of its input, and its weights follow; the input stays as it is.
    Of `ci` that is the head, of each group's input where the layer is grouped; of a window (`kh`) the central taps.
    `morph-bottleneck{layer=a iter=ci factor=2}` makes of the first nest above:

        affine.for %co = 0 to 64 { affine.for %ci = 0 to 8 {
          ... affine.load %wa[%co, %ci] : memref<64x8xf32> ... affine.store %v, %t[%co] : memref<64xf32> } }

    **A named dimension** that is a part of an iterator, as the heads of a projection for queries, keys and values: with
    `iter=head` half of the heads stay in all three, in the scores and in what the output projection reads; with
    `iter=feature` half of the features of queries and keys, with `iter=value` of the values. The products add up what
    is left, and the number that a mean divides by follows.

    **An output iterator of a contraction that indexes no parameter** (`oh`, `ow`, their split parts): the result is
    computed on a coarser grid, and a nest of role `expand` repeats it for its readers. A later bottleneck of another
    such iterator changes the same nest. Nests that start or complete the result follow. Before, for
    `morph-bottleneck{layer=a iter=oh factor=2}`:

        %t = memref.alloc() : memref<1x8xf32>
        affine.for %oh = 0 to 8 { affine.for %kh = 0 to 3 {
          ... affine.load %x[%n, %oh + %kh] ... affine.load %w[%kh] ... affine.store %v, %t[%n, %oh] } }
        affine.for %h = 0 to 8 { ... affine.load %t[%n, %h] ... }

    After:

        %t = memref.alloc() : memref<1x8xf32>   %c = memref.alloc() : memref<1x4xf32>
        affine.for %oh = 0 to 4 { affine.for %kh = 0 to 3 {
          ... affine.load %x[%n, %oh * 2 + %kh] ... affine.load %w[%kh] ... affine.store %v, %c[%n, %oh] } }
        affine.for %oh = 0 to 8 {
          %0 = affine.load %c[%n, %oh floordiv 2]   affine.store %0, %t[%n, %oh] } {morph.role = "expand"}
        affine.for %h = 0 to 8 { ... affine.load %t[%n, %h] ... }

    With a part `oh.0` of a split `oh` whole bands are repeated (the expand nest reads
    `%oh floordiv 4 * 2 + %oh mod 2` for parts of 2), with `oh.1` rows within each band (`%oh floordiv 2`).

    Which weights stay: in the first cases the head, or what `keep` names, or with `inherit=mean` a mix of all parts
    of the dimension. `morph-bottleneck{layer=a iter=co factor=2 inherit=mean}` leaves the same nests as the first
    example, but each of the 32 channels takes the mean of two old ones, and its readers the sum of what they read them
    with, so that nothing is lost where the two are equal:

        %wa: memref<32x16xf32> {morph.inherit = [{mean = [affine_map<(d0, d1) -> (d0, d1)>,
                                                          affine_map<(d0, d1) -> (d0 + 32, d1)>]}]}
        %wb: memref<8x32xf32> {morph.inherit = [{sum = [affine_map<(d0, d1) -> (d0, d1)>,
                                                        affine_map<(d0, d1) -> (d0, d1 + 32)>]}]}

    Requires: `factor` of at least 2 that divides the extent of every tied iterator. In the first cases no tie to
    the network's input or output, and only accesses that `passes.analysis.coupling` can follow; parameters keep what
    the nests still read: the head of the dimension, or of each of its blocks where some tied nest is grouped. In the
    last case, which takes neither `keep` nor `inherit`, a nest of scalars with constant bounds, an iterator that
    indexes one axis of the result directly and is not the batch, and a result that no other layer writes; parameters
    keep their shapes.

    Options:
        layer: qualified name of the layer.
        iter: the iterator, or the name of a dimension that the layer goes along: `head`, `feature`, `value`, `hidden`
            (see `loopmorph.passes.analysis.dimension_names`).
        factor: the divisor of its extent.
        keep: the indices that stay, ascending, as many as the factor leaves; the same ones in each block where some
            tied nest is grouped, and evenly spaced ones of a reduction iterator.
        inherit: `slice`, the weights of what is kept; or `mean`, the mean of the weights of all parts, and their sum
            where they are summed over. Not of a window (`kh`), and not together with `keep`.
    """

    name: ClassVar[str] = "morph-bottleneck"
    kind: ClassVar[Kind] = "neural"

    layer: str
    iter: str
    factor: int
    keep: tuple[int, ...] | None = None
    inherit: str = "slice"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inherit not in INHERIT:
            raise ArgumentError("inherit", f"expected {' or '.join(INHERIT)}, got '{self.inherit}'")
        if self.keep is not None and self.inherit != "slice":
            raise ArgumentError("keep", f"it does not go with inherit={self.inherit}, which merges all indices")
        if self.keep is not None and not (self.keep and all(a < b for a, b in pairwise((-1, *self.keep)))):
            raise ArgumentError("keep", "expected ascending indices from 0 on")

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Bottleneck]:
        found = [(loop, f) for loop in channels(nest) for f in divisors(loop.extent, (2, 4))]
        grid = [loop for loop in nest.loops if is_grid(nest, loop) and not is_batch(nest, loop)]
        found += [(loop, 2) for loop in grid if (loop.extent or 1) % 2 == 0]
        windows = loops_of(nest, "window") if grid else []
        found += [(loop, f) for loop in windows for f in (2, 3) if (loop.extent or 1) % f == 0]
        return [cls(nest.layer, loop.iterator, f) for loop, f in found]

    def vector_extents(self, extents: Mapping[str, int | None]) -> Mapping[str, int]:
        return {self.iter: (extents.get(self.iter) or 0) // self.factor}

    @property
    def shrinks(self) -> str:
        return self.iter

    def analyze(self, module: ir.Operation) -> BottleneckPlan | CoarsePlan:
        if self.factor < 2:
            raise ArgumentError("factor", f"expected an integer of at least 2, got {self.factor}")
        nest, loop = find_loop(module, self.layer, self.iter)
        if is_grid(nest, loop):
            self._require_plain(loop)
            return plan_coarse_grid(module, nest, loop, self.factor)
        coupling = Coupling(module)
        if self.inherit == "mean":
            return BottleneckPlan(nest, merge(coupling, nest, loop, self.factor))
        if self.keep is None:
            return BottleneckPlan(nest, coupling.shrink(nest, loop, self.factor))
        return BottleneckPlan(nest, coupling.keep(nest, loop, self._kept(nest, loop)))

    def rewrite(self, plan: BottleneckPlan | CoarsePlan) -> ir.Operation:
        if isinstance(plan, CoarsePlan):
            return coarsen(plan)
        if isinstance(plan.change, Merging):
            merge_parts(plan.change)
        else:
            shrink(plan.change)
        return plan.nest.root.operation

    def _require_plain(self, loop: Loop) -> None:
        option = "keep" if self.keep is not None else "inherit" if self.inherit != "slice" else None
        if option is not None:
            reason = f"'{loop.iterator}' runs over the grid of the result and picks no weights"
            raise ArgumentError(option, f"{reason}, so that there is nothing to inherit")

    def _kept(self, nest: Nest, loop: Loop) -> list[tuple[int, int]]:
        """What `keep` names, as intervals."""
        keep, extent = self.keep or (), loop.extent or 0
        if extent % self.factor:
            reason = f"the extent {loop.extent} is not divisible by {self.factor}"
            raise IllegalTransform(f"{nest.label}, iterator '{loop.iterator}'", reason)
        if len(keep) != extent // self.factor or keep[-1] >= extent:
            wanted = f"expected {extent // self.factor} indices from 0 to {extent - 1} of iterator '{loop.iterator}'"
            raise ArgumentError("keep", f"{wanted}, got {len(keep)}, the last of which is {keep[-1]}")
        return [(index, index + 1) for index in keep]
