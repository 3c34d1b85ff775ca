"""What nobody sees: values that only themselves are made of, as the place of a maximum that nobody asks for."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.arithmetic import ARITHMETIC


def enters_values(index: ir.Value) -> bool:
    """Whether anything that somebody sees depends on an index in another way than by which elements are accessed."""
    return not _are_unseen(index.uses, set())


def seen_uses(value: ir.Value) -> list[ir.OpOperand]:
    """The uses of a value on which something depends that somebody sees."""
    return [use for use in value.uses if not _are_unseen([use], set())]


def is_unseen(memref: ir.Value) -> bool:
    """Whether a memref is local and what it holds goes nowhere but into itself and others of which that is true."""
    return _are_unseen(_reads(memref), {memref})


def _are_unseen(uses: Iterable[ir.OpOperand | None], known: set[ir.Value]) -> bool:
    """Whether nobody sees what values are used for; of those `known` that is assumed, and of all that is looked at.

    Chains are as long as a network is deep, hence a list and no recursion; and most values are seen at the end of one,
    hence one use after the other.
    """
    pending = [(use for use in uses)]
    for use in _last_first(pending):
        if use is None:
            return False
        user = use.owner.opview
        if isinstance(user, affine.AffineLoadOp):
            continue
        if isinstance(user, affine.AffineStoreOp):
            if use.operand_number == 0 and user.memref not in known:
                known.add(user.memref)
                pending.append(_reads(user.memref))
            continue
        name = user.operation.name
        if name != "affine.apply" and not name.startswith(ARITHMETIC):
            return False
        results = [result for result in user.operation.results if result not in known]
        known.update(results)
        pending += [(use for use in result.uses) for result in results]
    return True


def _last_first(pending: list[Generator[ir.OpOperand | None]]) -> Iterator[ir.OpOperand | None]:
    """What there is in a growing list of generators, of the last one first (the bindings' iterators begin anew)."""
    while pending:
        for use in pending[-1]:
            yield use
            break
        else:
            pending.pop()


def _reads(memref: ir.Value) -> Generator[ir.OpOperand | None]:
    """The uses of what is loaded from a local memref; None where it is not local or used in another way."""
    if isinstance(memref, ir.BlockArgument) or memref.owner.name != "memref.alloc":
        yield None
        return
    for use in memref.uses:
        user = use.owner.opview
        if isinstance(user, affine.AffineLoadOp):
            yield from user.result.uses
        elif not isinstance(user, affine.AffineStoreOp) and use.owner.operation.name != "memref.dealloc":
            yield None
