"""Tied dimensions: which loops and memref axes must shrink together when one of them does.

A loop is tied to every memref axis that it indexes, an axis to every loop that indexes it, through all the nests of
the program: residual additions, BatchNorm vectors, pooling, flattening. The ties follow from access maps alone:

  `i`               the axis is the iterator (equal extents)
  `g * C + c`       the axis is a mixed-radix number of iterators (group, split); its innermost divisible digit shrinks
  `k floordiv q`    the axis is the leading digit of the iterator (flatten)
  `0`               an axis of extent 1, tied to nothing

Any other map of a dimension that has to shrink is a conflict: an offset (padding, concatenation), a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import downcast, linear_form, used_dims
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest, nests

AxisKey = tuple[ir.Value, int]


@dataclass(frozen=True)
class Tie:
    """How one axis of an access depends on the iterators.

    Attributes:
        kind: "digits" (mixed radix over `loops`, covering the axis), "leading" and "trailing" digits of one iterator,
            "fixed" (index 0 of an axis of extent 1), or "other".
        loops: the positions of the iterators, most significant first.
    """

    kind: Literal["digits", "leading", "trailing", "fixed", "other"]
    loops: tuple[int, ...] = ()


@dataclass(frozen=True)
class Shrinkage:
    """What has to change for one dimension to shrink by `factor`, consistently through the whole program.

    Attributes:
        factor: every extent below is divided by it.
        loops: the loops that shrink, with their nests.
        axes: the memref axes that shrink.
        blocks: the kept indices are the first 1/factor of each of so many equal blocks of the dimension (1: a prefix).
    """

    factor: int
    loops: tuple[tuple[Nest, Loop], ...]
    axes: tuple[AxisKey, ...]
    blocks: int


@dataclass
class Coupling:
    """The accesses of a whole program, indexed by memref; the ties are read off them on demand."""

    module: ir.Operation
    nests: list[Nest] = field(init=False)
    accesses: dict[ir.Value, list[tuple[Nest, Access]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.nests = nests(self.module)
        for nest in self.nests:
            for access in nest.accesses:
                self.accesses.setdefault(access.memref, []).append((nest, access))

    def shrink(self, nest: Nest, loop: Loop, factor: int) -> Shrinkage:
        """Follows `loop / factor` through the program. A reduction iterator reads a slice of its activations instead.

        Raises:
            IllegalTransform: the first conflict: an extent that the factor does not divide, a dimension tied to the
                network's input or output, an access that the change cannot follow.
        """
        work = _Propagation(self, nest, loop, factor)
        work.start()
        return Shrinkage(factor, tuple(work.loops.values()), tuple(work.axes), work.blocks)


def tie(nest: Nest, access: Access, axis: int) -> Tie:
    """How `axis` of the access depends on the nest's iterators."""
    extent = ir.MemRefType(access.memref.type).shape[axis]
    expr = downcast(access.exprs[axis])
    form = linear_form(expr)
    if form is not None:
        if not form.coefficients:
            return Tie("fixed") if extent == 1 and form.constant == 0 else Tie("other")
        digits = _digits(form.coefficients, form.constant, nest)
        covered = digits is not None and form.coefficients[digits[0]] * (nest.loops[digits[0]].extent or 0) == extent
        return Tie("digits", digits) if digits is not None and covered else Tie("other", tuple(form.coefficients))
    loops = tuple(sorted(used_dims(expr)))
    if len(loops) != 1:
        return Tie("other", loops)
    if isinstance(expr, ir.AffineFloorDivExpr) and isinstance(downcast(expr.lhs), ir.AffineDimExpr):
        divisor = ir.AffineConstantExpr(expr.rhs.maybe_downcast()).value
        whole = nest.loops[loops[0]].extent == divisor * extent
        return Tie("leading" if whole else "other", loops)
    return Tie("trailing" if isinstance(expr, ir.AffineModExpr) else "other", loops)


def is_reduction(nest: Nest, position: int) -> bool:
    """Whether no store of the nest is indexed by the loop."""
    return all(position not in used_dims(e) for store in nest.stores for e in store.exprs)


