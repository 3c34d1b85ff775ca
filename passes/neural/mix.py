"""`morph-mix`: a pointwise contraction over a layer's output or input channels, the identity at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch_mlir import ir
from torch_mlir.dialects import arith, func, memref

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.coupling.program_accesses import AccessesByMemref
from loopmorph.passes.analysis.roles import BATCH_AXIS, is_reduction
from loopmorph.passes.analysis.structure import require_scalar
from loopmorph.passes.building.arguments import add_argument, arrange_arguments
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Access, Nest, functions
from loopmorph.passes.transformation import Kind, Transformation

Axis = tuple[ir.Value, int]


@dataclass(frozen=True)
class MixPlan:
    """What is mixed, and where the new nests go.

    Attributes:
        main: the layer's first main nest, which lends its marks and its location.
        role: `mix` or `mix-in`.
        value: the memref whose axis is mixed.
        axis: that axis.
        redirected: the accesses of `value` that go to the new memref instead.
        anchor: the operation of the function's body that the new nests stand before (`mix-in`) or after (`mix`).
        first: the operation that the new memref has to be allocated before.
        parameter: name of the new parameter.
    """

    main: Nest
    role: str
    value: ir.Value
    axis: int
    redirected: tuple[Access, ...]
    anchor: ir.Operation
    first: ir.Operation
    parameter: str


@dataclass(frozen=True)
class Mix(Transformation[MixPlan]):
    """Puts a contraction with a new square parameter after a layer's output or before its input.

    On an output iterator (`iter=co`) the layer's result goes to a new memref first, and from there through the new
    nest (role `mix`) to where it went before; on a reduction iterator (`iter=ci`) the layer reads its input through
    the new nest (role `mix-in`). The parameter, `LAYER.mix` or `LAYER.mix_in`, begins as the identity matrix, so that
    the network computes what it did. It sets the layer's own channels apart from those of the network: they can be
    tied or shrunk without a change to what others write and read. Then a depthwise layer with a mix is MobileNet's
    separable convolution, a grouped one BlockSwap's G(g), one whose channels shrink between two mixes its B(b).

    Before, for `morph-mix{layer=a iter=co}`:

        affine.for %co = 0 to 64 { affine.for %ci = 0 to 32 {
          ... affine.store %v, %t[%co] : memref<64xf32> } } {morph.layer = "a", morph.role = "main"}

    After, with `%p: memref<64x64xf32> {morph.identity = 64, morph.param = "a.mix"}`:

        %m = memref.alloc() : memref<64xf32>
        affine.for %co = 0 to 64 { affine.for %ci = 0 to 32 {
          ... affine.store %v, %m[%co] : memref<64xf32> } } {morph.layer = "a", morph.role = "main"}
        affine.for %co = 0 to 64 { affine.store %zero, %t[%co] } {morph.layer = "a", morph.role = "init"}
        affine.for %co = 0 to 64 { affine.for %ci = 0 to 64 {
          ... %t[%co] + %m[%ci] * %p[%co, %ci] ... } } {morph.layer = "a", morph.role = "mix"}

    Requires: a layer that contracts a parameter; an iterator that indexes one axis, not the batch, of its result, or
    of its input (through padding as well), of floating-point elements; no nest of another layer that writes the
    result, too; nests that are not vectorised.

    Options:
        layer: qualified name of the layer.
        iter: the iterator of its main nest.
    """

    name: ClassVar[str] = "morph-mix"
    kind: ClassVar[Kind] = "neural"

    layer: str
    iter: str

    def analyze(self, module: ir.Operation) -> MixPlan:
        if "#" in self.layer:
            raise ArgumentError("layer", f"expected a layer as a whole, got the nest '{self.layer}'")
        own = layer_nests(module, self.layer)
        mains = [nest for nest in own if nest.role == marks.MAIN] or [find_nest(module, self.layer)]
        for nest in own:
            require_scalar(nest)
        loops = [nest.loop(self.iter) for nest in mains]
        if not any(map(_is_contraction, mains)):
            raise IllegalTransform(mains[0].label, "it contracts no parameter; only such a layer can be given another")
        sides = {is_reduction(n, loop.position) for n, loop in zip(mains, loops, strict=True)}
        if len(sides) != 1:
            raise IllegalTransform(mains[0].label, f"its nests do not agree on what '{self.iter}' is")
        prepare = _before if True in sides else _after
        return prepare(module, own, mains, self.iter)

    def rewrite(self, plan: MixPlan) -> ir.Operation:
        function = plan.main.root.operation.parent.opview
        assert isinstance(function, func.FuncOp)
        type_ = ir.MemRefType(plan.value.type)
        size = type_.shape[plan.axis]
        weight = add_argument(
            function,
            ir.MemRefType.get([size, size], type_.element_type),
            {
                marks.PARAM: ir.StringAttr.get(plan.parameter),
                marks.IDENTITY: ir.IntegerAttr.get(ir.IntegerType.get_signless(64), size),
            },
        )
        with plan.main.root.location:
            with ir.InsertionPoint(plan.first):
                fresh = memref.AllocOp(type_, [], []).result
            for access in plan.redirected:
                access.op.operands[0 if access.kind == "load" else 1] = fresh
            inward = plan.role == marks.MIX_IN
            source, target = (plan.value, fresh) if inward else (fresh, plan.value)
            with ir.InsertionPoint(plan.anchor) if inward else ir.InsertionPoint.after(plan.anchor):
                root = _build(plan, source, target, weight)
        _place_parameter(function, plan.main)
        return root


def _after(module: ir.Operation, own: Sequence[Nest], mains: Sequence[Nest], iterator: str) -> MixPlan:
    """The plan for the output side: all that comes up to the last main nest goes to the new memref."""
    label = mains[0].label
    value, axis = _one_axis(label, iterator, {a for nest in mains for a in _axes(nest.stores, nest, iterator)})
    position = {op.operation: k for k, op in enumerate(mains[0].root.operation.parent.opview.entry_block.operations)}
    last = max(mains, key=lambda nest: position[nest.root.operation])
    roots = {nest.root.operation for nest in own}
    redirected: list[Access] = []
    for nest, access in _accesses(module, value, label):
        inside = nest.root.operation in roots
        early = position[nest.root.operation] <= position[last.root.operation]
        if not inside and (early or access.kind == "store"):
            raise IllegalTransform(label, f"its result is also {_verb(access)} by {nest.label}")
        if early:
            redirected.append(access)
    users = [nest for nest in own if any(a in redirected for a in nest.accesses)]
    first = min((nest.root.operation for nest in users), key=position.__getitem__)
    return _plan(module, mains[0], marks.MIX, (value, axis), redirected, (last.root.operation, first))


def _before(module: ir.Operation, own: Sequence[Nest], mains: Sequence[Nest], iterator: str) -> MixPlan:
    """The plan for the input side: the layer reads the new memref instead of its input."""
    label = mains[0].label
    found = {a for nest in mains for a in _axes(_activations(nest), nest, iterator)}
    value, axis = _one_axis(label, iterator, {_through_padding(own, label, iterator, a) for a in found})
    redirected = [access for nest in own for access in nest.accesses if access.memref == value]
    readers = [nest.root.operation for nest in own if any(a.memref == value for a in nest.accesses)]
    _accesses(module, value, label)
    return _plan(module, mains[0], marks.MIX_IN, (value, axis), redirected, (readers[0], readers[0]))


def _plan(
    module: ir.Operation,
    main: Nest,
    role: str,
    mixed: Axis,
    redirected: Sequence[Access],
    around: tuple[ir.Operation, ir.Operation],
) -> MixPlan:
    value, axis = mixed
    if axis == BATCH_AXIS:
        raise IllegalTransform(main.label, "the iterator runs over samples, which stay apart")
    element = ir.MemRefType(value.type).element_type
    if not isinstance(element, ir.FloatType):
        raise IllegalTransform(main.label, f"its channels hold {element}; only floating-point ones can be mixed")
    name = _free_name(module, f"{main.layer}.{role.replace('-', '_')}")
    return MixPlan(main, role, value, axis, tuple(redirected), *around, name)


def _is_contraction(nest: Nest) -> bool:
    """Whether a nest reduces and reads a parameter."""
    reduces = any(is_reduction(nest, loop.position) for loop in nest.loops)
    return reduces and any(marks.parameter_name(access.memref) is not None for access in nest.loads)


def _activations(nest: Nest) -> list[Access]:
    return [
        a
        for a in nest.loads
        if marks.parameter_name(a.memref) is None and all(s.memref != a.memref for s in nest.stores)
    ]


def _axes(accesses: Sequence[Access], nest: Nest, iterator: str) -> list[Axis]:
    """The axes that the iterator indexes, alone or with others."""
    position = nest.loop(iterator).position
    return [(a.memref, k) for a in accesses for k, expr in enumerate(a.exprs) if position in used_dims(expr)]


def _one_axis(label: str, iterator: str, axes: set[Axis]) -> Axis:
    if len(axes) != 1:
        raise IllegalTransform(label, f"'{iterator}' has to index exactly one axis of one activation, not {len(axes)}")
    (found,) = axes
    return found


def _through_padding(own: Sequence[Nest], label: str, iterator: str, axis: Axis) -> Axis:
    """The axis of the layer's input that its own nests (padding) copy to the given one."""
    value, k = axis
    copies = {
        (read.memref, j)
        for nest in own
        for write in nest.stores
        if write.memref == value
        for read in _activations(nest)
        for j, expr in enumerate(read.exprs)
        if len(used_dims(expr)) == 1 and used_dims(expr) == used_dims(write.exprs[k])
    }
    if copies:
        return _through_padding(own, label, iterator, _one_axis(label, iterator, copies))
    if any(write.memref == value for nest in own for write in nest.stores):
        raise IllegalTransform(label, f"what '{iterator}' reads is no plain copy of the layer's input")
    return axis


