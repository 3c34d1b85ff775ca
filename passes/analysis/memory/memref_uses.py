"""Who reads and writes a memref, and in which order, over the body of a function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
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


class Body:
    """The operations of a function's body, their order, and the uses of memrefs in them."""

    def __init__(self, block: ir.Block) -> None:
        self._position = {op.operation: k for k, op in enumerate(block.operations)}
        self._uses: dict[ir.Value, tuple[Use, ...]] = {}

    def position(self, op: ir.Operation) -> int:
        """The operation's number in the body."""
        return self._position[op]

    def defined(self, value: ir.Value) -> int:
        """The number of the operation that a value comes from, -1 for an argument of the function."""
        return -1 if isinstance(value.owner, ir.Block) else self._position[value.owner.operation]

    def uses(self, memref: ir.Value) -> tuple[Use, ...]:
        """All uses of a memref.

        Raises:
            IllegalTransform: it may share memory with another one, or is used by an operation that is neither an
                affine load or store nor a deallocation.
        """
        if memref not in self._uses:
            self._uses[memref] = tuple(self._collect(memref))
        return self._uses[memref]

    def between(self, memref: ir.Value, first: int, last: int, gone: Iterable[ir.Operation]) -> list[Use]:
        """The uses of a memref after operation `first` and before operation `last` but those in `gone`."""
        skipped = set(gone)
        return [u for u in self.uses(memref) if first < self._position[u.op] < last and u.op not in skipped]

    def _collect(self, memref: ir.Value) -> Iterable[Use]:
        owner = memref.owner
        if not isinstance(owner, ir.Block) and owner.name not in ("memref.alloc", "memref.get_global"):
            raise IllegalTransform(f"memref at {owner.location}", f"it comes from '{owner.name}' and may be shared")
        for use in memref.uses:
            if use.owner.name not in _KINDS:
                where = f"memref at {use.owner.location}"
                raise IllegalTransform(where, f"it is used by '{use.owner.name}', whose effects are not understood")
            op = use.owner.operation
            while op not in self._position:
                op = op.parent.operation
            yield Use(_KINDS[use.owner.name], op)


def describe(op: ir.Operation) -> str:
    """How a message names an operation of a function's body: a nest by its layer, another one by its own name."""
    layer = marks.get_text(op, marks.LAYER)
    role = marks.get_text(op, marks.ROLE, marks.MAIN)
    if layer:
        return f"'{layer}'" if role == marks.MAIN else f"the {role} nest of '{layer}'"
    return f"the nest at {op.location}" if isinstance(op.opview, affine.AffineForOp) else f"'{op.name}'"
