"""`morph-linalg-to-affine`: tensors become memrefs and every tensor operation an affine nest with named iterators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import arith, func, memref

from loopmorph.passes import marks
from loopmorph.passes.analysis.definitions import is_used
from loopmorph.passes.base import Pass
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.errors import ImportRefused
from loopmorph.passes.ingress.element_access import load_element
from loopmorph.passes.ingress.linalg_operations import (
    ITERATORS_BY_RANK,
    describe,
    indexing_maps,
    is_tensor,
    iteration_extents,
    iterator_names,
    loop_order,
    memref_type,
    replacing,
    static,
    static_shape,
)
from loopmorph.passes.ingress.rearrangements import REARRANGEMENTS, rearranged, reassociation
from loopmorph.passes.ingress.tensor_views import (
    Filled,
    TensorValue,
    Uninitialised,
    View,
    compose,
    expand_exprs,
    identity_view,
    reindex,
    slice_exprs,
)
from loopmorph.passes.nest import Nest, nests


@dataclass(frozen=True)
class LinalgToAffine(Pass):
    """Lowers functions on tensors (linalg, tensor, arith) to functions on memrefs (affine, memref, arith).

    Every tensor gets a memref of its own, written by at most one start-value nest and one main nest: no buffer is
    used twice, so the analyses see the network's data flow; buffers are shared only when the program is compiled.
    Reshapes, slices, transposes and broadcasts become access maps of their readers. Results are written to
    memref arguments appended to the function, marked `morph.output`; arguments that nobody reads are dropped.
    Nests carry the marks of `loopmorph.passes.marks`.

        %1 = linalg.fill ins(%zero : f32) outs(%0 : tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
        %2 = linalg.conv_2d_nchw_fchw {morph.layer = "conv1"} ins(%x, %w : ...) outs(%1 : ...) -> ...

    becomes

        %o = memref.alloc() : memref<1x8x4x4xf32>
        affine.for %n = 0 to 1 {
          ... affine.store %zero, %o[%n, %co, %oh, %ow] ...
        } {morph.iter = "n", morph.layer = "conv1", morph.role = "init"}
        affine.for %n = 0 to 1 {
          affine.for %co = 0 to 8 { ... affine.for %kw = 0 to 3 {
            %a = affine.load %x[%n, %ci, %oh + %kh, %ow + %kw] : memref<1x4x6x6xf32>
            ...
          } {morph.iter = "kw"} ... } {morph.iter = "co"}
        } {morph.iter = "n", morph.layer = "conv1", morph.role = "main"}

    Raises:
        ImportRefused: a dynamic shape, or an operation that is no affine nest; names it and its location.
    """

    name: ClassVar[str] = "morph-linalg-to-affine"

    def run(self, module: ir.Operation) -> None:
        with module.context:
            for function in [f for f in module.regions[0].blocks[0].operations if isinstance(f, func.FuncOp)]:
                if not function.is_external and _has_tensors(function):
                    _FunctionLowering(function).run()
            _tell_helpers_from_main_nests(module)


@dataclass
class _FunctionLowering:
    """Builds the memref function beside the tensor one, operation by operation, then removes the latter."""

    old: func.FuncOp
    tensors: dict[ir.Value, TensorValue] = field(default_factory=dict)
    scalars: dict[ir.Value, ir.Value] = field(default_factory=dict)
    returned: list[ir.Value] = field(default_factory=list)

    def run(self) -> None:
        with self.old.location:
            new = self._declare()
            with ir.InsertionPoint(new.entry_block):
                for op in self.old.entry_block.operations:
                    self._lower(op)
                func.ReturnOp([])
        name = self.old.name.value
        self.old.operation.erase()
        new.attributes["sym_name"] = ir.StringAttr.get(name)

    def _declare(self) -> func.FuncOp:
        """The new function: the arguments that are read, then one memref per result."""
        block = self.old.entry_block
        kept = [(a, m) for a, m in zip(block.arguments, marks.argument_marks(self.old), strict=True) if is_used(a)]
        results = self.old.type.results
        types = [memref_type(a.type, self.old.location) for a, _ in kept]
        types += [memref_type(t, self.old.location) for t in results]
        index = ir.IntegerType.get_signless(64)
        argument_marks = [m for _, m in kept]
        argument_marks += [{marks.OUTPUT: ir.IntegerAttr.get(index, k)} for k in range(len(results))]
        with ir.InsertionPoint(self.old.operation):
            new = func.FuncOp(self.old.name.value + ".memref", (types, []))
            new.add_entry_block()
        marks.set_argument_marks(new, argument_marks)
        arguments = list(new.entry_block.arguments)
        for (argument, _), replacement in zip(kept, arguments, strict=False):
            self.tensors[argument] = identity_view(replacement)
        self.returned = arguments[len(kept) :]
        return new

    def _lower(self, view: ir.OpView) -> None:
        op = view.operation
        handler = _HANDLERS.get(op.name)
        with op.location:
            if handler is not None:
                handler(self, op)
            elif op.name in REARRANGEMENTS:
                self.tensors[op.results[0]] = rearranged(op, self.tensors[op.operands[0]])
            elif op.name.startswith("linalg."):
                self._lower_structured(op)
            elif all(not is_tensor(v.type) for v in [*op.operands, *op.results]) and not len(op.regions):
                self._clone_scalar(op)
            else:
                raise ImportRefused(f"{describe(op)}: cannot be lowered to an affine nest")

    # -- scalars and structured operations

    def _clone_scalar(self, op: ir.Operation) -> None:
        if op.name == "cf.assert":  # guards on run-time values (BatchNorm's reciprocal); they would block the analyses
            return
        clone = op.clone()
        _remap(clone, self.scalars)
        self.scalars.update(zip(op.results, clone.results, strict=True))

    def _lower_structured(self, op: ir.Operation) -> None:
        """Any linalg operation with indexing maps and a region: one nest, plus start-value nests for its outputs."""
        maps = indexing_maps(op)
        outputs = [v for v in op.operands if is_tensor(v.type)][-len(op.results) :]
        operands = list(op.operands)
        extents = iteration_extents(op, maps, operands)
        names = iterator_names(op) or ITERATORS_BY_RANK.get(len(extents))
        names = names or tuple(f"i{d}" for d in range(len(extents)))
        block = op.regions[0].blocks[0]
        sources: list[TensorValue | ir.Value] = []
        for position, (operand, argument) in enumerate(zip(operands, block.arguments, strict=True)):
            if position >= len(operands) - len(outputs):
                result = op.results[position - len(operands) + len(outputs)]
                sources.append(self._output_view(op, operand, result, initialise=is_used(argument)))
            else:
                sources.append(self.tensors[operand] if is_tensor(operand.type) else self.scalars[operand])
        order = loop_order(maps[-1], len(extents))
        self._emit_structured(op, maps, sources, names, extents, order)
        for result, source in zip(op.results, sources[len(operands) - len(outputs) :], strict=True):
            assert isinstance(source, View)
            self.tensors[result] = source

    def _emit_structured(
        self,
        op: ir.Operation,
        maps: Sequence[ir.AffineMap],
        sources: Sequence[TensorValue | ir.Value],
        names: Sequence[str],
        extents: Sequence[int],
        order: Sequence[int],
    ) -> None:
        block = op.regions[0].blocks[0]
        placement = {d: ir.AffineExpr.get_dim(order.index(d)) for d in range(len(extents))}
        ordered = [extents[d] for d in order]
        access = [[e.compose(replacing(placement, len(order))) for e in m.results] for m in maps]

        def body(variables: list[ir.Value]) -> None:
            values = dict(self.scalars)
            for argument, source, exprs in zip(block.arguments, sources, access, strict=True):
                if is_used(argument):
                    values[argument] = _read(source, exprs, ordered, variables)
            for inner in block.operations:
                if inner.operation.name == "linalg.yield":
                    for value, source, exprs in zip(
                        inner.operands, sources[-len(op.results) :], access[-len(op.results) :], strict=True
                    ):
                        assert isinstance(source, View)
                        results = compose(source.map.results, exprs, ordered)
                        store(values[value], source.memref, ir.AffineMap.get(len(ordered), 0, results), variables)
                elif inner.operation.name == "linalg.index":
                    values[inner.results[0]] = variables[order.index(ir.IntegerAttr(inner.attributes["dim"]).value)]
                elif inner.operation.name == "tensor.extract":
                    source, *indices = inner.operands
                    position = [values.get(i, i) for i in indices]
                    values[inner.results[0]] = load_element(self.tensors[source], position, variables, describe(op))
                elif inner.operation.name == "cf.assert":  # the index is brought into range where it is used
                    continue
                elif len(inner.operation.regions) or any(is_tensor(v.type) for v in inner.operands):
                    raise ImportRefused(
                        f"{describe(inner.operation)} in {describe(op)}: cannot be lowered to an affine nest"
                    )
                else:
                    clone = inner.operation.clone()
                    _remap(clone, values)
                    values.update(zip(inner.results, clone.results, strict=True))

        header = NestHeader(tuple(names[d] for d in order), tuple(ordered), _marks(op, marks.MAIN))
        build_nest(header, body, op.location)

    def _output_view(self, op: ir.Operation, start: ir.Value, result: ir.Value, *, initialise: bool) -> View:
        """The memref that `result` is computed in, filled with `start`'s values where the nest reads them."""
        view = self._allocate(result)
        if initialise:
            self._copy(op, marks.INIT, self.tensors[start], view)
        return view

    def _allocate(self, result: ir.Value) -> View:
        """A memref for `result`; a grouped convolution has one channel axis if its reader merges group and channel."""
        users = [use.owner for use in result.uses]
        if len(users) == 1 and users[0].name == "func.return":
            return identity_view(self.returned[list(users[0].operands).index(result)])
        type_ = ir.RankedTensorType(result.type)
        grouped = "g" in iterator_names(result.owner)
        if grouped and len(users) == 1 and users[0].name == "tensor.collapse_shape":
            collapsed = users[0].results[0]
            exprs = expand_exprs(reassociation(users[0]), type_.shape)
            view = reindex(self._allocate(collapsed), exprs, type_.shape)
            assert isinstance(view, View)
            return view
        return identity_view(memref.AllocOp(memref_type(type_, ir.Location.current), [], []).result)

    def _copy(
        self,
        op: ir.Operation,
        role: str,
        source: TensorValue,
        target: View,
        names: Sequence[str] | None = None,
    ) -> None:
        """A nest over `source`'s elements that stores each at the same index of `target`."""
        if isinstance(source, Uninitialised):
            return
        rank = len(source.shape)
        exprs = [ir.AffineExpr.get_dim(d) for d in range(rank)]

        def body(variables: list[ir.Value]) -> None:
            value = _read(source, exprs, source.shape, variables)
            store(value, target.memref, target.map, variables)

        names = names or ITERATORS_BY_RANK.get(rank) or tuple(f"i{d}" for d in range(rank))
        build_nest(NestHeader(tuple(names), source.shape, _marks(op, role)), body, op.location)

    # -- tensor operations

    def _constant(self, op: ir.Operation) -> None:
        if not is_tensor(op.results[0].type):
            self._clone_scalar(op)
            return
        value = op.attributes["value"]
        if not isinstance(value, ir.DenseElementsAttr) or not value.is_splat:
            raise ImportRefused(f"{describe(op)}: a constant tensor inside the program; it must be an argument")
        splat = value.get_splat_value()
        type_ = ir.RankedTensorType(op.results[0].type)
        self.tensors[op.results[0]] = Filled(arith.ConstantOp(type_.element_type, splat).result, tuple(type_.shape))

    def _empty(self, op: ir.Operation) -> None:
        self.tensors[op.results[0]] = Uninitialised(static_shape(op.results[0].type, op.location))

    def _fill(self, op: ir.Operation) -> None:
        value, shape = self.scalars[op.operands[0]], static_shape(op.results[0].type, op.location)
        self.tensors[op.results[0]] = Filled(value, shape)

    def _cast(self, op: ir.Operation) -> None:
        self.tensors[op.results[0]] = self.tensors[op.operands[0]]

    def _insert_slice(self, op: ir.Operation) -> None:
        view = self._allocate(op.results[0])
        source, target = self.tensors[op.operands[0]], self.tensors[op.operands[1]]
        if tuple(static(op, "static_sizes")) != source.shape:
            raise ImportRefused(f"{describe(op)}: a slice that drops axes")
        self._copy(op, marks.INIT, target, view)
        self._copy_into(op, marks.COPY, source, view, static(op, "static_offsets"), static(op, "static_strides"))
        self.tensors[op.results[0]] = view

    def _pad(self, op: ir.Operation) -> None:
        low, yielded = static(op, "static_low"), op.regions[0].blocks[0].operations[0].operands[0]
        if yielded not in self.scalars:
            raise ImportRefused(f"{describe(op)}: a padding value that depends on the position")
        view = self._allocate(op.results[0])
        self._copy(op, marks.INIT, Filled(self.scalars[yielded], view.shape), view)
        self._copy_into(op, marks.PAD, self.tensors[op.operands[0]], view, low, [1] * len(low))
        self.tensors[op.results[0]] = view

    def _concat(self, op: ir.Operation) -> None:
        view = self._allocate(op.results[0])
        axis, offset = ir.IntegerAttr(op.attributes["dim"]).value, 0
        for operand in op.operands:
            source = self.tensors[operand]
            offsets = [offset if d == axis else 0 for d in range(len(view.shape))]
            self._copy_into(op, marks.COPY, source, view, offsets, [1] * len(offsets))
            offset += source.shape[axis]
        self.tensors[op.results[0]] = view

    def _copy_into(
        self,
        op: ir.Operation,
        role: str,
        source: TensorValue,
        target: View,
        offsets: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        part = reindex(target, slice_exprs(offsets, strides), source.shape)
        assert isinstance(part, View)
        self._copy(op, role, source, part)

    def _return(self, op: ir.Operation) -> None:
        for operand, out in zip(op.operands, self.returned, strict=True):
            value = self.tensors[operand]
            if not (isinstance(value, View) and value.memref == out):
                self._copy(op, marks.COPY, value, identity_view(out))


def _tell_helpers_from_main_nests(module: ir.Operation) -> None:
    """Leaves one "main" nest to each layer: the largest; those before it become "prologue", those after "epilogue"."""
    layers: dict[str, list[Nest]] = {}
    for nest in nests(module):
        if nest.role == marks.MAIN and nest.layer:
            layers.setdefault(nest.layer, []).append(nest)
    for members in layers.values():
        largest = max(range(len(members)), key=lambda k: (members[k].points, k))
        for k, nest in enumerate(members):
            role = marks.PROLOGUE if k < largest else marks.EPILOGUE if k > largest else marks.MAIN
            nest.root.attributes[marks.ROLE] = ir.StringAttr.get(role)


_HANDLERS: dict[str, Callable[[_FunctionLowering, ir.Operation], None]] = {
    "arith.constant": _FunctionLowering._constant,
    "func.return": _FunctionLowering._return,
    "linalg.fill": _FunctionLowering._fill,
    "tensor.cast": _FunctionLowering._cast,
    "tensor.concat": _FunctionLowering._concat,
    "tensor.empty": _FunctionLowering._empty,
    "tensor.insert_slice": _FunctionLowering._insert_slice,
    "tensor.pad": _FunctionLowering._pad,
}


def _read(
    source: TensorValue | ir.Value,
    exprs: Sequence[ir.AffineExpr],
    extents: Sequence[int],
    variables: Sequence[ir.Value],
) -> ir.Value:
    if isinstance(source, View):
        map_ = ir.AffineMap.get(len(extents), 0, compose(source.map.results, exprs, extents))
        return load(source.memref, map_, variables)
    if isinstance(source, Filled):
        return source.value
    if isinstance(source, Uninitialised):
        raise ImportRefused("a tensor is read that nothing has written")
    return source


def _remap(op: ir.Operation, values: dict[ir.Value, ir.Value]) -> None:
    for position, operand in enumerate(op.operands):
        if operand in values:
            op.operands[position] = values[operand]


def _marks(op: ir.Operation, role: str) -> dict[str, str]:
    result = {name: marks.get_text(op, name) for name in (marks.LAYER, marks.NODE) if name in op.attributes}
    return {**result, marks.ROLE: role}


def _has_tensors(function: func.FuncOp) -> bool:
    return any(is_tensor(t) for t in [*function.type.inputs, *function.type.results])
