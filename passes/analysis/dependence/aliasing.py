"""Which memrefs can overlap."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes.analysis.definitions import definition

VIEWS = frozenset(
    {
        *("memref.subview", "memref.cast", "memref.reinterpret_cast", "memref.view"),
        *("memref.expand_shape", "memref.collapse_shape", "memref.transpose"),
    }
)
_BUFFERS = frozenset({"memref.alloc", "memref.alloca"})


def may_alias(a: ir.Value, b: ir.Value) -> bool:
    """Whether two memrefs can overlap."""
    base_a, base_b = _base(a), _base(b)
    return base_a == base_b or not (_is_buffer(base_a) and _is_buffer(base_b))


def _base(memref: ir.Value) -> ir.Value:
    op = definition(memref)
    return _base(op.operands[0]) if op is not None and op.name in VIEWS else memref


def _is_buffer(base: ir.Value) -> bool:
    """Whether the memref is known to be a buffer of its own: an allocation or a function's argument."""
    op = definition(base)
    return base.owner.owner.operation.name == "func.func" if op is None else op.name in _BUFFERS
