"""What nobody sees: values that only themselves are made of, as the place of a maximum that nobody asks for."""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.dialects import affine

_PURE = ("arith", "math")  # the dialects whose operations do nothing but compute their results


def enters_values(index: ir.Value) -> bool:
    """Whether anything that somebody sees depends on an index in another way than by which elements are accessed."""
    return not _are_unseen(list(index.uses))


def seen_uses(value: ir.Value) -> list[ir.OpOperand]:
    """The uses of a value on which something depends that somebody sees."""
    return [use for use in value.uses if not _are_unseen([use])]


def is_unseen(memref: ir.Value) -> bool:
    """Whether a memref is local and what it holds goes nowhere but into itself and others of which that is true."""
    read = _reads(memref)
    return read is not None and _are_unseen(read, {memref})


def _are_unseen(uses: list[ir.OpOperand], memrefs: set[ir.Value] | None = None) -> bool:
    """Whether nobody sees what values are used for; of `memrefs` that is assumed.

    Chains are as long as a network is deep, hence a list and no recursion.
    """
    known = memrefs or set()
    while uses:
        use = uses.pop()
        user = use.owner.opview
        if isinstance(user, affine.AffineLoadOp):
            continue
        if isinstance(user, affine.AffineStoreOp):
            if use.operand_number > 0 or user.memref in known:
                continue
            read = _reads(user.memref)
            if read is None:
                return False
            known.add(user.memref)
            uses += read
            continue
        name = user.operation.name
        if name != "affine.apply" and name.partition(".")[0] not in _PURE:
            return False
        uses += [next_ for result in user.operation.results for next_ in result.uses]
    return True


def _reads(memref: ir.Value) -> list[ir.OpOperand] | None:
    """The uses of what is loaded from a local memref; None where it is not local or used in another way."""
    if isinstance(memref, ir.BlockArgument) or memref.owner.name != "memref.alloc":
        return None
    users = [use.owner.opview for use in memref.uses if use.owner.operation.name != "memref.dealloc"]
    if not all(isinstance(user, affine.AffineLoadOp | affine.AffineStoreOp) for user in users):
        return None
    return [use for user in users if isinstance(user, affine.AffineLoadOp) for use in user.result.uses]
