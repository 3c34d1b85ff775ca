"""Building a rectangular `affine.for` nest with named iterators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import substitute, used_dims
from loopmorph.passes.nest import LoadOp


@dataclass(frozen=True)
class NestHeader:
    """What the loops of a new nest are: iterator names and extents, outermost first, and the outermost loop's marks."""

    iterators: tuple[str, ...]
    extents: tuple[int, ...]
    marks: Mapping[str, str]


def build_nest(
    header: NestHeader, body: Callable[[list[ir.Value]], None], location: ir.Location
) -> ir.Operation | None:
    """Builds the nest at the current insertion point; returns its outermost loop (None for a nest without loops).

    Args:
        header: the loops; every one runs from 0 to its extent with step 1.
        body: called once with the induction variables, outermost first, to build the innermost body.
        location: the location of every loop and of what `body` builds.
    """
    if not header.iterators:
        with location:
            body([])
        return None
    root: ir.Operation | None = None
    variables: list[ir.Value] = []
    points: list[ir.InsertionPoint] = []
    with location:
        for name, extent in zip(header.iterators, header.extents, strict=True):
            with points[-1] if points else ir.InsertionPoint.current:
                loop = affine.AffineForOp(0, extent, 1)
            loop.attributes[marks.ITER] = ir.StringAttr.get(name)
            variables.append(loop.induction_variable)
            with ir.InsertionPoint(loop.body):
                end = affine.AffineYieldOp([])
            points.append(ir.InsertionPoint(end))
            root = root or loop.operation
        with points[-1]:
            body(variables)
    if root is not None:
        for name, text in header.marks.items():
            root.attributes[name] = ir.StringAttr.get(text)
    return root


def load(memref: ir.Value, map_: ir.AffineMap, variables: Sequence[ir.Value]) -> ir.Value:
    """`affine.load memref[map(variables)]`, with only the variables that the map uses as operands."""
    compact, operands = compress(map_, variables)
    element = ir.MemRefType(memref.type).element_type
    return affine.AffineLoadOp(element, memref, operands, compact).result


def store(value: ir.Value, memref: ir.Value, map_: ir.AffineMap, variables: Sequence[ir.Value]) -> ir.Operation:
    """`affine.store value, memref[map(variables)]`."""
    compact, operands = compress(map_, variables)
    return affine.AffineStoreOp(value, memref, operands, compact).operation


def vector_load(memref: ir.Value, map_: ir.AffineMap, variables: Sequence[ir.Value], lanes: int) -> ir.Value:
    """`affine.vector_load memref[map(variables)]` of `lanes` elements along the last axis."""
    compact, operands = compress(map_, variables)
    vector = ir.VectorType.get([lanes], ir.MemRefType(memref.type).element_type)
    return affine.AffineVectorLoadOp(vector, memref, operands, compact).result


def vector_store(value: ir.Value, memref: ir.Value, map_: ir.AffineMap, variables: Sequence[ir.Value]) -> ir.Operation:
    """`affine.vector_store value, memref[map(variables)]`."""
    compact, operands = compress(map_, variables)
    return affine.AffineVectorStoreOp(value, memref, operands, compact).operation


def compress(map_: ir.AffineMap, variables: Sequence[ir.Value]) -> tuple[ir.AffineMap, list[ir.Value]]:
    """The map over only those of `variables` that it uses, and these in order."""
    exprs = list(map_.results)
    used = sorted({d for e in exprs for d in used_dims(e)})
    if len(used) == map_.n_dims:
        return map_, list(variables[: len(used)])
    renumbering = {old: ir.AffineExpr.get_dim(new) for new, old in enumerate(used)}
    results = [substitute(e, renumbering, map_.n_dims) for e in exprs]
    return ir.AffineMap.get(len(used), 0, results), [variables[d] for d in used]


def rewrite_access(op: ir.Operation, exprs: Sequence[ir.AffineExpr], variables: Sequence[ir.Value]) -> ir.Operation:
    """Replaces an access, scalar or vector, by one of the same memref at `exprs(variables)`; returns the new one."""
    return replace_access(op, *compress(ir.AffineMap.get(len(variables), 0, list(exprs)), variables))


def replace_access(op: ir.Operation, map_: ir.AffineMap, operands: Sequence[ir.Value]) -> ir.Operation:
    """The same for a map that uses all of its operands."""
    view = op.opview
    with ir.InsertionPoint(op), op.location:
        if isinstance(view, LoadOp):
            new = type(view)(view.result.type, view.memref, operands, map_)
            op.results[0].replace_all_uses_with(new.result)
        else:
            new = type(view)(view.value, view.memref, operands, map_)
    op.erase()
    return new.operation


def replace_operands(op: ir.Operation, values: Mapping[ir.Value, ir.Value]) -> None:
    """Replaces operands of an operation and all that it holds."""

    def visit(each: ir.Operation) -> ir.WalkResult:
        for k, value in enumerate(each.operands):
            if value in values:
                each.operands[k] = values[value]
        return ir.WalkResult.ADVANCE

    op.walk(visit)
