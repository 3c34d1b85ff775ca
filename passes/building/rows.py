"""Local memrefs whose rows get longer."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes.analysis.memory.memrefs import is_local


def has_free_rows(memref: ir.Value) -> bool:
    """Whether a memref is local, and loads and stores of elements are all that touches it: its type may change."""
    return is_local(memref) and all(use.owner.name in ("affine.load", "affine.store") for use in memref.uses)


def set_row_length(memref: ir.Value, extent: int) -> None:
    """Gives a memref rows of `extent` elements, in place; who uses it is left as it is."""
    type_ = ir.MemRefType(memref.type)
    shape = [*type_.shape[:-1], extent]
    memref.set_type(ir.MemRefType.get(shape, type_.element_type, memory_space=type_.memory_space))
