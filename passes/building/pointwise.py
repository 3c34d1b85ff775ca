"""Element-wise nests, and their bodies instantiated elsewhere: at another address, on a value, on whole vectors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch_mlir import ir

from loopmorph.passes.affine_expr import linear_form, simplify, substitute, used_dims
from loopmorph.passes.analysis.memory.index_maps import Frame, invert
from loopmorph.passes.building.nest_builder import load, store, vector_load, vector_store
from loopmorph.passes.building.widen import as_vector, is_constant, is_elementwise, widen
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Nest

Form = Literal["uniform", "contiguous"]


@dataclass(frozen=True)
class Pointwise:
    """A nest that stores one value, computed from loads alone, per point, each point to an element of its own."""

    nest: Nest
    store: Access

    @property
    def extents(self) -> tuple[int, ...]:
        """Extents of its loops, outermost first."""
        return tuple(e for e in self.nest.extents if e is not None)

    def loads_of(self, memref: ir.Value) -> tuple[Access, ...]:
        """Its loads of one memref."""
        return tuple(a for a in self.nest.loads if a.memref == memref)

    @property
    def outer_values(self) -> list[ir.Value]:
        """The scalars from outside of the nest that its body uses."""
        ops = self.nest.body
        inner = {r for op in ops for r in op.results} | {loop.variable for loop in self.nest.loops}
        values = {v: None for op in ops for v in op.operands if not isinstance(v.type, ir.MemRefType)}
        return [v for v in values if v not in inner]


@dataclass(frozen=True)
class Place:
    """An element, or with lanes a row of elements: the address of the first; "uniform": the same one in each lane."""

    memref: ir.Value
    exprs: tuple[ir.AffineExpr, ...]
    form: Form


@dataclass(frozen=True)
class Instance:
    """A body at certain iterators: where each of its loads (by its result) and its store come to lie."""

    body: Pointwise
    loads: Mapping[ir.Value, Place]
    store: Place
    address: tuple[ir.AffineExpr, ...]


@dataclass
class Builder:
    """Builds instances in one block, one after the other; equal loads and operations are built once."""

    frame: Frame
    built: dict[Hashable, ir.Value] = field(default_factory=dict)

    def compute(self, instance: Instance, given: Mapping[ir.Value, ir.Value]) -> ir.Value:
        """Builds the body at the current insertion point.

        Args:
            instance: what to build.
            given: values that take the place of loads, by the load's result.

        Returns:
            The value that the body would store; with lanes a vector.
        """
        values = dict(given)
        for op in instance.body.nest.body:
            if op.name == "affine.load" and op.results[0] not in given:
                values[op.results[0]] = self._load(instance.loads[op.results[0]])
            elif is_elementwise(op) and op.name != "arith.constant":
                values[op.results[0]] = self._apply(op, [values.get(v, v) for v in op.operands])
        written = instance.body.store.op
        result = values.get(written.operands[0], written.operands[0])
        return self._as_scalar(result, written) if self.frame.width is None else self._as_vector(result)

    def store(self, value: ir.Value, place: Place) -> None:
        """Stores what `compute` returned."""
        variables = self.frame.variables
        map_ = ir.AffineMap.get(len(variables), 0, list(place.exprs))
        if self.frame.width is None:
            store(value, place.memref, map_, variables)
        else:
            vector_store(value, place.memref, map_, variables)

    def _load(self, place: Place) -> ir.Value:
        variables, width = self.frame.variables, self.frame.width
        map_ = ir.AffineMap.get(len(variables), 0, list(place.exprs))
        if width is None or place.form == "uniform":
            return self._once((place, "element"), lambda: load(place.memref, map_, variables))
        return self._once((place, "row"), lambda: vector_load(place.memref, map_, variables, width))

    def _apply(self, op: ir.Operation, values: Sequence[ir.Value]) -> ir.Value:
        wide = any(isinstance(v.type, ir.VectorType) for v in values)
        operands = tuple(self._as_vector(v) if wide else self._as_scalar(v, op) for v in values)
        return self._once((op, operands), lambda: widen(op, operands, self.frame.width or 1)[0])

    def _as_vector(self, value: ir.Value) -> ir.Value:
        return self._once(("vector", value), lambda: as_vector(value, self.frame.width or 1))

    def _as_scalar(self, value: ir.Value, user: ir.Operation) -> ir.Value:
        """The value itself, unless it is a constant of the body, which does not exist here yet."""
        if not is_constant(value) or value.owner.operation.block != user.block:
            return value
        return self._once(("scalar", value), lambda: value.owner.operation.clone().results[0])

    def _once(self, key: Hashable, build: Callable[[], ir.Value]) -> ir.Value:
        if key not in self.built:
            self.built[key] = build()
        return self.built[key]


def pointwise(nest: Nest) -> Pointwise:
    """The nest as an element-wise one.

    Raises:
        IllegalTransform: it is none; says why.
    """
    if not nest.is_perfect or not nest.is_rectangular or any(len(loop.op.operation.results) for loop in nest.loops):
        raise IllegalTransform(nest.label, "its loops are not perfectly nested, from 0 to a constant with step 1")
    if len(nest.stores) != 1:
        raise IllegalTransform(nest.label, f"it has {len(nest.stores)} stores per point")
    (written,) = nest.stores
    for op in nest.body:
        if not (is_elementwise(op) or op.name in ("affine.load", "affine.store") or _is_index(op)):
            raise IllegalTransform(nest.label, f"it contains '{op.name}'")
    if any(a.memref == written.memref and (a.exprs != written.exprs or a.order > written.order) for a in nest.loads):
        raise IllegalTransform(nest.label, "it reads other elements of the memref that it writes")
    extents = [e or 0 for e in nest.extents]
    if invert(written.exprs, extents) is None:
        raise IllegalTransform(nest.label, "several of its points may write one element")
    return Pointwise(nest, written)


def instantiate(
    body: Pointwise, index: Sequence[ir.AffineExpr], address: Sequence[ir.AffineExpr], frame: Frame
) -> Instance:
    """The body for the points at which one of its accesses has a certain address.

    Args:
        body: the element-wise nest.
        index: the access, over its iterators; `invert` must understand it.
        address: the address, over the frame.
        frame: where it is to be built.

    Raises:
        IllegalTransform: an access whose lanes neither coincide nor lie next to each other.
    """
    inverse = invert(index, body.extents)
    if inverse is None:
        raise IllegalTransform(body.nest.label, "an element does not determine the point that accesses it")
    axes = dict(enumerate(address))
    return at_point(body, [substitute(e, axes, len(axes)) for e in inverse], frame)


def at_point(body: Pointwise, iterators: Sequence[ir.AffineExpr], frame: Frame) -> Instance:
    """The body at certain iterators of its own, given over the frame.

    Raises:
        IllegalTransform: an access whose lanes neither coincide nor lie next to each other.
    """
    point = {d: simplify(e, frame.extents) for d, e in enumerate(iterators)}
    loads = {a.op.results[0]: _place(a, point, frame, body) for a in body.nest.loads}
    return Instance(body, loads, _place(body.store, point, frame, body), _at(body.store, point, frame))


def _at(access: Access, point: Mapping[int, ir.AffineExpr], frame: Frame) -> tuple[ir.AffineExpr, ...]:
    return tuple(simplify(substitute(e, point, len(point)), frame.extents) for e in access.exprs)


def _place(access: Access, point: Mapping[int, ir.AffineExpr], frame: Frame, body: Pointwise) -> Place:
    exprs = _at(access, point, frame)
    lane = len(frame.variables)
    moving = [k for k, e in enumerate(exprs) if lane in used_dims(e)]
    if not moving and (frame.width is None or access.kind == "load"):
        return Place(access.memref, exprs, "uniform")
    form = linear_form(exprs[-1]) if exprs else None
    by_one = moving == [len(exprs) - 1] and form is not None and form.coefficients[lane] == 1
    if not by_one or not is_dense(ir.MemRefType(access.memref.type)):
        reason = f"the elements that it {access.kind}s for the lanes of a vector do not lie side by side"
        raise IllegalTransform(body.nest.label, reason)
    first = {lane: ir.AffineExpr.get_constant(0)}
    return Place(access.memref, tuple(substitute(e, first, lane + 1) for e in exprs), "contiguous")


def _is_index(op: ir.Operation) -> bool:
    """Whether the operation computes a part of an address, which access maps contain already."""
    return op.name in ("affine.apply", "arith.constant") and isinstance(op.results[0].type, ir.IndexType)


def is_dense(kind: ir.MemRefType) -> bool:
    """Whether a row of elements lies in memory as a vector does: an i1 fills a byte in a memref, a bit in a vector."""
    element = kind.element_type
    whole_bytes = not isinstance(element, ir.IntegerType) or element.width % 8 == 0
    return whole_bytes and kind.affine_map == ir.AffineMap.get_identity(kind.rank)
