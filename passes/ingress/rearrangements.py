"""Tensor operations that only rearrange the elements of one operand: each makes another view of the same memref."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torch_mlir import ir

from loopmorph.passes.errors import ImportRefused
from loopmorph.passes.ingress.linalg_operations import describe, static, static_shape
from loopmorph.passes.ingress.tensor_views import TensorValue, collapse_exprs, expand_exprs, reindex, slice_exprs

Shape = Sequence[int]


def rearranged(op: ir.Operation, source: TensorValue) -> TensorValue:
    """What an operation of `REARRANGEMENTS` makes of its first operand.

    Raises:
        ImportRefused: a dynamic shape, size or offset.
    """
    shape = static_shape(op.results[0].type, op.location)
    return reindex(source, REARRANGEMENTS[op.name](op, source.shape, shape), shape)


def reassociation(op: ir.Operation) -> list[list[int]]:
    """The axes of the expanded tensor that make up each axis of the collapsed one."""
    return [[ir.IntegerAttr(i).value for i in ir.ArrayAttr(g)] for g in ir.ArrayAttr(op.attributes["reassociation"])]


def _expand(op: ir.Operation, _source: Shape, shape: Shape) -> list[ir.AffineExpr]:
    return expand_exprs(reassociation(op), shape)


def _collapse(op: ir.Operation, source: Shape, _shape: Shape) -> list[ir.AffineExpr]:
    return collapse_exprs(reassociation(op), source)


def _transpose(op: ir.Operation, _source: Shape, _shape: Shape) -> list[ir.AffineExpr]:
    permutation = list(ir.DenseI64ArrayAttr(op.attributes["permutation"]))
    return [ir.AffineExpr.get_dim(permutation.index(axis)) for axis in range(len(permutation))]


def _broadcast(op: ir.Operation, _source: Shape, shape: Shape) -> list[ir.AffineExpr]:
    added = set(ir.DenseI64ArrayAttr(op.attributes["dimensions"]))
    return [ir.AffineExpr.get_dim(d) for d in range(len(shape)) if d not in added]


def _extract_slice(op: ir.Operation, _source: Shape, shape: Shape) -> list[ir.AffineExpr]:
    sizes, offsets, strides = (static(op, f"static_{what}") for what in ("sizes", "offsets", "strides"))
    return slice_exprs(offsets, strides, kept_axes(op, sizes, shape))


def kept_axes(op: ir.Operation, sizes: Shape, shape: Shape) -> list[int]:
    """The axes of a slice of `sizes` that one of `shape` still has: all but some of extent 1.

    Raises:
        ImportRefused: `shape` is no such slice.
    """
    kept: list[int] = []
    for axis, size in enumerate(sizes):
        if len(kept) < len(shape) and shape[len(kept)] == size:
            kept.append(axis)
        elif size != 1:
            break
    if [sizes[axis] for axis in kept] != list(shape):
        raise ImportRefused(f"{describe(op)}: a slice of {list(sizes)} cannot have the shape {list(shape)}")
    return kept


# For each operation, the index into its operand from one into its result, given the shapes of both.
REARRANGEMENTS: Mapping[str, Callable[[ir.Operation, Shape, Shape], list[ir.AffineExpr]]] = MappingProxyType(
    {
        "linalg.broadcast": _broadcast,
        "linalg.transpose": _transpose,
        "tensor.collapse_shape": _collapse,
        "tensor.expand_shape": _expand,
        "tensor.extract_slice": _extract_slice,
    }
)
