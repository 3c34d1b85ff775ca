"""Whether what a nest reads again and again lies so that it stays in the first-level cache."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from torch_mlir import ir

from loopmorph.passes.affine_expr import evaluate
from loopmorph.passes.nest import Access, Loop
from loopmorph.passes.target.target import F32_BYTES, Target

_LINE = 64  # bytes of a cache line
_PAGE = 4096  # bytes: where in a page an address lies says which set it falls into, before the page is looked up
_ROOM = 0.75  # the part of a set that is left: the other operand and the results pass through it, too


def is_scattered(access: Access, extents: Mapping[Loop, int], target: Target) -> bool:
    """Whether the elements that an access touches in one round of loops would stay in the first-level cache if they lay
    side by side, and have too little room in the sets that they fall into.

    Elements that lie a power of two apart fall into few of the sets, and evict each other from a cache that they would
    fill to a part.

    Args:
        access: of f32 elements in row-major order.
        extents: the loops, and how many of their iterations belong to a round, from the first one on.
        target: the processor.
    """
    depth = max(access.loops, default=-1) + 1
    values = [np.zeros((), np.int64)] * depth
    for axis, (loop, extent) in enumerate(extents.items()):
        shape = [1] * len(extents)
        shape[axis] = extent
        values[loop.position] = np.arange(extent, dtype=np.int64).reshape(shape)
    shape = ir.MemRefType(access.memref.type).shape
    places = sum(evaluate(e, values) * math.prod(shape[axis + 1 :]) for axis, e in enumerate(access.exprs))
    lines = np.unique(np.asarray(places) * F32_BYTES // _LINE)
    crowded = int(np.bincount(lines % (_PAGE // _LINE)).max())
    side_by_side = -(-math.prod(extents.values()) * F32_BYTES // _PAGE)
    ways = target.l1_bytes // _PAGE
    return side_by_side <= ways and crowded > max(side_by_side, _ROOM * ways)
