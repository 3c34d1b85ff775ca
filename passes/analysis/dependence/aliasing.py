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
    """Whether the memref is known to be a buffer of its own: an allocation, a function's argument, a constant."""
    op = definition(base)
    if op is None:
        return base.owner.owner.operation.name == "func.func"
    return op.name in _BUFFERS or (op.name == "memref.get_global" and is_constant_global(op))


def is_constant_global(get_global: ir.Operation) -> bool:
    """Whether the global memref that an operation gives is never written; then two of them cannot be in conflict."""
    name = ir.FlatSymbolRefAttr(get_global.attributes["name"]).value
    module = get_global
    while module.name != "builtin.module":
        module = module.parent.operation
    known = (op.operation for op in module.regions[0].blocks[0].operations)
    return any(
        op.name == "memref.global"
        and ir.StringAttr(op.attributes["sym_name"]).value == name
        and "constant" in op.attributes
        for op in known
    )
