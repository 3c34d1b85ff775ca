"""What a nest costs, counted from its loops."""

from __future__ import annotations

import math

from loopmorph.passes.nest import Nest


def macs(nest: Nest) -> int:
    """Multiply-accumulate operations of a contraction nest; 0 for any other.

    A contraction accumulates products into the memref that it stores to; each `arith.mulf` in it counts once per
    iteration of the loops around it (whose extents must be constant; others count as 1).
    """
    stored = [store.memref for store in nest.stores]
    if not any(load.memref in stored for load in nest.loads):
        return 0
    total = 0
    for loop in nest.loops:
        products = sum(op.operation.name == "arith.mulf" for op in loop.op.body.operations)
        total += products * _iterations(nest, loop.position)
    return total


def _iterations(nest: Nest, position: int) -> int:
    extents: list[int] = []
    at: int | None = position
    while at is not None:
        extents.append(nest.loops[at].extent or 1)
        at = nest.loops[at].parent
    return math.prod(extents)
