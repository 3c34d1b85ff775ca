"""Where a memref surely holds zeros: the halo around an activation, which nothing but its filling writes."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.affine_expr import value_range
from loopmorph.passes.analysis.bounds import limits_of
from loopmorph.passes.analysis.definitions import is_defined_by
from loopmorph.passes.analysis.memory.box import Box, hull
from loopmorph.passes.nest import Access, view_nest

_READS = frozenset({"affine.load", "affine.vector_load", "affine.prefetch", "memref.dealloc"})
_WRITES = frozenset({"affine.store", "affine.vector_store"})


def live_box(memref: ir.Value) -> Box | None:
    """A box around everything but zeros that the program writes to a local memref; None where that is not known."""
    if not is_defined_by(memref, "memref.alloc"):
        return None
    roots: dict[ir.Operation, affine.AffineForOp] = {}
    boxes: list[Box] = []
    shape = ir.MemRefType(memref.type).shape
    for use in memref.uses:
        op = use.owner.operation
        if op.name not in _WRITES | _READS:
            return None
        if op.name in _READS or _is_zero(op.operands[0]):
            continue
        root = _root(op)
        if root is None:
            return None
        roots.setdefault(root.operation, root)
    for root in roots.values():
        nest = view_nest(root, memref)
        limits = limits_of(nest)
        written = [a for a in nest.stores if not _is_zero(a.op.operands[0])]
        boxes += [_touched(access, limits, shape) for access in written]
    if not boxes:
        return None
    return Box(
        tuple(min(begins) for begins in zip(*(b.begin for b in boxes), strict=True)),
        tuple(max(ends) for ends in zip(*(b.end for b in boxes), strict=True)),
    )


def outside(exprs: Sequence[ir.AffineExpr], limits: Sequence[int | None], box: Box) -> bool:
    """Whether an access touches nothing of the box.

    Args:
        exprs: the access map's results, over the nest's loops.
        limits: for each loop the number that its iterator, at least 0, stays below; None where unknown.
        box: the box.
    """
    if any(limit is None for limit in limits):
        return False
    for axis, expr in enumerate(exprs):
        low, high = value_range(expr, [limit or 1 for limit in limits])
        if high < box.begin[axis] or low >= box.end[axis]:
            return True
    return False


def _touched(access: Access, limits: Sequence[int | None], shape: Sequence[int]) -> Box:
    """A box around all that an access touches, all lanes of a vector included."""
    box = hull(access.exprs, limits, shape)
    return box if access.lanes == 1 else Box(box.begin, (*box.end[:-1], box.end[-1] + access.lanes - 1))


def _is_zero(value: ir.Value) -> bool:
    if not is_defined_by(value, "arith.constant"):
        return False
    attribute = value.owner.attributes["value"]
    if isinstance(attribute, ir.DenseElementsAttr) and attribute.is_splat:
        attribute = attribute.get_splat_value()
    return isinstance(attribute, ir.FloatAttr) and attribute.value == 0.0


def _root(op: ir.Operation) -> affine.AffineForOp | None:
    """The outermost loop around an operation, if it stands in the body of a function."""
    while op.parent is not None and op.parent.name != "func.func":
        op = op.parent.operation
    return op.opview if isinstance(op.opview, affine.AffineForOp) else None
