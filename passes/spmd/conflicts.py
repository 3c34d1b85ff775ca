"""What the steps of a function touch, and whether two of them need a barrier between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.analysis.dependence.aliasing import VIEWS
from loopmorph.passes.analysis.dependence.known_operations import gathered
from loopmorph.passes.analysis.memory.memrefs import element_bytes
from loopmorph.passes.analysis.memory.slabs import Slabs, by_memref, slabs
from loopmorph.passes.nest import Loop, Nest

FIRST = "first"  # owner of what only thread 0 touches


@dataclass(frozen=True)
class Region:
    """Bytes `low` up to, not including, `high` of a buffer; all of them where `high` is None."""

    buffer: ir.Value
    low: int = 0
    high: int | None = None

    def overlaps(self, other: Region) -> bool:
        if self.buffer != other.buffer:
            return False
        if self.high is None or other.high is None:
            return True
        return self.low < other.high and other.low < self.high


@dataclass(frozen=True)
class Touch:
    """One step's use of one memref.

    Attributes:
        memref: what is touched.
        region: where it lies.
        written: whether it may be stored to.
        owner: which thread touches what: `FIRST`, the parts along one axis, or None where it is not known.
    """

    memref: ir.Value
    region: Region
    written: bool
    owner: Slabs | str | None


def region(memref: ir.Value) -> Region:
    """Where a memref lies. Buffers that are different values do not overlap, parts of the scratch may."""
    op = definition(memref)
    if op is None or op.name not in VIEWS:
        return Region(memref)
    inner = region(op.operands[0])
    if op.name != "memref.view" or len(op.operands) != 2 or inner.high is not None:
        return inner
    offset = op.operands[1].owner
    if isinstance(offset, ir.Block) or offset.operation.name != "arith.constant":
        return inner
    type_, low = ir.MemRefType(memref.type), ir.IntegerAttr(offset.operation.attributes["value"]).value
    return Region(inner.buffer, low, low + math.prod(type_.shape) * element_bytes(type_.element_type))


def nest_touches(nest: Nest, loop: Loop, threads: int) -> list[Touch]:
    """What a nest touches whose loop `loop` is cut into chunks."""
    touches = [Touch(memref, region(memref), written=False, owner=None) for memref in gathered(nest)]
    for memref, accesses in by_memref(nest.accesses).items():
        written = any(a.kind == "store" for a in accesses)
        touches.append(Touch(memref, region(memref), written, slabs(nest, loop, accesses, threads)))
    return touches


def in_conflict(a: Touch, b: Touch) -> bool:
    """Whether one thread's `a` and another one's `b` may touch the same element, one of them to write it."""
    if not (a.written or b.written) or not a.region.overlaps(b.region):
        return False
    if isinstance(a.owner, Slabs) and isinstance(b.owner, Slabs):
        return a.memref != b.memref or not a.owner.apart(b.owner)
    return not (a.owner == FIRST and b.owner == FIRST)
