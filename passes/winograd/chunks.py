"""Winograd's nests chunk by chunk of images: the loop over chunks, and where an image lies in its chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.winograd.match import Convolution
from loopmorph.passes.winograd.shared_data import shared_axes

LOOP = -1  # stands for the loop over chunks among the positions of a convolution's loops


def chunk_sizes(convolution: Convolution) -> list[int]:
    """Of how many iterations of the outermost loop over images a chunk may be, in growing order; fewer than all.

    None where another nest of the layer reads the data, as what is transformed may serve both.
    """
    if not convolution.samples or shared_axes(convolution) is not None:
        return []
    extent = convolution.extent(convolution.samples[0])
    return [size for size in range(1, extent) if extent % size == 0]


@dataclass(frozen=True)
class Chunks:
    """The outermost loop over images, cut into chunks of equal length.

    Attributes:
        convolution: the convolution.
        size: iterations of that loop in a chunk, a divisor of its extent; None where all nests run over all images.
    """

    convolution: Convolution
    size: int | None

    @property
    def count(self) -> int:
        """Number of chunks; 1 for one that is no loop."""
        return 1 if self.size is None else self.convolution.extent(self.convolution.samples[0]) // self.size

    @property
    def axis(self) -> list[int]:
        """The extent of the axis of chunks that the transformed memrefs have, if they have one."""
        return [] if self.size is None else [self.count]

    def place(self, frame: Mapping[int, ir.AffineExpr]) -> list[ir.AffineExpr]:
        """The index along that axis."""
        return [] if self.size is None else [frame[LOOP]]

    def loops(self) -> tuple[int, ...]:
        """The loops over images of a transform of tiles, that over chunks first."""
        samples = self.convolution.samples
        if self.size is None:
            return samples
        return (LOOP, *(samples if self.size > 1 else samples[1:]))

    def extent(self, loop: int) -> int:
        """The extent of a loop of a new nest."""
        if loop == LOOP:
            return self.count
        inside = self.size is not None and loop == self.convolution.samples[0]
        return self.size or 1 if inside else self.convolution.extent(loop)

    def name(self, loop: int) -> str:
        """Its iterator: of a loop that is cut, as `morph-split` calls them."""
        iterators, samples = self.convolution.nest.iterators, self.convolution.samples
        if self.size is None or loop not in (LOOP, samples[0]):
            return iterators[loop]
        if self.size == 1:
            return iterators[samples[0]]
        return f"{iterators[samples[0]]}.{0 if loop == LOOP else 1}"

    def whole(self, frame: Mapping[int, ir.AffineExpr]) -> dict[int, ir.AffineExpr]:
        """From a frame over the loops of a new nest to one over those of the convolution: the image among all."""
        if self.size is None:
            return dict(frame)
        first = self.convolution.samples[0]
        return {**frame, first: frame[LOOP] * self.size + frame[first] if self.size > 1 else frame[LOOP]}

    def tile(self, frame: Mapping[int, ir.AffineExpr], space: Sequence[tuple[ir.AffineExpr, int]]) -> ir.AffineExpr:
        """The number of a tile among those of its chunk.

        Args:
            frame: over the loops of the new nest.
            space: the row and the column of the tile in its image, each with the number of rows and columns.
        """
        images = [(frame[p], self.extent(p)) for p in self.loops() if p != LOOP]
        number: ir.AffineExpr = ir.AffineExpr.get_constant(0)
        for expr, extent in (*images, *space):
            number = number * extent + expr
        return number
