"""Footprints: which elements of a memref the accesses of a nest touch, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
from torch_mlir import ir

from loopmorph.passes.affine_expr import evaluate, used_dims
from loopmorph.passes.analysis.bounds import constants
from loopmorph.passes.nest import Access, Loop, Nest


@dataclass(frozen=True, eq=False)
class Footprint:
    """The elements of a memref whose index on every axis is one of that axis' indices.

    Attributes:
        indices: for each axis its indices, ascending, int64.
    """

    indices: tuple[np.ndarray, ...]

    @property
    def elements(self) -> int:
        """How many elements there are."""
        return math.prod(len(axis) for axis in self.indices)

    def __or__(self, other: Footprint) -> Footprint:
        """The smallest footprint that holds both, which may hold more than the two."""
        return Footprint(tuple(np.union1d(a, b) for a, b in zip(self.indices, other.indices, strict=True)))

    def __and__(self, other: Footprint) -> Footprint:
        """The elements of both."""
        return Footprint(tuple(np.intersect1d(a, b) for a, b in zip(self.indices, other.indices, strict=True)))


def whole_footprint(memref: ir.Value) -> Footprint:
    """All elements of a memref of static shape."""
    return Footprint(tuple(np.arange(extent) for extent in ir.MemRefType(memref.type).shape))


def footprints(nest: Nest, kind: Literal["load", "store"]) -> dict[ir.Value, Footprint]:
    """What a nest loads, or stores, of each memref.

    It is exact where each axis of an access has iterators of its own and the accesses of a memref differ on one axis;
    otherwise, and where a bound is not constant, it holds the elements and possibly more.
    """
    values = [_values(nest, loop) for loop in nest.loops]
    found: dict[ir.Value, list[Footprint]] = {}
    for access in nest.accesses:
        if access.kind == kind:
            found.setdefault(access.memref, []).append(_footprint(access, values))
    return {memref: united(parts) for memref, parts in found.items()}


def united(parts: Iterable[Footprint]) -> Footprint:
    """The smallest footprint that holds all of these, at least one."""
    return reduce(Footprint.__or__, parts)


def _values(nest: Nest, loop: Loop) -> np.ndarray | None:
    """The values of an iterator, None where its bounds are not constant."""
    bounds = nest.bounds(loop)
    lower, upper = constants(bounds.lower), constants(bounds.upper)
    if len(lower) != len(bounds.lower) or len(upper) != len(bounds.upper):
        return None
    return np.arange(max(lower), min(upper), bounds.step)


def _footprint(access: Access, values: Sequence[np.ndarray | None]) -> Footprint:
    shape = ir.MemRefType(access.memref.type).shape
    axes = [_indices(expr, values, extent) for expr, extent in zip(access.exprs, shape, strict=True)]
    if access.lanes > 1:
        axes[-1] = np.unique(axes[-1][:, None] + np.arange(access.lanes))
    return Footprint(tuple(axes))


def _indices(expr: ir.AffineExpr, values: Sequence[np.ndarray | None], extent: int) -> np.ndarray:
    moving = {d: own for d in sorted(used_dims(expr)) if (own := values[d]) is not None}
    if len(moving) < len(used_dims(expr)):
        return np.arange(extent)
    grid = dict(zip(moving, np.ix_(*moving.values()), strict=True))
    return np.unique(evaluate(expr, [grid.get(d, np.zeros(1, np.int64)) for d in range(len(values))]))