def parameter_name(value: ir.Value) -> str | None:
    """The name of the parameter that a memref is, None for any other memref."""
    attributes = _argument_marks(value)
    return ir.StringAttr(attributes[marks.PARAM]).value if marks.PARAM in attributes else None


def _digits(coefficients: Mapping[int, int], constant: int, nest: Nest) -> tuple[int, ...] | None:
    """The iterators of a mixed-radix number, most significant first, or None where the expression is none."""
    if constant != 0:
        return None
    order = sorted(coefficients, key=lambda p: (coefficients[p], nest.loops[p].extent or 0), reverse=True)
    weight = 1
    for position in reversed(order):
        if coefficients[position] != weight or nest.loops[position].extent is None:
            return None
        weight *= nest.loops[position].extent or 0
    return tuple(order)


def _argument_marks(value: ir.Value) -> dict[str, ir.Attribute]:
    if not isinstance(value, ir.BlockArgument):
        return {}
    return marks.argument_marks(value.owner.owner)[value.arg_number]


class _Propagation:
    """The work list that follows one shrinking dimension; collects what changes or raises on the first conflict."""

    def __init__(self, coupling: Coupling, nest: Nest, loop: Loop, factor: int) -> None:
        self.coupling = coupling
        self.nest = nest
        self.loop = loop
        self.factor = factor
        self.loops: dict[ir.Operation, tuple[Nest, Loop]] = {}
        self.axes: dict[AxisKey, None] = {}
        self.blocks = 1
        self.subject = f"{nest.label}, iterator '{loop.iterator}'"

    def start(self) -> None:
        sliced = is_reduction(self.nest, self.loop.position)
        self._shrink_loop(self.nest, self.loop, parameters_only=sliced)
        for memref, axis in self.axes:
            for nest, access in self.coupling.accesses[memref]:
                self._check_digits(nest, tie(nest, access, axis))

    def conflict(self, reason: str) -> IllegalTransform:
        return IllegalTransform(self.subject, reason)

    def _shrink_loop(self, nest: Nest, loop: Loop, *, parameters_only: bool = False) -> None:
        if loop.op.operation in self.loops:
            return
        self._check_loop(nest, loop)
        self.loops[loop.op.operation] = (nest, loop)
        for access in nest.accesses:
            for axis, expr in enumerate(access.exprs):
                if loop.position not in used_dims(expr):
                    continue
                if parameters_only and parameter_name(access.memref) is None:
                    self._check_slice(nest, access, axis)
                    continue
                self._follow_to_axis(nest, loop, access, axis)

    def _check_loop(self, nest: Nest, loop: Loop) -> None:
        where = f"iterator '{loop.iterator}' of {nest.label}"
        if nest.is_vectorised:
            raise self.conflict(f"{where}: its nest is already vectorised; this has to come before")
        if not nest.is_rectangular:
            raise self.conflict(f"{where}: its nest has a bound that is not constant (a split with a remainder)")
        if loop.extent is None or loop.extent % self.factor:
            raise self.conflict(f"the extent {loop.extent} of {where} is not divisible by {self.factor}")
        users = [use.owner.opview for use in loop.variable.uses]
        if not all(isinstance(u, affine.AffineLoadOp | affine.AffineStoreOp | affine.AffineApplyOp) for u in users):
            raise self.conflict(f"{where} enters the computed values, not only the indices")
        reads_parameter = any(
            parameter_name(a.memref) is not None and any(loop.position in used_dims(e) for e in a.exprs)
            for a in nest.loads
        )
        if is_reduction(nest, loop.position) and not reads_parameter:
            raise self.conflict(f"{nest.label} reduces over it without a parameter; its constants would be wrong")

    def _check_slice(self, nest: Nest, access: Access, axis: int) -> None:
        """A slice can be read only where the iterator alone, or as a digit, indexes the axis."""
        if tie(nest, access, axis).kind != "digits":
            raise self.conflict(
                f"{nest.label} indexes it by '{_named(access.exprs[axis], nest.iterators)}', not directly"
            )

    def _follow_to_axis(self, nest: Nest, loop: Loop, access: Access, axis: int) -> None:
        relation = tie(nest, access, axis)
        if relation.kind == "other":
            raise self.conflict(self._unfollowed(nest, access, axis))
        if relation.kind == "digits":
            self._note_blocks(nest, relation, loop.position)
        if relation.kind in ("digits", "leading"):
            self._shrink_axis(access.memref, axis, nest)

    def _shrink_axis(self, memref: ir.Value, axis: int, via: Nest) -> None:
        if (memref, axis) in self.axes:
            return
        self._check_memref(memref, via)
        self.axes[memref, axis] = None
        for nest, access in self.coupling.accesses[memref]:
            relation = tie(nest, access, axis)
            if relation.kind not in ("digits", "leading"):
                raise self.conflict(self._unfollowed(nest, access, axis))
            changed = [p for p in relation.loops if nest.loops[p].op.operation in self.loops]
            if not changed:
                position = self._digit_to_shrink(nest, relation)
                self._shrink_loop(nest, nest.loops[position])
                changed = [position]
            if relation.kind == "digits":
                self._note_blocks(nest, relation, changed[0])

    def _check_digits(self, nest: Nest, relation: Tie) -> None:
        """Two ways through the program may shrink two digits of one axis, which then no longer fits."""
        changed = [nest.loops[p].iterator for p in relation.loops if nest.loops[p].op.operation in self.loops]
        if len(changed) != 1:
            raise self.conflict(f"the iterators {' and '.join(changed)} of {nest.label} would both have to shrink")

    def _digit_to_shrink(self, nest: Nest, relation: Tie) -> int:
        """The innermost digit that the factor divides: the channels of a group before the groups."""
        for position in reversed(relation.loops):
            if (nest.loops[position].extent or 1) % self.factor == 0:
                return position
        sizes = " x ".join(str(nest.loops[p].extent) for p in relation.loops)
        names = " x ".join(nest.loops[p].iterator for p in relation.loops)
        raise self.conflict(f"the extent {sizes} of {names} in {nest.label} is not divisible by {self.factor}")

    def _check_memref(self, memref: ir.Value, via: Nest) -> None:
        attributes = _argument_marks(memref)
        for mark, end in ((marks.INPUT, "input"), (marks.OUTPUT, "output")):
            if mark in attributes:
                raise self.conflict(f"its dimension is tied to the network's {end} through {via.label}")
        if isinstance(memref, ir.BlockArgument) and marks.PARAM not in attributes:
            raise self.conflict(f"its dimension is tied to an argument of the function through {via.label}")
        if not isinstance(memref, ir.BlockArgument) and memref.owner.name != "memref.alloc":
            raise self.conflict(f"its dimension is tied to the result of {memref.owner.name} through {via.label}")
        known = {access.op for _, access in self.coupling.accesses[memref]}
        strangers = [use.owner for use in memref.uses if use.owner not in known]
        if strangers:
            raise self.conflict(f"its dimension is tied to {strangers[0].name} ({strangers[0].location})")

    def _note_blocks(self, nest: Nest, relation: Tie, position: int) -> None:
        """Each value of the digits above the shrinking one starts a block of the dimension."""
        outer = relation.loops[: relation.loops.index(position)]
        self.blocks = math.lcm(self.blocks, math.prod(nest.loops[p].extent or 1 for p in outer))

    def _unfollowed(self, nest: Nest, access: Access, axis: int) -> str:
        text = _named(access.exprs[axis], nest.iterators)
        extent = ir.MemRefType(access.memref.type).shape[axis]
        verb = "writes" if access.kind == "store" else "reads"
        what = {"copy": "a concatenation or copy", "pad": "padding"}.get(nest.role, "a window or an offset")
        return f"{nest.label} {verb} the tied dimension of extent {extent} at '{text}': {what}, which it cannot follow"


def _named(expr: ir.AffineExpr, names: Sequence[str]) -> str:
    text = str(expr).removeprefix("AffineExpr(").removesuffix(")")
    for position in sorted(range(len(names)), reverse=True):
        text = text.replace(f"d{position}", names[position])
    return text
