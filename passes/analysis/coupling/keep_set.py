"""`KeepSet`: which indices of a dimension stay, as a union of intervals of its present range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch_mlir import ir


@dataclass(frozen=True)
class KeepSet:
    """The kept indices of a dimension; renumbered from 0, in order, they are its new range.

    Attributes:
        extent: the dimension's present extent.
        intervals: what is kept, as (begin, end) with the end excluded: ascending, not empty, none touching the next.
    """

    extent: int
    intervals: tuple[tuple[int, int], ...]

    @classmethod
    def whole(cls, extent: int) -> KeepSet:
        """All of 0 .. extent-1."""
        return cls.of_mask(np.ones(extent, dtype=bool))

    @classmethod
    def union(cls, extent: int, intervals: Iterable[tuple[int, int]]) -> KeepSet:
        """The union of intervals (begin, end) within 0 .. extent, in any order; they may overlap."""
        mask = np.zeros(extent, dtype=bool)
        for begin, end in intervals:
            mask[begin:end] = True
        return cls.of_mask(mask)

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> KeepSet:
        """From a vector of bool: whether each index is kept."""
        steps = np.diff(mask.astype(np.int8), prepend=0, append=0)
        begins, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        return cls(len(mask), tuple(zip(begins.tolist(), ends.tolist(), strict=True)))

    @property
    def mask(self) -> np.ndarray:
        """A vector of `extent` bools: whether each index is kept."""
        mask = np.zeros(self.extent, dtype=bool)
        for begin, end in self.intervals:
            mask[begin:end] = True
        return mask

    @property
    def indices(self) -> np.ndarray:
        """The kept indices, ascending, int64: the old index of each new one."""
        return np.flatnonzero(self.mask)

    @property
    def size(self) -> int:
        """How many are kept: the dimension's new extent."""
        return sum(end - begin for begin, end in self.intervals)

    @property
    def is_whole(self) -> bool:
        return self.size == self.extent

    def below(self, index: int) -> int:
        """How many indices less than `index` are kept: where the first one kept from `index` on comes to lie."""
        return sum(min(end, index) - begin for begin, end in self.intervals if begin < index)

    def __and__(self, other: KeepSet) -> KeepSet:
        return KeepSet.of_mask(self.mask & other.mask)

    def part(self, begin: int, end: int) -> KeepSet:
        """What is kept of begin .. end-1, numbered from `begin`."""
        return KeepSet.of_mask(self.mask[begin:end])

    def placed(self, offset: int, extent: int) -> KeepSet:
        """This set from `offset` on in a dimension of `extent`, of which everything else is kept."""
        mask = np.ones(extent, dtype=bool)
        mask[offset : offset + self.extent] = self.mask
        return KeepSet.of_mask(mask)

    def repeated(self, times: int) -> KeepSet:
        """Over `times` trailing positions for each index, the set of those whose index is kept."""
        return KeepSet.of_mask(np.repeat(self.mask, times))

    def projections(self, extents: Sequence[int]) -> tuple[KeepSet, ...]:
        """For each digit of a mixed-radix number, most significant first, the values that some kept index has there."""
        grid = self.mask.reshape(tuple(extents))
        axes = range(len(extents))
        return tuple(KeepSet.of_mask(np.asarray(grid.any(axis=tuple(d for d in axes if d != k)))) for k in axes)

    def expression(self, index: ir.AffineExpr) -> ir.AffineExpr | None:
        """The old index of the new `index`; None where the intervals are not equally long and equally far apart."""
        lengths = {end - begin for begin, end in self.intervals}
        begins = [begin for begin, _ in self.intervals]
        strides = set(np.diff(begins).tolist())
        if len(lengths) != 1 or len(strides) > 1:
            return None
        if not strides:
            return index + begins[0]
        length = ir.AffineExpr.get_constant(lengths.pop())
        block = ir.AffineExpr.get_floor_div(index, length) * strides.pop()
        return block + ir.AffineExpr.get_mod(index, length) + begins[0]

    def __str__(self) -> str:
        return ", ".join(str(a) if b == a + 1 else f"{a}..{b - 1}" for a, b in self.intervals) or "nothing"


def product(digits: Sequence[KeepSet]) -> KeepSet:
    """The mixed-radix numbers all of whose digits, most significant first, are kept."""
    mask = np.ones(1, dtype=bool)
    for digit in digits:
        mask = np.outer(mask, digit.mask).ravel()
    return KeepSet.of_mask(mask)


def cut_shares(extent: int, cuts: Iterable[int], factor: int, *, central: bool = False) -> KeepSet:
    """One of `factor` equal parts of every segment between neighbouring cuts: the first, or the central one.

    Args:
        extent: of the dimension.
        cuts: where segments begin; 0 is one anyway. `factor` divides the length of each segment.
        factor: divisor of every segment.
        central: keep the middle of each segment instead of its head.
    """
    bounds = [*sorted({0, *cuts}), extent]
    intervals = []
    for begin, end in pairwise(bounds):
        kept = (end - begin) // factor
        first = begin + (end - begin - kept) // 2 if central else begin
        intervals.append((first, first + kept))
    return KeepSet.union(extent, intervals)
