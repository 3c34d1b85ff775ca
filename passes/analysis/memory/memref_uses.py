"""Who reads and writes a memref, and in which order, over the body of a function."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.dataflow import outermost
from loopmorph.passes.errors import IllegalTransform

_KINDS: dict[str, Literal["read", "write", "free"]] = {
    "affine.load": "read",
    "affine.prefetch": "read",
    "affine.vector_load": "read",
    "affine.store": "write",
    "affine.vector_store": "write",
    "memref.dealloc": "free",
}


@dataclass(frozen=True)
class Use:
    """One use of a memref.

    Attributes:
        kind: what it does.
        op: the operation of the function's body that it lies in, or is.
    """

    kind: Literal["read", "write", "free"]
    op: ir.Operation


class MemrefUses:
    """The uses of memrefs in the body of a function; each looked up once."""

    def __init__(self) -> None:
        self._uses: dict[ir.Value, tuple[Use, ...]] = {}

    def of(self, memref: ir.Value) -> tuple[Use, ...]:
        """All uses of a memref.

        Raises:
            IllegalTransform: it may share memory with another one, or is used by an operation that is neither an
                affine load or store nor a deallocation.
        """
        if memref not in self._uses:
            self._uses[memref] = tuple(self._collect(memref))
        return self._uses[memref]

    def between(
        self, memref: ir.Value, first: ir.Operation, last: ir.Operation, gone: Iterable[ir.Operation]
    ) -> list[Use]:
        """The uses of a memref after operation `first` and before operation `last` but those in `gone`."""
        skipped = set(gone)
        return [u for u in self.of(memref) if is_before(first, u.op) and is_before(u.op, last) and u.op not in skipped]

    def _collect(self, memref: ir.Value) -> Iterable[Use]:
        owner = memref.owner
        if not isinstance(owner, ir.Block) and owner.name not in ("memref.alloc", "memref.get_global"):
            raise IllegalTransform(f"memref at {owner.location}", f"it comes from '{owner.name}' and may be shared")
        for use in memref.uses:
            if use.owner.name not in _KINDS:
                where = f"memref at {use.owner.location}"
                raise IllegalTransform(where, f"it is used by '{use.owner.name}', whose effects are not understood")
            yield Use(_KINDS[use.owner.name], outermost(use.owner.operation))


def is_before(op: ir.Operation, other: ir.Operation) -> bool:
    """Whether one operation of a block comes before another one."""
    return op != other and op.is_before_in_block(other)


def last_of(ops: Iterable[ir.Operation]) -> ir.Operation:
    """Of some operations of a block, at least one, the last."""
    return functools.reduce(lambda op, other: other if is_before(op, other) else op, ops)


def in_order(ops: Iterable[ir.Operation]) -> list[ir.Operation]:
    """Operations of a block in program order."""
    return sorted(ops, key=functools.cmp_to_key(lambda op, other: -1 if is_before(op, other) else int(op != other)))


def is_defined_after(value: ir.Value, op: ir.Operation) -> bool:
    """Whether a value comes from an operation after another one of its block; not so for an argument."""
    return not isinstance(value.owner, ir.Block) and is_before(op, value.owner.operation)


def describe(op: ir.Operation) -> str:
    """How a message names an operation of a function's body: a nest by its layer, another one by its own name."""
    layer = marks.get_text(op, marks.LAYER)
    role = marks.get_text(op, marks.ROLE, marks.MAIN)
    if layer:
        return f"'{layer}'" if role == marks.MAIN else f"the {role} nest of '{layer}'"
    return f"the nest at {op.location}" if isinstance(op.opview, affine.AffineForOp) else f"'{op.name}'"
