"""From a layer's nests in MLIR to a `Recipe`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_normal import normalise
from loopmorph.passes.raising.nest_order import Instance, check_distribution
from loopmorph.passes.raising.nest_recipe import Buffer, BufferKind, Call, Constant, Load, Recipe, Statement, Value

SCALAR_DIALECTS = ("arith.", "math.")
# Casts between float types: the executor computes everything in one type.
_FLOAT_CASTS = ("arith.truncf", "arith.extf")
_CMPF_PREDICATES = (
    *("false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord"),
    *("ueq", "ugt", "uge", "ult", "ule", "une", "uno", "true"),
)
# A maximum or minimum written as comparison and selection: predicate -> operation on `a` and `b` of a ? b : b
_SELECTIONS = {
    **dict.fromkeys(("ogt", "oge", "ugt", "uge"), "arith.maximumf"),
    **dict.fromkeys(("olt", "ole", "ult", "ule"), "arith.minimumf"),
}


@dataclass(frozen=True)
class Extraction:
    """A recipe, and the memref that each of its buffers stands for (valid as long as the IR stays as it is)."""

    recipe: Recipe
    memrefs: tuple[ir.Value, ...]


def extract(nests: Sequence[Nest]) -> Extraction:
    """The statements of one layer's nests, normalised: loops coalesced, un-fused, those of extent 1 dropped.

    Args:
        nests: all nests of the layer, in program order.

    Raises:
        IllegalTransform: an operation that is neither a load, a store nor scalar arithmetic, a loop-carried value, or
            statements of one nest whose order matters.
    """
    if not nests:
        raise IllegalTransform("layer", "it has no loop nest")
    with nests[0].root.operation.context:
        return _Extractor(nests).run()


@dataclass
class _Extractor:
    nests: Sequence[Nest]
    memrefs: dict[ir.Value, int] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    loops: dict[ir.Value, Form] = field(default_factory=dict)
    extents: dict[int, int] = field(default_factory=dict)
    loads: dict[ir.Value, tuple[Load, tuple[int, ...], int]] = field(default_factory=dict)
    clock: int = 0

    def run(self) -> Extraction:
        statements: list[Statement] = []
        for nest in self.nests:
            instances: list[Instance] = []
            self._loop(nest, nest.root, (), (), instances)
            check_distribution(nest.label, instances)
            statements += [s for i in instances if (s := normalise(i.statement)) is not None]
        memrefs = tuple(self.memrefs)
        buffers = tuple(self._buffer(m, k) for k, m in enumerate(memrefs))
        return Extraction(Recipe(self.nests[0].layer, buffers, tuple(statements)), memrefs)

    # -- control

    def _loop(
        self,
        nest: Nest,
        op: affine.AffineForOp,
        around: tuple[int, ...],
        guards: tuple[Form, ...],
        instances: list[Instance],
    ) -> None:
        if len(op.operation.results):
            self._refuse(nest, op.operation, "a loop that carries values")
        number = len(self.extents)
        guards = (*guards, *self._bind(nest, op, number))
        around = (*around, number)
        for inner in op.body.operations:
            self.clock += 1
            name = inner.operation.name
            if isinstance(inner, affine.AffineForOp):
                self._loop(nest, inner, around, guards, instances)
            elif name == "affine.load":
                access = self._access(inner.operation, inner.memref, list(inner.indices), nest)
                self.loads[inner.result] = (access, around, self.clock)
            elif name == "affine.store":
                instances.append(self._store(inner, nest, around, guards))
            elif name not in ("affine.yield", "affine.apply", "memref.alloc", "memref.dealloc", "memref.alloca") and (
                not name.startswith(SCALAR_DIALECTS)
            ):
                self._refuse(nest, inner.operation, "no case for it in PyTorch")

    def _bind(self, nest: Nest, op: affine.AffineForOp, number: int) -> tuple[Form, ...]:
        """Numbers the loop from 0 with step 1; returns what its bounds demand beyond the extent."""
        step = ir.IntegerAttr(op.attributes["step"]).value
        lower = self._bound(nest, op, "lowerBoundMap", list(op.lowerBoundOperands))
        uppers = self._bound(nest, op, "upperBoundMap", list(op.upperBoundOperands))
        if len(lower) != 1:
            self._refuse(nest, op.operation, "a lower bound that is a maximum")
        lengths = [forms.add(u, forms.scale(lower[0], -1)) for u in uppers]
        self.extents[number] = max(0, min(-(-forms.bounds(n, self.extents)[1] // step) for n in lengths))
        self.loops[op.induction_variable] = forms.add(lower[0], forms.loop(number, step))
        passed = forms.add(forms.loop(number, -step), forms.constant(-1))
        return tuple(forms.add(n, passed) for n in lengths if n.terms)

    def _bound(self, nest: Nest, op: affine.AffineForOp, name: str, operands: list[ir.Value]) -> list[Form]:
        map_ = ir.AffineMapAttr(op.attributes[name]).value
        values = [self._index(v, nest) for v in operands]
        return [forms.from_expr(e, values, self.extents) for e in map_.results]

    # -- accesses

    def _store(
        self, op: affine.AffineStoreOp, nest: Nest, around: tuple[int, ...], guards: tuple[Form, ...]
    ) -> Instance:
        target = self._access(op.operation, op.memref, list(op.indices), nest)
        self.written.add(target.buffer)
        read: list[tuple[Load, tuple[int, ...], int]] = []
        value = self._value(op.value, nest, read)
        extents = tuple(self.extents[n] for n in around)
        return Instance(Statement(around, extents, target, value, guards, nest.role), tuple(read), self.clock)

    def _access(self, op: ir.Operation, memref: ir.Value, indices: list[ir.Value], nest: Nest) -> Load:
        map_ = ir.AffineMapAttr(op.attributes["map"]).value
        operands = [self._index(v, nest) for v in indices]
        index = tuple(forms.from_expr(e, operands, self.extents) for e in map_.results)
        return Load(self.memrefs.setdefault(memref, len(self.memrefs)), index)

    def _index(self, value: ir.Value, nest: Nest) -> Form:
        if value in self.loops:
            return self.loops[value]
        owner = value.owner
        if not isinstance(owner, ir.Block):
            view = owner.opview if isinstance(owner, ir.Operation) else owner
            if isinstance(view, affine.AffineApplyOp):
                map_ = ir.AffineMapAttr(view.attributes["map"]).value
                return forms.from_expr(map_.results[0], [self._index(v, nest) for v in view.operands], self.extents)
            if view.operation.name == "arith.constant":
                return forms.constant(ir.IntegerAttr(view.attributes["value"]).value)
        raise IllegalTransform(nest.label, "an index is no affine function of the iterators")

    # -- values

    def _value(self, value: ir.Value, nest: Nest, read: list[tuple[Load, tuple[int, ...], int]]) -> Value:
        if value in self.loads:
            read.append(self.loads[value])
            return self.loads[value][0]
        owner = value.owner
        if isinstance(owner, ir.Block):
            raise IllegalTransform(nest.label, "it computes with an iterator's value or with a scalar argument")
        op = owner if isinstance(owner, ir.Operation) else owner.operation
        if op.name == "arith.constant":
            attribute = op.attributes["value"]
            if isinstance(attribute, ir.FloatAttr):
                return Constant(ir.FloatAttr(attribute).value)
            if isinstance(attribute, ir.BoolAttr | ir.IntegerAttr):
                return Constant(float(attribute.value))
        if not op.name.startswith(SCALAR_DIALECTS) or op.name == "arith.constant":
            self._refuse(nest, op, "no case for it in PyTorch")
        args = tuple(self._value(v, nest, read) for v in op.operands)
        return _call(op, args)

    # -- buffers

    def _buffer(self, memref: ir.Value, number: int) -> Buffer:
        shape = tuple(ir.MemRefType(memref.type).shape)
        parameter = parameter_name(memref)
        if parameter is not None:
            return Buffer("parameter", shape, parameter)
        kind: BufferKind = "input"
        if number in self.written:
            kind = "output" if self._is_read_elsewhere(memref) else "temporary"
        return Buffer(kind, shape)

    def _is_read_elsewhere(self, memref: ir.Value) -> bool:
        if isinstance(memref.owner, ir.Block):
            return True
        roots = [nest.root.operation for nest in self.nests]
        return any(
            use.owner.operation.name not in ("memref.alloc", "memref.dealloc") and _outermost(use.owner) not in roots
            for use in memref.uses
        )

    def _refuse(self, nest: Nest, op: ir.Operation, why: str) -> NoReturn:
        raise IllegalTransform(nest.label, f"'{op.name}' ({op.location}): {why}")


def parameter_name(memref: ir.Value) -> str | None:
    """The qualified name of the parameter that is passed as this function argument; None for any other memref."""
    owner = memref.owner
    if not isinstance(owner, ir.Block) or owner.owner.operation.name != "func.func":
        return None
    attributes = marks.argument_marks(owner.owner)[ir.BlockArgument(memref).arg_number]
    return ir.StringAttr(attributes[marks.PARAM]).value if marks.PARAM in attributes else None


def _call(op: ir.Operation, args: tuple[Value, ...]) -> Value:
    if op.name in _FLOAT_CASTS:
        return args[0]
    if op.name == "math.fma":
        return Call("arith.addf", (Call("arith.mulf", args[:2]), args[2]))
    if op.name in ("arith.maxnumf", "arith.minnumf"):
        return Call(op.name.replace("num", "imum"), args)
    if op.name == "arith.cmpf":
        return Call(op.name, args, _CMPF_PREDICATES[ir.IntegerAttr(op.attributes["predicate"]).value])
    if op.name == "arith.select" and isinstance(args[0], Call) and args[0].args == args[1:]:
        selection = _SELECTIONS.get(args[0].predicate)
        if selection is not None:
            return Call(selection, args[1:])
    return Call(op.name, args)


def _outermost(op: ir.Operation | ir.OpView) -> ir.Operation:
    """The operation of the function's own body that holds `op`."""
    at = op.operation
    while at.parent is not None and at.parent.operation.name != "func.func":
        at = at.parent.operation
    return at
