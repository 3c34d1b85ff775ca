"""What nobody sees: values that only themselves are made of, as the place of a maximum that nobody asks for."""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.dialects import affine

_PURE = ("arith", "math")  # the dialects whose operations do nothing but compute their results


def enters_values(index: ir.Value) -> bool:
    """Whether anything that somebody sees depends on an index in another way than by which elements are accessed."""
    return not all(_use_is_unseen(use, set()) for use in index.uses)


def seen_uses(value: ir.Value) -> list[ir.OpOperand]:
    """The uses of a value on which something depends that somebody sees."""
    return [use for use in value.uses if not _use_is_unseen(use, set())]


def is_unseen(memref: ir.Value) -> bool:
    """Whether a memref is local and what it holds goes nowhere but into itself and others of which that is true."""
    return _memref_is_unseen(memref, set())


def _use_is_unseen(use: ir.OpOperand, memrefs: set[ir.Value]) -> bool:
    """Whether nobody sees what a value is used for; of `memrefs` that is assumed already."""
    user = use.owner.opview
    if isinstance(user, affine.AffineLoadOp):
        return True
    if isinstance(user, affine.AffineStoreOp):
        return use.operand_number > 0 or _memref_is_unseen(user.memref, memrefs)
    name = user.operation.name
    if name != "affine.apply" and name.partition(".")[0] not in _PURE:
        return False
    return all(_use_is_unseen(next_, memrefs) for result in user.operation.results for next_ in result.uses)


def _memref_is_unseen(memref: ir.Value, memrefs: set[ir.Value]) -> bool:
    if memref in memrefs:
        return True
    if isinstance(memref, ir.BlockArgument) or memref.owner.name != "memref.alloc":
        return False
    memrefs.add(memref)
    users = [use.owner.opview for use in memref.uses if use.owner.operation.name != "memref.dealloc"]
    if not all(isinstance(user, affine.AffineLoadOp | affine.AffineStoreOp) for user in users):
        return False
    loads = [user for user in users if isinstance(user, affine.AffineLoadOp)]
    return all(_use_is_unseen(use, memrefs) for load in loads for use in load.result.uses)