def _accesses(module: ir.Operation, value: ir.Value, label: str) -> list[tuple[Nest, Access]]:
    """All accesses of a memref, in program order.

    Raises:
        IllegalTransform: something else uses it.
    """
    accesses = AccessesByMemref(module)
    for user in accesses.other_users(value):
        reason = f"its channels are used by {user.name} ({user.location}), which cannot be followed"
        raise IllegalTransform(label, reason)
    return accesses[value]


def _verb(access: Access) -> str:
    return "written" if access.kind == "store" else "read"


def _free_name(module: ir.Operation, name: str) -> str:
    taken = {
        ir.StringAttr(attributes[marks.PARAM]).value
        for function in functions(module)
        for attributes in marks.argument_marks(function)
        if marks.PARAM in attributes
    }
    names = [name, *(f"{name}_{k}" for k in range(1, len(taken) + 1))]
    return next(candidate for candidate in names if candidate not in taken)


def _build(plan: MixPlan, source: ir.Value, target: ir.Value, weight: ir.Value) -> ir.Operation:
    """`target = sum(weight * source)` over the axis: a nest for the start value, and one for the sum, returned."""
    type_ = ir.MemRefType(target.type)
    outer = _iterators(type_.rank, plan.axis)
    own = {name: text for name in (marks.LAYER, marks.NODE) if (text := marks.get_text(plan.main.root, name))}
    extents = tuple(type_.shape)
    dims = [ir.AffineExpr.get_dim(k) for k in range(type_.rank + 1)]
    summed = dims[-1]
    at_target = ir.AffineMap.get(type_.rank + 1, 0, dims[:-1])
    at_source = ir.AffineMap.get(type_.rank + 1, 0, [summed if k == plan.axis else d for k, d in enumerate(dims[:-1])])
    at_weight = ir.AffineMap.get(type_.rank + 1, 0, [dims[plan.axis], summed])
    zero = arith.ConstantOp(type_.element_type, 0.0).result
    everywhere = ir.AffineMap.get_identity(type_.rank)

    def add_product(variables: list[ir.Value]) -> None:
        factor, other = load(source, at_source, variables), load(weight, at_weight, variables)
        before = load(target, at_target, variables)
        product = arith.MulFOp(factor, other).result
        store(arith.AddFOp(before, product).result, target, at_target, variables)

    build_nest(
        NestHeader(outer, extents, {**own, marks.ROLE: marks.INIT}),
        lambda variables: _discard(store(zero, target, everywhere, variables)),
        plan.main.root.location,
    )
    header = NestHeader((*outer, "ci"), (*extents, extents[plan.axis]), {**own, marks.ROLE: plan.role})
    root = build_nest(header, add_product, plan.main.root.location)
    return cast(ir.Operation, root)


def _iterators(rank: int, axis: int) -> tuple[str, ...]:
    """Names as a pointwise convolution has them, `s<axis>` where there are none."""
    usual = {2: ("n", "co"), 4: ("n", "co", "oh", "ow")}.get(rank)
    if usual is not None and axis == 1:
        return usual
    return tuple("co" if k == axis else f"s{k}" for k in range(rank))


def _discard(_value: object) -> None:
    """For a body that has nothing to return."""


def _place_parameter(function: func.FuncOp, main: Nest) -> None:
    """Moves the last argument to right after the last parameter that the layer's main nest reads."""
    own = [ir.BlockArgument(a.memref).arg_number for a in main.accesses if marks.parameter_name(a.memref) is not None]
    *others, new = range(len(function.entry_block.arguments))
    after = max(own, default=-1) + 1
    arrange_arguments(function, [*others[:after], new, *others[after:]])
