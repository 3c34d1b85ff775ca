"""`morph-spread-rows`: rows that a product reads side by side do not fall into one set of the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.memory.memrefs import element_bytes
from loopmorph.passes.analysis.roles import is_reduction
from loopmorph.passes.base import Pass
from loopmorph.passes.building.rows import TOKEN_RANK, has_free_rows, set_row_length
from loopmorph.passes.errors import require_least
from loopmorph.passes.nest import Access, Nest, nest_roots, view_nest

_WAY = 4096  # bytes of which each line falls into another set; the same for 32 KiB in 8 ways and 48 KiB in 12
FEWEST_ROWS = 8  # as many as there are ways


@dataclass(frozen=True)
class SpreadRows(Pass):
    """Lengthens rows that lie a multiple of 4096 bytes apart by one vector, where products read several at once.

    Before (width=16): a register block of 16 rows of 12 KiB, all of whose columns compete for one set of 8 lines

        %t = memref.alloc() : memref<128x3072xf32>
        affine.for %n = 0 to 128 { ... affine.for %ci = 0 to 3072 { affine.load %t[%n, %ci] ...

    After:

        %t = memref.alloc() : memref<128x3088xf32>

    Nobody reads or writes the new elements. Requires a local memref of rank 2 or 3 that only loads and stores touch,
    and a sum of products that runs along its last axis, for at least FEWEST_ROWS values of the axis before.

    Options:
        width: elements by which rows become longer, at least 1.
    """

    name: ClassVar[str] = "morph-spread-rows"
    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least("width", self.width, 1, "element")

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for root in nest_roots(module):
                nest = view_nest(root)
                for value in dict.fromkeys(a.memref for a in nest.loads if _competes(nest, a)):
                    set_row_length(value, ir.MemRefType(value.type).shape[-1] + self.width)


def _competes(nest: Nest, access: Access) -> bool:
    """Whether a product reads rows through the access of which many fall into one set."""
    type_ = ir.MemRefType(access.memref.type)
    if not 2 <= len(type_.shape) <= TOKEN_RANK or not has_free_rows(access.memref) or not macs(nest):
        return False
    if type_.shape[-1] * element_bytes(type_.element_type) % _WAY:
        return False
    along, across = ({nest.loops[d] for d in used_dims(e)} for e in (access.exprs[-1], access.exprs[-2]))
    summed = any(is_reduction(nest, loop.position) for loop in along)
    rows = any((loop.extent or 0) >= FEWEST_ROWS and not is_reduction(nest, loop.position) for loop in across)
    return summed and rows
