"""`morph-pack`: a memref in a blocked layout."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest
from loopmorph.passes.affine_expr import simplify, used_dims
from loopmorph.passes.analysis.bounds import known_limits
from loopmorph.passes.analysis.contraction_nest import view_contraction
from loopmorph.passes.analysis.memory.dataflow import outermost
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.operands import find_operands
from loopmorph.passes.building.edit_accesses import redirect
from loopmorph.passes.building.layout import Blocking, block_in_place, blocked_copy
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Access, Nest, nest_roots, view_nest
from loopmorph.passes.transformation import Kind, Scope, Transformation

OPERANDS = ("output", "input", "weight")


@dataclass(frozen=True)
class PackPlan:
    """What `morph-pack` does.

    Attributes:
        nest: the layer's main nest.
        memref: what is packed.
        blocking: its new layout.
        accesses: the accesses that are redirected to it, with their nests, in program order.
        in_place: whether the memref itself changes its type; else a packed copy is made.
    """

    nest: Nest
    memref: ir.Value
    blocking: Blocking
    accesses: tuple[tuple[Nest, Access], ...]
    in_place: bool


@dataclass(frozen=True)
class Pack(Transformation[PackPlan]):
    """Cuts axes of a memref into blocks: `morph-pack{layer=conv1 operand=output axes=1 factors=16}`.

        %y = memref.alloc() : memref<1x64x8x8xf32>      %y = memref.alloc() : memref<1x4x8x8x16xf32>
        affine.for %c = 0 to 64 { ...              ->   affine.for %c = 0 to 64 { ...
          affine.store %v, %y[%n, %c, %h, %w]             affine.store %v,
                                                            %y[%n, %c floordiv 16, %h, %w, %c mod 16]

    `[.., D, ..]` becomes `[.., D/f, .., f]`; of several axes the inner parts follow in the order in which they are
    given, so the last one given lies contiguously: `operand=weight axes=1,0 factors=16,16` makes a weight
    `[co, ci, kh, kw]` into `[co/16, ci/16, kh, kw, 16 ci, 16 co]`. Once the loops over a cut axis are split
    by the factor (`morph-split`), the accesses are plain iterators again.

    A local memref changes its type, and every nest that touches it its accesses. A parameter stays: a nest of role
    "pack" fills a packed copy of it, which this layer's nests then read. Values stay, so it is always legal.

    Requires that the factors divide the extents, that the memref is no input or output of the program, and that all
    its uses are `affine.load` and `affine.store` with affine indices.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        operand: "output", what the nest stores to; "weight", of what it reads, the one that depends on the output's
            channel (axis 1) but no other of the output's iterators, else, in a blocked layout, the one whose last axis
            runs along with the output's last one; "input", the other one.
        axes: the axes to cut, numbered from 0.
        factors: for each the length of its blocks, at least 2.
    """

    name: ClassVar[str] = "morph-pack"
    kind: ClassVar[Kind] = "loop"

    layer: str
    operand: str
    axes: tuple[int, ...]
    factors: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operand not in OPERANDS:
            raise ArgumentError("operand", f"expected one of {', '.join(OPERANDS)}, got '{self.operand}'")
        if not self.axes or len(set(self.axes)) != len(self.axes):
            raise ArgumentError("axes", f"expected one or more different axes, got {_listed(self.axes)}")
        if len(self.factors) != len(self.axes):
            raise ArgumentError(
                "factors", f"expected one factor for each of {len(self.axes)} axes: got {len(self.factors)}"
            )
        if any(factor < 2 for factor in self.factors):
            raise ArgumentError("factors", f"expected factors of at least 2, got {_listed(self.factors)}")

    @property
    def scope(self) -> Scope:
        return "nest" if self.operand == "weight" else "network"

    def stays_within(self, module: ir.Operation, shared: Collection[ir.Value]) -> bool:
        plan = self.analyze(module)
        return not (plan.in_place and plan.memref in shared)

    def analyze(self, module: ir.Operation) -> PackPlan:
        with module.context:
            nest = find_nest(module, self.layer)
            memref = named_operand(nest, self.operand)
            blocking = self._blocking(nest, memref)
            in_place = is_local(memref)
            if not in_place:
                self._require_parameter(nest, memref)
            users = _users(module, nest, memref, self.operand)
            if not in_place:
                users = [root for root in users if marks.get_text(root, marks.LAYER) == nest.layer]
            views = [view_nest(root) for root in users]
            accesses = tuple((view, a) for view in views for a in view.accesses if a.memref == memref)
            return PackPlan(nest, memref, blocking, accesses, in_place)

    def rewrite(self, plan: PackPlan) -> ir.Operation:
        with plan.nest.root.context, ir.Location.unknown():
            if plan.in_place:
                packed = block_in_place(plan.memref, plan.blocking)
            else:
                packed = blocked_copy(plan.memref, plan.blocking, plan.accesses[0][0])
            for nest, access in plan.accesses:
                exprs = _simplified(plan.blocking.exprs(access.exprs), nest)
                redirect(access.op, packed, exprs, [loop.variable for loop in nest.loops])
            if plan.in_place:
                plan.memref.owner.erase()
        return plan.nest.root.operation

    def _blocking(self, nest: Nest, memref: ir.Value) -> Blocking:
        shape = ir.MemRefType(memref.type).shape
        for axis, factor in zip(self.axes, self.factors, strict=True):
            if not 0 <= axis < len(shape):
                raise ArgumentError(
                    "axes", f"the {self.operand} of {nest.label} has axes 0 to {len(shape) - 1}, not {axis}"
                )
            if shape[axis] % factor:
                reason = f"{factor} does not divide {shape[axis]}, the extent of axis {axis} of its {self.operand}"
                raise IllegalTransform(nest.label, reason)
        return Blocking(self.axes, self.factors)

    def _require_parameter(self, nest: Nest, memref: ir.Value) -> None:
        if not isinstance(memref.owner, ir.Block):
            raise IllegalTransform(nest.label, f"its {self.operand} is no plain allocation in the function's body")
        attributes = marks.argument_marks(memref.owner.owner)[ir.BlockArgument(memref).arg_number]
        if marks.PARAM not in attributes:
            kind = "an output" if marks.OUTPUT in attributes else "an input"
            reason = f"its {self.operand} is {kind} of the program, whose layout is fixed"
            raise IllegalTransform(nest.label, f"{reason}; only local memrefs and parameters are packed")


def named_operand(nest: Nest, name: str) -> ir.Value:
    """The memref that is a nest's "output", "weight" or "input"; see `Pack`.

    Raises:
        IllegalTransform: which one is meant is not clear.
    """
    stored = list(dict.fromkeys(a.memref for a in nest.stores))
    if name == "output":
        if len(stored) != 1:
            raise IllegalTransform(nest.label, f"it stores to {len(stored)} memrefs; one is required")
        return stored[0]
    read = list(dict.fromkeys(a.memref for a in nest.loads if a.memref not in stored))
    if name == "input" and len(read) == 1:
        return read[0]
    # First the plain layout, in which the input, too, runs along the output's last axis.
    operands = find_operands(list(nest.accesses))
    if operands is not None:
        return operands.weight.memref if name == "weight" else operands.input.memref
    blocked = view_contraction(nest)
    if blocked is None:
        raise IllegalTransform(nest.label, f"which memref is its {name} is not clear: it reads {len(read)}")
    return blocked.weight.memref if name == "weight" else blocked.data.memref


def _users(module: ir.Operation, nest: Nest, memref: ir.Value, operand: str) -> list[affine.AffineForOp]:
    """The outermost loops of all nests that touch the memref, in program order.

    Raises:
        IllegalTransform: something else than a load or a store in a nest uses it.
    """
    roots = set()
    for use in memref.uses:
        op = use.owner.operation
        if op.name not in ("affine.load", "affine.store") or not _directly_in_loops(op):
            used = f"its {operand} is also used by '{op.name}'"
            raise IllegalTransform(nest.label, f"{used}; packing follows loads and stores in loops only")
        roots.add(outermost(op))
    return [root for root in nest_roots(module) if root.operation in roots]


def _directly_in_loops(op: ir.Operation) -> bool:
    """Whether a loop and nothing but loops is around the operation, so that the view of its nest shows it."""
    depth = 0
    while (parent := op.parent) is not None and parent.name == "affine.for":
        op, depth = parent.operation, depth + 1
    return depth > 0 and parent is not None and parent.name == "func.func"


def _simplified(exprs: Sequence[ir.AffineExpr], nest: Nest) -> list[ir.AffineExpr]:
    known = known_limits(nest)
    limits = [known.get(loop.variable) for loop in nest.loops]
    return [
        ir.AffineExpr.simplify_affine_expr(e, len(limits), 0)
        if any(limits[d] is None for d in used_dims(e))
        else simplify(e, [limit or 1 for limit in limits])
        for e in exprs
    ]


def _listed(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values)) or "none"
