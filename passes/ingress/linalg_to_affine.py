"""`morph-linalg-to-affine`: tensors become memrefs and every tensor operation an affine nest with named iterators."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import arith, func, memref

from loopmorph.passes import marks
from loopmorph.passes.analysis.definitions import is_used
from loopmorph.passes.analysis.iterator_names import names_by_rank
from loopmorph.passes.arithmetic import ARITHMETIC
from loopmorph.passes.base import Pass
from loopmorph.passes.building.name_nests import name_nests, tell_helpers
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, store
from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import ImportRefused
from loopmorph.passes.ingress.axis_names import Axes, axis_names
from loopmorph.passes.ingress.element_access import affine_index, load_element
from loopmorph.passes.ingress.linalg_operations import (
    describe,
    is_tensor,
    iterator_names,
    memref_type,
    result_type,
    static,
    static_shape,
)
from loopmorph.passes.ingress.memref_operations import lower_on_memrefs
from loopmorph.passes.ingress.rearrangements import REARRANGEMENTS, kept_axes, rearranged, reassociation
from loopmorph.passes.ingress.structured_nest import Source, StructuredOperation, copy_scalar, marks_of, read
from loopmorph.passes.ingress.tensor_views import (
    Filled,
    TensorValue,
    Uninitialised,
    View,
    expand_exprs,
    identity_view,
    reindex,
    slice_exprs,
)
from loopmorph.passes.nest import function_roots, functions


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
        with module.context, ir.Location.unknown():
            name_nests(module)
            built: list[_FunctionLowering] = []
            calls = _callees(module)
            try:
                for function in functions(module):
                    if _has_tensors(function):
                        _refuse_calls(function, calls)
                        built.append(_FunctionLowering(function))
                        built[-1].build()
                lowered = lower_on_memrefs([f for f in functions(module) if not _has_tensors(f)])
            except ImportRefused:
                for lowering in built:
                    lowering.drop()
                raise
            for lowering in built:
                lowered |= lowering.replace()
            tell_helpers(module, lowered)
            name_nests(module)


@dataclass
class _FunctionLowering:
    """Builds the memref function beside the tensor one, operation by operation, then removes the latter."""

    old: func.FuncOp
    new: list[func.FuncOp | memref.GlobalOp] = field(default_factory=list)
    tensors: dict[ir.Value, TensorValue] = field(default_factory=dict)
    scalars: dict[ir.Value, ir.Value] = field(default_factory=dict)
    returned: list[ir.Value] = field(default_factory=list)
    axes: Axes = field(default_factory=dict)

    def build(self) -> None:
        """Builds the new function, under another name, and what it needs beside it."""
        if len(self.old.body.blocks) != 1:
            place = location_text(self.old.location)
            raise ImportRefused(f"function @{self.old.name.value} ({place}): it branches; one block is expected")
        self.axes = axis_names(self.old)
        with self.old.location:
            new = self._declare()
            with ir.InsertionPoint(new.entry_block):
                for op in self.old.entry_block.operations:
                    self._lower(op)
                func.ReturnOp([])

    def replace(self) -> set[str]:
        """Puts the new function in the place of the old one; returns its layers."""
        new, name = self.new[0], self.old.name.value
        self.old.operation.erase()
        new.attributes["sym_name"] = ir.StringAttr.get(name)
        return {marks.get_text(root, marks.LAYER) for root in function_roots(new)}

    def drop(self) -> None:
        """Takes away what has been built."""
        for op in self.new:
            op.operation.erase()
        self.new.clear()

    def _declare(self) -> func.FuncOp:
        """The new function: the arguments, but for those that the importer named and nobody reads, then one memref
        per result."""
        old_marks = marks.argument_marks(self.old)
        kept = [(a, m) for a, m in zip(self.old.entry_block.arguments, old_marks, strict=True) if is_used(a) or not m]
        results = self.old.type.results
        types = [memref_type(a.type, self.old.location) for a, _ in kept]
        types += [result_type(t, self.old.location) for t in results]
        index = ir.IntegerType.get_signless(64)
        argument_marks = [m for _, m in kept]
        argument_marks += [{marks.OUTPUT: ir.IntegerAttr.get(index, k)} for k in range(len(results))]
        with ir.InsertionPoint(self.old.operation):
            new = func.FuncOp(self.old.name.value + ".memref", (types, []))
        self.new.append(new)
        new.add_entry_block()
        for name in set(self.old.attributes) - {"sym_name", "function_type", "arg_attrs", "res_attrs"}:
            new.attributes[name] = self.old.attributes[name]
        marks.set_argument_marks(new, argument_marks)
        arguments = list(new.entry_block.arguments)
        for (argument, _), replacement in zip(kept, arguments, strict=False):
            if is_tensor(argument.type):
                self.tensors[argument] = identity_view(replacement)
            else:
                self.scalars[argument] = replacement
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
                raise ImportRefused(f"{describe(op)}: cannot be lowered to an affine nest{_remedy(op)}")

    # -- scalars and structured operations

    def _clone_scalar(self, op: ir.Operation) -> None:
        if op.name != "cf.assert":  # guards on run-time values (BatchNorm's reciprocal) would block the analyses
            copy_scalar(op, self.scalars)

    def _lower_structured(self, op: ir.Operation) -> None:
        """Any linalg operation with indexing maps and a region: one nest, plus start-value nests for its outputs."""
        if not len(op.results):
            raise ImportRefused(f"{describe(op)}: it works on memrefs, in a function that has tensors")
        structured = StructuredOperation.read(op, self.axes)
        sources: list[Source] = [
            self.tensors[operand] if is_tensor(operand.type) else self.scalars.get(operand, operand)
            for operand, _ in structured.inputs
        ]
        for (operand, initialise), result in zip(structured.outputs, op.results, strict=True):
            self.tensors[result] = self._output_view(op, operand, result, initialise=initialise)
            sources.append(self.tensors[result])
        structured.build(sources, self.scalars, self.tensors)

    def _output_view(self, op: ir.Operation, start: ir.Value, result: ir.Value, *, initialise: bool) -> View:
        """The memref that `result` is computed in, filled with `start`'s values where the nest reads them."""
        view = self._allocate(result)
        if initialise:
            if isinstance(self.tensors[start], Uninitialised):
                raise ImportRefused(f"{describe(op)}: its start values are a tensor that nothing has written")
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

    def _copy(self, op: ir.Operation, role: str, source: TensorValue, target: View) -> None:
        """A nest over `source`'s elements that stores each at the same index of `target`."""
        if isinstance(source, Uninitialised):
            return
        rank = len(source.shape)
        exprs = [ir.AffineExpr.get_dim(d) for d in range(rank)]

        def body(variables: list[ir.Value]) -> None:
            value = read(source, exprs, source.shape, variables, op)
            store(value, target.memref, target.map, variables)

        about = op.results[0] if len(op.results) else op.operands[0]
        names = self.axes.get(about, ())
        names = names if len(names) == rank else names_by_rank(rank)
        build_nest(NestHeader(names, source.shape, marks_of(op, role)), body, op.location)

    # -- tensor operations

    def _constant(self, op: ir.Operation) -> None:
        if not is_tensor(op.results[0].type):
            self._clone_scalar(op)
            return
        value = op.attributes["value"]
        shape = static_shape(op.results[0].type, op.location)
        if isinstance(value, ir.DenseElementsAttr) and value.is_splat:
            scalar = arith.ConstantOp(ir.RankedTensorType(op.results[0].type).element_type, value.get_splat_value())
            self.tensors[op.results[0]] = Filled(scalar.result, shape)
            return
        self.tensors[op.results[0]] = identity_view(self._global(memref_type(op.results[0].type, op.location), value))

    def _global(self, type_: ir.Type, value: ir.Attribute) -> ir.Value:
        """A memref that holds a constant tensor's elements, outside of the function."""
        taken = {marks.get_text(op, "sym_name") for op in self.old.operation.parent.regions[0].blocks[0].operations}
        name = next(text for k in itertools.count() if (text := f"constant_{k}") not in taken)
        with ir.InsertionPoint(self.old.operation):
            self.new.append(memref.GlobalOp(name, type_, sym_visibility="private", initial_value=value, constant=True))
        return memref.GetGlobalOp(type_, name).result

    def _empty(self, op: ir.Operation) -> None:
        self.tensors[op.results[0]] = Uninitialised(static_shape(op.results[0].type, op.location))

    def _fill(self, op: ir.Operation) -> None:
        if not len(op.results):
            raise ImportRefused(f"{describe(op)}: it works on memrefs, in a function that has tensors")
        value, shape = self.scalars[op.operands[0]], static_shape(op.results[0].type, op.location)
        self.tensors[op.results[0]] = Filled(value, shape)

    def _from_elements(self, op: ir.Operation) -> None:
        """A tensor of one element, or of the same one everywhere."""
        if len(op.operands) != 1:
            raise ImportRefused(f"{describe(op)}: a tensor of several scalars; one is expected")
        self._fill(op)

    def _extract(self, op: ir.Operation) -> None:
        source, *indices = op.operands
        position = [self.scalars.get(i, i) for i in indices]
        self.scalars[op.results[0]] = load_element(self.tensors[source], position, [], describe(op))

    def _dim(self, op: ir.Operation) -> None:
        axis = affine_index(op.operands[1], [])
        shape = static_shape(op.operands[0].type, op.location)
        known = axis.maybe_downcast() if axis is not None else None
        if not isinstance(known, ir.AffineConstantExpr) or not 0 <= known.value < len(shape):
            raise ImportRefused(f"{describe(op)}: an axis that is not constant")
        self.scalars[op.results[0]] = arith.ConstantOp(ir.IndexType.get(), shape[known.value]).result

    def _cast(self, op: ir.Operation) -> None:
        self.tensors[op.results[0]] = self.tensors[op.operands[0]]

    def _insert_slice(self, op: ir.Operation) -> None:
        view = self._allocate(op.results[0])
        source, target = self.tensors[op.operands[0]], self.tensors[op.operands[1]]
        sizes, offsets, strides = (static(op, f"static_{what}") for what in ("sizes", "offsets", "strides"))
        kept = kept_axes(op, sizes, source.shape)
        self._copy(op, marks.INIT, target, view)
        self._copy_into(op, marks.COPY, source, view, slice_exprs(offsets, strides, kept))
        self.tensors[op.results[0]] = view

    def _pad(self, op: ir.Operation) -> None:
        low, yielded = static(op, "static_low"), op.regions[0].blocks[0].operations[0].operands[0]
        if min([*low, *static(op, "static_high")], default=0) < 0:
            raise ImportRefused(f"{describe(op)}: a negative padding; tensor.extract_slice takes elements away")
        if yielded not in self.scalars:
            raise ImportRefused(f"{describe(op)}: a padding value that depends on the position")
        view = self._allocate(op.results[0])
        self._copy(op, marks.INIT, Filled(self.scalars[yielded], view.shape), view)
        self._copy_into(op, marks.PAD, self.tensors[op.operands[0]], view, slice_exprs(low, [1] * len(low)))
        self.tensors[op.results[0]] = view

    def _concat(self, op: ir.Operation) -> None:
        view = self._allocate(op.results[0])
        axis, offset = ir.IntegerAttr(op.attributes["dim"]).value, 0
        for operand in op.operands:
            source = self.tensors[operand]
            offsets = [offset if d == axis else 0 for d in range(len(view.shape))]
            self._copy_into(op, marks.COPY, source, view, slice_exprs(offsets, [1] * len(offsets)))
            offset += source.shape[axis]
        self.tensors[op.results[0]] = view

    def _copy_into(
        self, op: ir.Operation, role: str, source: TensorValue, target: View, exprs: list[ir.AffineExpr]
    ) -> None:
        """A nest that stores `source`'s elements at `exprs` of their indices in `target`."""
        part = reindex(target, exprs, source.shape)
        assert isinstance(part, View)
        self._copy(op, role, source, part)

    def _return(self, op: ir.Operation) -> None:
        for operand, out in zip(op.operands, self.returned, strict=True):
            value = self.tensors[operand] if is_tensor(operand.type) else Filled(self.scalars[operand], ())
            if not (isinstance(value, View) and value.memref == out):
                self._copy(op, marks.COPY, value, identity_view(out))


