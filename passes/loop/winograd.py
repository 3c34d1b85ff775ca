"""`morph-winograd`: a 3x3 convolution by Winograd's minimal filtering, with fewer multiplications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.transformation import Kind, Transformation
from loopmorph.passes.winograd.chunks import chunk_sizes
from loopmorph.passes.winograd.match import Convolution, match_convolution
from loopmorph.passes.winograd.matrices import ALGORITHMS
from loopmorph.passes.winograd.nests import WinogradPlan, build_winograd
from loopmorph.passes.winograd.start import find_start


@dataclass(frozen=True)
class WinogradFiltering(Transformation[WinogradPlan]):
    """Computes a convolution tile by tile with F(tile x tile, 3x3): `morph-winograd{layer=conv1 tile=4}`.

    From Lavin & Gray 2016 (arXiv 1509.09308): 36 products for 16 outputs instead of 144, or 16 for 4 instead of 36. Of
    windows that move by 2, 25 for 4 instead of 36 (see `loopmorph.passes.winograd.matrices`).

    Before, with `%x` padded already:

        affine.for %n, %co, %oh, %ow { affine.store %b[%co], %y[%n, %co, %oh, %ow] }
        affine.for %n, %co, %oh, %ow, %ci, %kh, %kw {
          %y[%n, %co, %oh, %ow] += %x[%n, %ci, %oh + %kh, %ow + %kw] * %w[%co, %ci, %kh, %kw]
        } {morph.role = "main"}

    After, for outputs of 32x32 (8x8 tiles, tile t of all samples is row ty and column tx of sample n):

        affine.for %ci, %co { 9 loads of %w, G g G^T, 36 stores %u[p, %ci, %co] } {morph.role = "filter-transform"}
        affine.for %n, %ty, %tx, %ci {
          36 loads %x[%n, %ci, %ty * 4 + i, %tx * 4 + j], B^T d B, 36 stores %v[p, %n * 64 + %ty * 8 + %tx, %ci]
        } {morph.role = "input-transform"}
        affine.for %t, %p, %co { affine.store %zero, %m[%t, %p, %co] } {morph.role = "init"}
        affine.for %p, %t, %co, %ci { %m[%t, %p, %co] += %v[%p, %t, %ci] * %u[%p, %ci, %co] } {morph.role = "main"}
        affine.for %n, %ty, %tx, %co {
          36 loads of %m, A^T m A, 16 stores %y[%n, %co, %ty * 4 + i, %tx * 4 + j] with %b[%co] added
        } {morph.role = "output-transform"}

    Where channels are split into digits (`co.0`, `co.1`; `ci.0`, `ci.1`), in memrefs of any layout, the new memrefs
    have one axis per digit, the last digit innermost: %u[p, co.0, ci.0, ci.1, co.1], %v[p, ci.0, t, ci.1],
    %m[co.0, t, p, co.1]. So what the products read for one p lies in one piece, what the output transform reads for one
    tile side by side, and a transform is vectorised over a last digit. %v has room for an odd number of tiles.

    A grouped convolution, in which loops `g` index all three memrefs, keeps these as digits of the channels: %u[p, g,
    ci, co], %v[p, g, t, ci], %m[g, t, p, co], with products over p, t, g, co, ci. Where several digits make up the last
    axis of %y, as groups of 4 channels do in vectors of 8, they make up the last one of %u and %m, too: %m[.., t, p,
    g * 4 + co].

    Where another nest of the layer reads the same data, as the parts of one that `morph-partition` has cut do, %v has
    the axes of the data's channels, and a nest that finds all of its channels transformed in it makes none.

    With `samples`, all nests have an outermost loop over chunks of so many images, `%n` where that is one, else `%n.0`
    with `%n.1` for those in it, and the memrefs %v and %m a first axis for it: %v[n.0, p, t, ci] with the tiles of one
    chunk alone. `morph-fuse-nests` makes one nest of them, in which what is transformed stays in cache until it is
    used.

    Extents that the tile does not divide take one more row and column of tiles, transformed by nests of their own that
    read and store only what exists.

    The nest that wrote the start values goes away where it stores one value computed point by point to each element
    that the convolution accumulates into; otherwise the result is added to what is there.

    Keeps the values up to rounding: errors relative to the largest output are about 1e-6 for tile=2 and 1e-5 for
    tile=4 in f32.

    Requires a perfect, rectangular nest with the one statement `y = y + x * w`, x, w and y different memrefs; a kernel
    of 3x3 with one stride of 1 or 2 and dilation 1, no depthwise one; neither oh and ow nor kh and kw split; with
    `samples`, a loop over images that these divide, and data that no other nest of the layer reads.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        tile: extent of a tile of outputs, 2 or 4, with stride 2 only 2; not more than the outputs have.
        samples: iterations of the outermost loop over images that are computed together; by default all.
    """

    name: ClassVar[str] = "morph-winograd"
    kind: ClassVar[Kind] = "loop"

    layer: str
    tile: int = 4
    samples: int | None = None

    def analyze(self, module: ir.Operation) -> WinogradPlan:
        with module.context:
            known = {tile for by_tile in ALGORITHMS.values() for tile in by_tile}
            if self.tile not in known:
                expected = " or ".join(map(str, sorted(known)))
                raise ArgumentError("tile", f"expected a tile of {expected}, got {self.tile}")
            nest = find_nest(module, self.layer)
            convolution = match_convolution(nest)
            algorithms = ALGORITHMS[convolution.stride]
            if self.tile not in algorithms:
                expected = " or ".join(map(str, algorithms))
                reason = f"its stride is {convolution.stride}, for which a tile of {expected} is required"
                raise IllegalTransform(nest.label, f"{reason}, not {self.tile}")
            for p in convolution.space:
                if convolution.extent(p) < self.tile:
                    reason = f"the extent {nest.extents[p]} of '{nest.iterators[p]}' is less than the tile {self.tile}"
                    raise IllegalTransform(nest.label, reason)
            if self.samples is not None:
                self._check_samples(convolution, self.samples)
            return WinogradPlan(convolution, algorithms[self.tile], find_start(convolution), self.samples)

    def _check_samples(self, convolution: Convolution, samples: int) -> None:
        nest, accepted = convolution.nest, chunk_sizes(convolution)
        if not accepted:
            reason = "it has no loop over several images, or another nest of the layer reads its data"
            raise IllegalTransform(nest.label, f"it cannot be computed in chunks of images: {reason}")
        if samples not in accepted:
            listed = ", ".join(map(str, accepted))
            name = nest.iterators[convolution.samples[0]]
            raise ArgumentError("samples", f"expected a part of the iterations of '{name}', {listed}, got {samples}")

    def rewrite(self, plan: WinogradPlan) -> ir.Operation:
        with plan.convolution.nest.root.context:
            return build_winograd(plan)
