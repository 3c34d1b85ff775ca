"""What the type and the origin of a memref say of it."""

from __future__ import annotations

from torch_mlir import ir


def element_bytes(element: ir.Type) -> int:
    """Bytes that one element takes in memory; an `index` takes 8."""
    width = 64 if isinstance(element, ir.IndexType) else element.width
    return -(-width // 8)


def is_local(memref: ir.Value) -> bool:
    """Whether the memref is allocated in the function's body, with a static shape and the usual layout."""
    owner = memref.owner
    allocated = isinstance(owner, ir.Operation | ir.OpView) and owner.name == "memref.alloc"
    return allocated and not owner.operands and ir.MemRefType(memref.type).has_static_shape
