"""What nobody sees: values of which nothing but themselves is made, as the position of a maximum that nobody asks for."""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.dialects import affine


def enters_values(index: ir.Value) -> bool:
    """Whether anything that somebody sees depends on the value of an index, but for which elements are accessed."""
    return not _is_unseen(index, set())


def is_unseen(memref: ir.Value) -> bool:
    """Whether a memref is local and what it holds goes nowhere but into itself and others of which that is true."""
    return _is_unseen_memref(memref, set())


def _is_unseen(value: ir.Value, memrefs: set[ir.Value]) -> bool:
    """Whether nobody sees the value; `memrefs` are those of which it is assumed already."""
    for use in value.uses:
        user = use.owner.opview
        if isinstance(user, affine.AffineLoadOp):
            continue
        if isinstance(user, affine.AffineStoreOp):
            if use.operand_number == 0 and not _is_unseen_memref(user.memref, memrefs):
                return False
        elif user.operation.regions or not user.operation.results:
            return False
        elif not all(_is_unseen(result, memrefs) for result in user.operation.results):
            return False
    return True


def _is_unseen_memref(memref: ir.Value, memrefs: set[ir.Value]) -> bool:
    if memref in memrefs:
        return True
    if isinstance(memref, ir.BlockArgument) or memref.owner.name != "memref.alloc":
        return False
    memrefs.add(memref)
    users = [use.owner.opview for use in memref.uses if use.owner.operation.name != "memref.dealloc"]
    if not all(isinstance(user, affine.AffineLoadOp | affine.AffineStoreOp) for user in users):
        return False
    loads = [user for user in users if isinstance(user, affine.AffineLoadOp)]
    return all(_is_unseen(load.result, memrefs) for load in loads)
