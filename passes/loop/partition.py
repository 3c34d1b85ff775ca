"""`morph-partition`: one nest becomes several over consecutive ranges of an iterator (index-set splitting)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import islpy as isl
from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import LinearForm, from_linear, used_dims
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.coupling.inheritance import compose_inheritance
from loopmorph.passes.analysis.coupling.ties import tie
from loopmorph.passes.analysis.dependence.dependence import reordering_violation
from loopmorph.passes.analysis.dependence.instances import schedule
from loopmorph.passes.analysis.structure import body_of, require_no_results, require_scalar
from loopmorph.passes.building.arguments import add_argument, arrange_arguments
from loopmorph.passes.building.arrange import require_normal
from loopmorph.passes.building.nest_builder import rewrite_access
from loopmorph.passes.building.rebuild import keep_range
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest, view_nest
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class SplitParameter:
    """A parameter that is cut along one axis, a piece for each part of the nest.

    Attributes:
        value: the argument of the function.
        axis: the axis that the iterator indexes.
        digits: positions of the loops whose mixed-radix number the index along the axis is, most significant first.
        orders: `order` of its accesses in the nest.
    """

    value: ir.Value
    axis: int
    digits: tuple[int, ...]
    orders: tuple[int, ...]


@dataclass(frozen=True)
class PartitionPlan:
    """The nest, the loop that is cut, the extents of the parts, and the parameters that are cut with it."""

    nest: Nest
    loop: Loop
    sizes: tuple[int, ...]
    parameters: tuple[SplitParameter, ...]


@dataclass(frozen=True)
class Partition(NestTransformation[PartitionPlan]):
    """Cuts a nest into several over consecutive ranges of one iterator: `morph-partition{layer=a iter=co sizes=16,48}`.

    The parts run one after the other and are addressed as `a#main.0`, `a#main.1` from then on, in program order, so
    that each can be transformed on its own; a part can be cut again. Every part counts its iterator from 0. A
    parameter of a contraction that the iterator indexes along a whole axis is cut too, into `NAME.part0`,
    `NAME.part1`; a parameter that it does not index, or not alone, stays one and is read by all parts.

    Before:

        func.func @main(%w: memref<64x32xf32> {morph.param = "a.weight"}, ...) {
          affine.for %co = 0 to 64 { affine.for %ci = 0 to 32 {
            ... affine.load %w[%co, %ci] ... affine.store %v, %t[%co] } } {morph.layer = "a", morph.role = "main"}

    After:

        func.func @main(
            %w0: memref<16x32xf32> {morph.inherit = (d0, d1) -> (d0, d1), morph.param = "a.weight.part0",
                                    morph.source = "a.weight"},
            %w1: memref<48x32xf32> {morph.inherit = (d0, d1) -> (d0 + 16, d1), morph.param = "a.weight.part1",
                                    morph.source = "a.weight"}, ...) {
          affine.for %co = 0 to 16 { affine.for %ci = 0 to 32 {
            ... affine.load %w0[%co, %ci] ... affine.store %v, %t[%co] } } {morph.layer = "a", morph.role = "main"}
          affine.for %co = 0 to 48 { affine.for %ci = 0 to 32 {
            ... affine.load %w1[%co, %ci] ... affine.store %v, %t[%co + 16] } } {morph.layer = "a", morph.role = "main"}

    Requires: a loop from 0 to a constant with step 1 in a nest that is not vectorised yet, the loops around it holding
    nothing else; dependences, other than those of reductions, that running the parts one after the other keeps; no
    other reader of a parameter that would be cut.

    In a schedule the operation yields the outermost loop of the first part.

    Attributes:
        layer: the layer whose main nest is meant, or the address of a nest (`a#main.1`, `a#mix`).
        iter: the iterator.
        sizes: extents of all parts, in order; they add up to the iterator's. One of them may be 0: what is left.
        parts: instead of `sizes`, the number of parts of equal size.
    """

    name: ClassVar[str] = "morph-partition"
    kind: ClassVar[Kind] = "loop"
    is_schedule: ClassVar[bool] = False

    layer: str
    iter: str
    sizes: tuple[int, ...] = ()
    parts: int | None = None

    def analyze_nest(self, nest: Nest) -> PartitionPlan:
        loop = nest.loop(self.iter)
        require_scalar(nest)
        require_normal(nest, loop)
        if loop.extent is None:
            raise IllegalTransform(nest.label, f"the extent of '{loop.iterator}' is no constant")
        sizes = self._sizes(loop.iterator, loop.extent)
        for position in (*nest.around(loop.position), loop.position):
            require_no_results(nest, nest.loops[position])
            if position != loop.position and len(body_of(nest.loops[position].op)) != 1:
                outer = nest.loops[position].iterator
                raise IllegalTransform(nest.label, f"loop '{outer}' around '{loop.iterator}' holds more than one loop")
        _require_order_kept(nest, loop, sizes)
        return PartitionPlan(nest, loop, sizes, _split_parameters(nest, loop))

    def rewrite(self, plan: PartitionPlan) -> ir.Operation:
        function = plan.nest.root.operation.parent.opview
        assert isinstance(function, func.FuncOp)
        roots = [plan.nest.root.operation]
        while len(roots) < len(plan.sizes):
            roots.append(plan.nest.root.operation.clone(ir.InsertionPoint.after(roots[-1])))
        pieces = {p.value: _add_pieces(function, plan, p) for p in plan.parameters}
        begins = itertools.accumulate(plan.sizes, initial=0)
        for k, (root, begin) in enumerate(zip(roots, begins, strict=False)):
            keep_range(root.opview, plan.loop.position, begin, plan.sizes[k])
            for parameter in plan.parameters:
                _read_piece(view_nest(root.opview), plan, parameter, pieces[parameter.value][k], plan.sizes[k])
        _put_in_place(function, pieces)
        return roots[0]

    def _sizes(self, iterator: str, extent: int) -> tuple[int, ...]:
        """The extents of the parts, as the options say.

        Raises:
            ArgumentError: they do not make up the iterator's extent.
        """
        if (self.parts is None) == (not self.sizes):
            raise ArgumentError("sizes", "expected either `sizes` or `parts`")
        if self.parts is not None:
            if self.parts < 2 or extent % self.parts:
                wanted = f"expected a number of at least 2 that divides {extent}, the extent of '{iterator}'"
                raise ArgumentError("parts", f"{wanted}, got {self.parts}")
            return (extent // self.parts,) * self.parts
        rest = extent - sum(self.sizes)
        sizes = tuple(size or rest for size in self.sizes) if self.sizes.count(0) == 1 else self.sizes
        if len(sizes) < 2 or any(size < 1 for size in sizes) or sum(sizes) != extent:
            given = ",".join(map(str, self.sizes))
            wanted = f"expected at least two sizes of at least 1 that add up to {extent}, the extent of '{iterator}'"
            raise ArgumentError("sizes", f"{wanted} (one may be 0: what is left), got {given}")
        return sizes


def _require_order_kept(nest: Nest, loop: Loop, sizes: Sequence[int]) -> None:
    """Running the parts one after the other makes the number of the part the first coordinate of time.

    Raises:
        IllegalTransform: that would reverse a dependence.
    """
    ends = list(itertools.accumulate(sizes))
    maps = {}
    for number, old in schedule(nest).items():
        instance = ", ".join(f"i{p}" for p in nest.accesses[number].loops)
        cases = [
            f"[{instance}] -> [{k}] : {end - size} <= i{loop.position} < {end}"
            for k, (size, end) in enumerate(zip(sizes, ends, strict=True))
        ]
        maps[number] = isl.Map(f"{{ {'; '.join(cases)} }}").flat_range_product(old)
    violation = reordering_violation(nest, maps)
    if violation is not None:
        raise IllegalTransform(nest.label, f"running the parts in turn would reverse {violation.describe(nest)}")


def _split_parameters(nest: Nest, loop: Loop) -> tuple[SplitParameter, ...]:
    """The parameters of a contraction that the loop indexes along one whole axis, alike in all accesses.

    Raises:
        IllegalTransform: another nest reads one of them.
    """
    if not macs(nest):
        return ()
    accesses: dict[ir.Value, list[Access]] = {}
    for access in nest.accesses:
        if marks.parameter_name(access.memref) is not None:
            accesses.setdefault(access.memref, []).append(access)
    found = []
    for value, group in accesses.items():
        places = {_place(nest, access, loop) for access in group}
        if len(places) != 1 or None in places:
            continue
        ((axis, digits),) = (place for place in places if place is not None)
        others = [use.owner for use in value.uses if all(use.owner != access.op for access in group)]
        if others:
            reason = f"its parameter '{marks.parameter_name(value)}' is read elsewhere as well ({_reader(others[0])})"
            raise IllegalTransform(nest.label, f"{reason}; it cannot be cut along '{loop.iterator}'")
        found.append(SplitParameter(value, axis, digits, tuple(access.order for access in group)))
    return tuple(found)


def _place(nest: Nest, access: Access, loop: Loop) -> tuple[int, tuple[int, ...]] | None:
    """The axis that the loop indexes and the digits of its index; None where it is not one whole axis."""
    axes = [axis for axis, expr in enumerate(access.exprs) if loop.position in used_dims(expr)]
    if len(axes) != 1:
        return None
    relation = tie(nest, access, axes[0])
    return (axes[0], relation.loops) if relation.kind == "digits" else None


def _reader(op: ir.Operation) -> str:
    at = op.operation
    while at.parent is not None and at.parent.name != "func.func":
        at = at.parent.operation
    layer = marks.get_text(at, marks.LAYER)
    return f"by '{layer}'" if layer else f"at {op.operation.location}"


def _add_pieces(function: func.FuncOp, plan: PartitionPlan, parameter: SplitParameter) -> list[ir.Value]:
    """Appends the pieces of a parameter to the function's arguments."""
    mine = marks.argument_marks(function)[ir.BlockArgument(parameter.value).arg_number]
    name = ir.StringAttr(mine[marks.PARAM]).value
    if marks.SOURCE not in mine and marks.IDENTITY not in mine:
        mine = {**mine, marks.SOURCE: ir.StringAttr.get(name)}
    type_ = ir.MemRefType(parameter.value.type)
    pieces = []
    for k, size in enumerate(plan.sizes):
        shape, inherited = _piece(plan, parameter, sum(plan.sizes[:k]), size)
        own = {
            **mine,
            marks.PARAM: ir.StringAttr.get(f"{name}.part{k}"),
            marks.INHERIT: compose_inheritance(mine, inherited, shape),
        }
        pieces.append(add_argument(function, ir.MemRefType.get(shape, type_.element_type), own))
    return pieces


def _piece(
    plan: PartitionPlan, parameter: SplitParameter, begin: int, size: int
) -> tuple[list[int], list[ir.AffineExpr]]:
    """Shape of a piece, and the old index of each of its elements."""
    extent = plan.loop.extent or 1
    stride = math.prod(
        plan.nest.loops[p].extent or 1 for p in parameter.digits[parameter.digits.index(plan.loop.position) + 1 :]
    )
    shape = list(ir.MemRefType(parameter.value.type).shape)
    shape[parameter.axis] = shape[parameter.axis] // extent * size
    inherited = [ir.AffineExpr.get_dim(d) for d in range(len(shape))]
    index = inherited[parameter.axis]
    if parameter.digits[0] != plan.loop.position:
        run = ir.AffineExpr.get_constant(size * stride)
        index = ir.AffineExpr.get_floor_div(index, run) * (extent * stride) + ir.AffineExpr.get_mod(index, run)
    inherited[parameter.axis] = index + begin * stride
    return shape, inherited


def _read_piece(nest: Nest, plan: PartitionPlan, parameter: SplitParameter, piece: ir.Value, size: int) -> None:
    """Makes a part of the nest access its piece instead of the whole parameter."""
    coefficients: dict[int, int] = {}
    weight = 1
    for position in reversed(parameter.digits):
        coefficients[position] = weight
        weight *= size if position == plan.loop.position else nest.loops[position].extent or 1
    variables = [loop.variable for loop in nest.loops]
    for order in parameter.orders:
        access = nest.accesses[order]
        exprs = list(access.exprs)
        exprs[parameter.axis] = from_linear(LinearForm(coefficients))
        access.op.operands[0 if access.kind == "load" else 1] = piece
        rewrite_access(access.op, exprs, variables)


def _put_in_place(function: func.FuncOp, pieces: dict[ir.Value, list[ir.Value]]) -> None:
    """Moves the pieces, which stand at the end of the arguments, to where their parameters are, and drops these."""
    if not pieces:
        return
    moved = {ir.BlockArgument(p).arg_number for group in pieces.values() for p in group}
    replaced = {
        ir.BlockArgument(value).arg_number: [ir.BlockArgument(p).arg_number for p in group]
        for value, group in pieces.items()
    }
    order = [
        position
        for k in range(len(function.entry_block.arguments))
        if k not in moved
        for position in replaced.get(k, [k])
    ]
    arrange_arguments(function, order)