_HANDLERS: dict[str, Callable[[_FunctionLowering, ir.Operation], None]] = {
    "arith.constant": _FunctionLowering._constant,
    "func.return": _FunctionLowering._return,
    "linalg.fill": _FunctionLowering._fill,
    "tensor.cast": _FunctionLowering._cast,
    "tensor.concat": _FunctionLowering._concat,
    "tensor.dim": _FunctionLowering._dim,
    "tensor.empty": _FunctionLowering._empty,
    "tensor.extract": _FunctionLowering._extract,
    "tensor.from_elements": _FunctionLowering._from_elements,
    "tensor.insert_slice": _FunctionLowering._insert_slice,
    "tensor.pad": _FunctionLowering._pad,
    "tensor.splat": _FunctionLowering._fill,
}


def _has_tensors(function: func.FuncOp) -> bool:
    """Whether the function takes, gives or holds a tensor."""
    found = any(is_tensor(t) for t in [*function.type.inputs, *function.type.results])

    def visit(op: ir.Operation) -> ir.WalkResult:
        nonlocal found
        found = found or any(is_tensor(v.type) for v in (*op.operands, *op.results))
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    function.operation.walk(visit)
    return found


def _callees(module: ir.Operation) -> dict[str, ir.Operation]:
    """The functions that are called, each with the first call."""
    found: dict[str, ir.Operation] = {}

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name == "func.call":
            found.setdefault(ir.FlatSymbolRefAttr(op.attributes["callee"]).value, op)
        return ir.WalkResult.ADVANCE

    module.walk(visit)
    return found


def _refuse_calls(function: func.FuncOp, calls: dict[str, ir.Operation]) -> None:
    name = function.name.value
    if name in calls:
        raise ImportRefused(
            f"{describe(calls[name])}: it calls @{name}, whose arguments would change; run 'inline' before"
        )


def _remedy(op: ir.Operation) -> str:
    """Which of MLIR's own passes may make another operation of it."""
    if op.name == "func.call":
        return "; run 'inline' before (a function that calls itself stays)"
    if op.name.startswith(ARITHMETIC):
        return "; run 'func.func(convert-elementwise-to-linalg)' before"
    return ""
