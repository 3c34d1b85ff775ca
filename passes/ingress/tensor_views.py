"""Tensors as views of memrefs: reshapes, slices, transposes and broadcasts become access maps, not loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.affine_expr import simplify, substitute

Reassociation = Sequence[Sequence[int]]


@dataclass(frozen=True)
class View:
    """A tensor of `shape` whose element at index i lies at `memref[map(i)]`; `map` has one dimension per axis."""

    memref: ir.Value
    map: ir.AffineMap
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Uninitialised:
    """A tensor whose values nobody reads (`tensor.empty`)."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Filled:
    """A tensor that is `value`, a scalar, everywhere (`linalg.fill`, splat constants)."""

    value: ir.Value
    shape: tuple[int, ...]


TensorValue = View | Uninitialised | Filled


def identity_view(memref: ir.Value) -> View:
    """The whole memref as a tensor."""
    shape = tuple(ir.MemRefType(memref.type).shape)
    return View(memref, ir.AffineMap.get_identity(len(shape)), shape)


def reindex(value: TensorValue, exprs: Sequence[ir.AffineExpr], shape: Sequence[int]) -> TensorValue:
    """The tensor of `shape` whose element at index i is `value`'s at `exprs(i)`, one expression per axis of `value`."""
    shape = tuple(shape)
    if isinstance(value, Uninitialised):
        return Uninitialised(shape)
    if isinstance(value, Filled):
        return Filled(value.value, shape)
    results = compose(value.map.results, exprs, shape)
    return View(value.memref, ir.AffineMap.get(len(shape), 0, results), shape)


def compose(
    outer: Sequence[ir.AffineExpr], inner: Sequence[ir.AffineExpr], extents: Sequence[int]
) -> list[ir.AffineExpr]:
    """`outer(inner(i))` for i within `extents`, simplified."""
    replacement = dict(enumerate(inner))
    return [simplify(substitute(e, replacement, len(inner)), extents) for e in outer]


def expand_exprs(reassociation: Reassociation, expanded: Sequence[int]) -> list[ir.AffineExpr]:
    """Index into the collapsed tensor from an index into the expanded one (`tensor.expand_shape`)."""
    return [_linearise(group, expanded) for group in reassociation]


def collapse_exprs(reassociation: Reassociation, expanded: Sequence[int]) -> list[ir.AffineExpr]:
    """Index into the expanded tensor from an index into the collapsed one (`tensor.collapse_shape`)."""
    exprs: list[ir.AffineExpr] = []
    for axis, group in enumerate(reassociation):
        position = ir.AffineExpr.get_dim(axis)
        for k, d in enumerate(group):
            inner = math.prod(expanded[e] for e in group[k + 1 :])
            part = ir.AffineExpr.get_floor_div(position, ir.AffineExpr.get_constant(inner))
            if k > 0:
                part = ir.AffineExpr.get_mod(part, ir.AffineExpr.get_constant(expanded[d]))
            exprs.append(part)
    if not reassociation:  # down to rank 0: every axis has extent 1
        exprs = [ir.AffineExpr.get_constant(0) for _ in expanded]
    return exprs


def slice_exprs(
    offsets: Sequence[int], strides: Sequence[int], kept: Sequence[int] | None = None
) -> list[ir.AffineExpr]:
    """Index into the source from an index into the slice; it has only the axes `kept`, by default all."""
    axes = list(range(len(offsets))) if kept is None else list(kept)
    exprs = [ir.AffineExpr.get_constant(offset) for offset in offsets]
    for position, axis in enumerate(axes):
        exprs[axis] = ir.AffineExpr.get_dim(position) * strides[axis] + offsets[axis]
    return exprs


def _linearise(group: Sequence[int], extents: Sequence[int]) -> ir.AffineExpr:
    """Row-major position within the group; axes of extent 1 contribute nothing (but stand for themselves if alone)."""
    expr = ir.AffineExpr.get_constant(0)
    for d in [d for d in group if extents[d] != 1] or group[:1]:
        expr = expr * extents[d] + ir.AffineExpr.get_dim(d)
    return expr
