"""The rows of memrefs: what runs along them, and local ones whose rows may change."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes.affine_expr import downcast, used_dims
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.nest import Access, Loop, Nest

TOKEN_RANK = 3  # the most that activations of tokens have; those of pixels get a layout of their own


def runs_along(nest: Nest, access: Access, axis: int = -1) -> Loop | None:
    """The iterator that is the index along an axis, by default the rows, and occurs in no other; None without one."""
    index = downcast(access.exprs[axis]) if access.exprs else None
    if not isinstance(index, ir.AffineDimExpr) or sum(index.position in used_dims(e) for e in access.exprs) > 1:
        return None
    return nest.loops[index.position]


def has_free_rows(memref: ir.Value) -> bool:
    """Whether a memref is local, and loads and stores of elements are all that touches it: its type may change."""
    return is_local(memref) and all(use.owner.name in ("affine.load", "affine.store") for use in memref.uses)


def set_row_length(memref: ir.Value, extent: int) -> None:
    """Gives a memref rows of `extent` elements, in place; who uses it is left as it is."""
    type_ = ir.MemRefType(memref.type)
    shape = [*type_.shape[:-1], extent]
    memref.set_type(ir.MemRefType.get(shape, type_.element_type, memory_space=type_.memory_space))
