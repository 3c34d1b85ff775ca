"""How a dimension grows: its segments, each to a multiple of the vector width, in their order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from loopmorph.passes.analysis.coupling.keep_set import KeepSet


@dataclass(frozen=True)
class Growth:
    """How one dimension grows.

    Attributes:
        keep: over the new extent, where the old indices come to lie, in order.
        begins: the old indices where segments begin, and the old extent.
    """

    keep: KeepSet
    begins: tuple[int, ...]

    @classmethod
    def of(cls, extent: int, cuts: Collection[int], width: int) -> Growth:
        """Every segment grows at its end to a multiple of `width`."""
        bounds = (0, *sorted(cuts), extent)
        intervals, place = [], 0
        for begin, end in pairwise(bounds):
            intervals.append((place, place + end - begin))
            place += -(-(end - begin) // width) * width
        return cls(KeepSet.union(place, intervals), bounds)

    @property
    def extent(self) -> int:
        return self.keep.extent

    def place(self, index: int) -> int:
        """The new place of an old index; of the old extent, the new one."""
        return self.keep.extent if index == self.begins[-1] else int(self.keep.indices[index])

    def whole_segments(self, begin: int, end: int) -> KeepSet | None:
        """How the range begin .. end-1 grows, None where it is not made of segments."""
        if begin not in self.begins or end not in self.begins:
            return None
        return self.keep.part(self.place(begin), self.place(end))

    def is_contiguous(self, begin: int, end: int) -> bool:
        """Whether the old indices begin .. end-1 still lie side by side."""
        return self.place(end - 1) - self.place(begin) == end - 1 - begin
