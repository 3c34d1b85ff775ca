"""Tied dimensions: which loops and memref axes must follow when one of them keeps only a part of its indices.

A loop is tied to every memref axis that it indexes, an axis to every loop that indexes it, through all the nests of
the program: residual additions, BatchNorm vectors, concatenations, pooling, flattening. The ties follow from access
maps alone (see `ties`); what each dimension keeps is a `KeepSet`. A concatenation's axis keeps what is kept of each
slice; the offsets of its slices are renumbered.

Any other map of a dimension that has to change is a conflict: a window, a constant index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loopmorph.passes.analysis.coupling.keep_set import KeepSet
from loopmorph.passes.analysis.coupling.program_accesses import ProgramAccesses
from loopmorph.passes.analysis.coupling.propagation import Propagation, Shrinkage
from loopmorph.passes.analysis.coupling.segments import shares
from loopmorph.passes.nest import Loop, Nest


@dataclass
class Coupling(ProgramAccesses):
    """What follows, in a whole program, from one loop that keeps a part of its iterations."""

    def shrink(self, nest: Nest, loop: Loop, factor: int) -> Shrinkage:
        """Follows `loop / factor` through the program. A reduction iterator reads a slice of its activations instead.

        Kept is the head of the dimension, or of each of its blocks where a tied nest is grouped and of each slice
        where it is a concatenation; of a window iterator (`kh`) the central part.

        Raises:
            IllegalTransform: the first conflict: an extent that the factor does not divide, a dimension tied to the
                network's input or output, an access that the change cannot follow.
        """
        return self.keep(nest, loop, shares(self, nest, loop, factor).intervals)

    def keep(self, nest: Nest, loop: Loop, intervals: Sequence[tuple[int, int]]) -> Shrinkage:
        """Follows through the program that `loop` keeps only some iterations.

        A reduction iterator reads a slice of its activations, which stay as they are; the weights follow.

        Args:
            nest: the nest.
            loop: one of its loops, with a constant extent.
            intervals: what it keeps, as (begin, end) with the end excluded, within its extent.

        Raises:
            IllegalTransform: the first conflict, as for `shrink`.
        """
        return Propagation(self, nest, loop).follow(KeepSet.union(loop.extent or 0, intervals))
