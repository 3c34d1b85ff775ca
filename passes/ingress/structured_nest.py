"""One linalg operation with indexing maps and a region, on tensors or memrefs, as an affine nest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.definitions import is_used
from loopmorph.passes.analysis.iterator_names import names_by_rank
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.errors import ImportRefused
from loopmorph.passes.ingress.axis_names import Axes, names_by_axes
from loopmorph.passes.ingress.element_access import load_element
from loopmorph.passes.ingress.linalg_operations import (
    describe,
    indexing_maps,
    is_tensor,
    iteration_extents,
    iterator_names,
    loop_order,
    replacing,
)
from loopmorph.passes.ingress.tensor_views import Filled, TensorValue, View, compose

Source: TypeAlias = TensorValue | ir.Value


@dataclass(frozen=True)
class StructuredOperation:
    """What a linalg operation says of its nest.

    Attributes:
        op: the operation.
        maps: of each operand, from iteration dimensions to the element that is accessed.
        extents: of each iteration dimension.
        names: of each iteration dimension, the iterator's name.
        n_outputs: how many operands, at the end, are written.
    """

    op: ir.Operation
    maps: tuple[ir.AffineMap, ...]
    extents: tuple[int, ...]
    names: tuple[str, ...]
    n_outputs: int

    @classmethod
    def read(cls, op: ir.Operation, axes: Axes) -> StructuredOperation:
        """Reads the operation; `axes` are those of what it accesses, where they are known.

        Raises:
            ImportRefused: it has no indexing maps, is quantised, an extent is not constant, or an operation of its body
                has no place in an affine nest.
        """
        if "quantized" in op.name or op.name.endswith("_q"):
            raise ImportRefused(f"{describe(op)}: quantised operations are not supported")
        maps = tuple(indexing_maps(op))
        _check_body(op)
        extents = tuple(iteration_extents(op, maps, list(op.operands)))
        names = iterator_names(op) or names_by_axes(op, axes) or names_by_rank(len(extents))
        # Of generic ones the bindings do not tell; what is no input is an output.
        n_outputs = len(op.regions[0].blocks[0].operations[-1].operation.operands)
        return cls(op, maps, extents, names, n_outputs)

    @property
    def body(self) -> ir.Block:
        return self.op.regions[0].blocks[0]

    @property
    def inputs(self) -> list[tuple[ir.Value, bool]]:
        """The operands that are only read, and whether the body does read each."""
        return self._operands()[: -self.n_outputs]

    @property
    def outputs(self) -> list[tuple[ir.Value, bool]]:
        """The operands that are written, and whether the body reads them before."""
        return self._operands()[-self.n_outputs :]

    def _operands(self) -> list[tuple[ir.Value, bool]]:
        arguments = self.body.arguments
        return [(operand, is_used(argument)) for operand, argument in zip(self.op.operands, arguments, strict=True)]

    def build(
        self,
        sources: Sequence[Source],
        scalars: Mapping[ir.Value, ir.Value],
        tensors: Mapping[ir.Value, TensorValue],
    ) -> ir.Operation | None:
        """Builds the nest at the current insertion point; returns its outermost loop.

        Args:
            sources: where each operand lies; a value that is no tensor stands for itself.
            scalars: what the values outside that the body uses have become; a missing one stays.
            tensors: where the tensors lie that the body reads elements of.

        Raises:
            ImportRefused: it reads a tensor that has no values; on memrefs nothing is refused any more.
        """
        order = loop_order(self.maps[-1], len(self.extents))
        placement = {d: ir.AffineExpr.get_dim(order.index(d)) for d in range(len(order))}
        ordered = tuple(self.extents[d] for d in order)
        access = [[e.compose(replacing(placement, len(order))) for e in m.results] for m in self.maps]

        def body(variables: list[ir.Value]) -> None:
            values = dict(scalars)
            for argument, source, exprs in zip(self.body.arguments, sources, access, strict=True):
                if is_used(argument):
                    values[argument] = read(source, exprs, ordered, variables, self.op)
            for inner in self.body.operations:
                if inner.operation.name == "linalg.index":
                    values[inner.results[0]] = variables[order.index(ir.IntegerAttr(inner.attributes["dim"]).value)]
                elif inner.operation.name == "linalg.yield":
                    outputs = zip(inner.operands, sources[-self.n_outputs :], access[-self.n_outputs :], strict=True)
                    for value, source, exprs in outputs:
                        assert isinstance(source, View)
                        results = compose(source.map.results, exprs, ordered)
                        map_ = ir.AffineMap.get(len(ordered), 0, results)
                        store(values.get(value, value), source.memref, map_, variables)
                else:
                    self._copy(inner.operation, values, variables, tensors)

        header = NestHeader(tuple(self.names[d] for d in order), ordered, marks_of(self.op, marks.MAIN))
        return build_nest(header, body, self.op.location)

    def _copy(
        self,
        inner: ir.Operation,
        values: dict[ir.Value, ir.Value],
        variables: Sequence[ir.Value],
        tensors: Mapping[ir.Value, TensorValue],
    ) -> None:
        """An operation of the body, in the nest."""
        if inner.name == "tensor.extract":
            source, *indices = inner.operands
            position = [values.get(i, i) for i in indices]
            values[inner.results[0]] = load_element(tensors[source], position, variables, describe(self.op))
        elif inner.name == "cf.assert":  # the index is brought into range where it is used
            return
        else:
            copy_scalar(inner, values)


def _check_body(op: ir.Operation) -> None:
    for inner in (view.operation for view in op.regions[0].blocks[0].operations):
        tensors = inner.name != "tensor.extract" and any(is_tensor(v.type) for v in inner.operands)
        if len(inner.regions) or tensors:
            raise ImportRefused(f"{describe(inner)} in {describe(op)}: cannot be lowered to an affine nest")


def read(
    source: Source,
    exprs: Sequence[ir.AffineExpr],
    extents: Sequence[int],
    variables: Sequence[ir.Value],
    op: ir.Operation,
) -> ir.Value:
    """The element of `source` at `exprs(variables)`, built at the current insertion point, for `op`.

    Raises:
        ImportRefused: a tensor without values.
    """
    if isinstance(source, View):
        map_ = ir.AffineMap.get(len(extents), 0, compose(source.map.results, exprs, extents))
        return load(source.memref, map_, variables)
    if isinstance(source, Filled):
        return source.value
    if isinstance(source, ir.Value):
        return source
    raise ImportRefused(f"{describe(op)}: a tensor is read that nothing has written")


def copy_scalar(op: ir.Operation, values: dict[ir.Value, ir.Value]) -> None:
    """Copies an operation to the current insertion point, with its operands as `values` has them, and notes its
    results there."""
    clone = op.clone()
    for position, operand in enumerate(clone.operands):
        if operand in values:
            clone.operands[position] = values[operand]
    values.update(zip(op.results, clone.results, strict=True))


def marks_of(op: ir.Operation, role: str) -> dict[str, str]:
    """The marks of a nest that an operation becomes; its own role, where it has one, is that of its main nest."""
    result = {name: marks.get_text(op, name) for name in (marks.LAYER, marks.NODE) if name in op.attributes}
    return {**result, marks.ROLE: marks.get_text(op, marks.ROLE, role) if role == marks.MAIN else role}
