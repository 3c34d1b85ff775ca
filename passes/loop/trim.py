"""`morph-trim`: a reduction does not run over what only adds products with padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.affine_expr import LinearForm, from_linear
from loopmorph.passes.analysis.bounds import limits_of
from loopmorph.passes.analysis.memory.zero_halo import live_box
from loopmorph.passes.building.rebound import rebound
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class TrimPlan:
    """New bounds of a loop, over the nest's loops: dimension p is loop p."""

    nest: Nest
    loop: Loop
    lower: tuple[ir.AffineExpr, ...]
    upper: tuple[ir.AffineExpr, ...]


@dataclass(frozen=True)
class Trim(NestTransformation[TrimPlan]):
    """Bounds a reduction by where the data is more than padding: `morph-trim{layer=conv1 iter=kh}`.

        affine.for %oh = 0 to 8 {                         affine.for %oh = 0 to 8 {
          %0 = affine.for %kh = 0 to 3                      %0 = affine.for %kh = max (0, -%oh + 1)
                 iter_args(%a = %z) {               ->             to min (3, -%oh + 9) iter_args(%a = %z) {
            %x = affine.load %d[%oh + %kh]                    %x = affine.load %d[%oh + %kh]
            ...                                               ...

    where rows 0 and 9 of `%d` hold nothing but zeros. Values stay as long as the other factors are finite. On a padded
    convolution: `morph-promote{layer=a},morph-trim{layer=a iter=kh}`.

    Requires a loop from 0 to a constant with step 1 that carries accumulators in registers (`morph-promote`) and
    stores nothing, all of whose sums add products with loads of one local memref, at one and the same index along an
    axis, linear in this loop and those around it, that leaves the part of the memref where the program writes more
    than zeros, all lanes of a vector at once.

    Attributes:
        layer: the nest (see `loopmorph.passes.address.find_nest`).
        iter: the reduction.
    """

    name: ClassVar[str] = "morph-trim"
    kind: ClassVar[Kind] = "loop"
    may_find_nothing: ClassVar[bool] = True

    layer: str
    iter: str

    def analyze_nest(self, nest: Nest) -> TrimPlan:
        loop = nest.loop(self.iter)
        bounds = nest.bounds(loop)
        if loop.extent is None or bounds.step != 1 or not len(loop.op.operation.results):
            reason = f"loop '{self.iter}' carries no accumulators from 0 to a constant"
            raise IllegalTransform(nest.label, reason)
        factors = _factors(nest, loop)
        form, begin, end = _live_range(nest, loop, factors)
        step = form.coefficients[loop.position]
        others = {p: -c for p, c in form.coefficients.items() if p != loop.position}
        first, past = (
            ir.AffineExpr.get_ceil_div(from_linear(LinearForm(others, limit - form.constant)), step)
            for limit in (begin, end)
        )
        return TrimPlan(nest, loop, (*bounds.lower, first), (*bounds.upper, past))

    def rewrite(self, plan: TrimPlan) -> ir.Operation:
        return rebound(plan.nest, plan.loop, plan.lower, plan.upper)


def _live_range(nest: Nest, loop: Loop, factors: tuple[Access, ...]) -> tuple[LinearForm, int, int]:
    """The one index of all the factors along an axis that the loop moves into padding, and where it meets live data.

    Returns:
        The index, of a vector that of its first lane; and the range of it in which any lane is live.
    """
    box = live_box(factors[0].memref)
    inner = {other.position for other in nest.loops if loop.position in nest.around(other.position)}
    limits = limits_of(nest)
    for axis, form in enumerate(factors[0].forms if box is not None else ()):
        same = form is not None and all(f.forms[axis] == form for f in factors)
        if box is None or form is None or not same or inner & form.coefficients.keys():
            continue
        if form.coefficients.get(loop.position, 0) <= 0 or any(limits[p] is None for p in form.coefficients):
            continue
        lanes = max(f.lanes for f in factors) if axis == len(factors[0].forms) - 1 else 1
        begin = box.begin[axis] - (lanes - 1)
        reach = [(c * ((limits[p] or 1) - 1)) for p, c in form.coefficients.items()]
        low = form.constant + sum(min(0, r) for r in reach)
        high = form.constant + sum(max(0, r) for r in reach)
        if low < begin or high >= box.end[axis]:
            return form, begin, box.end[axis]
    reason = f"loop '{loop.iterator}' does not move all of its products' factors into padding by one index"
    raise IllegalTransform(nest.label, reason)


def _factors(nest: Nest, loop: Loop) -> tuple[Access, ...]:
    """For each product that the loop adds to its accumulators, the load that may be padding."""
    accesses = {access.op: access for access in nest.accesses}
    if any(access.kind == "store" and loop.position in access.loops for access in nest.accesses):
        raise IllegalTransform(nest.label, f"loop '{loop.iterator}' stores")
    found = [[_loads(operand, accesses) for operand in p.operands] for p in _products(nest, loop.op)]
    shared = set.intersection(*({a.memref for part in parts for a in part} for parts in found)) if found else set()
    for memref in shared:
        factors = [next((p for p in parts if p and all(a.memref == memref for a in p)), ()) for parts in found]
        if live_box(memref) is not None and all(factors):
            return tuple(access for factor in factors for access in factor)
    raise IllegalTransform(nest.label, f"the sums of '{loop.iterator}' have no common factor with padding")


def _products(nest: Nest, loop: affine.AffineForOp) -> Iterator[ir.Operation]:
    """What the loop, and those in it, add to the values that they carry."""
    ops = list(loop.body.operations)
    for start, value in zip(loop.inner_iter_args, ops[-1].operands, strict=True):
        while value != start:
            owner = value.owner
            if not isinstance(owner, ir.Block) and isinstance(owner.opview, affine.AffineForOp):
                inner = owner.opview
                if value == inner.results[0]:
                    yield from _products(nest, inner)
                value = inner.inits[[r == value for r in inner.results].index(True)]
                continue
            if isinstance(owner, ir.Block) or owner.name != "arith.addf":
                raise IllegalTransform(nest.label, "a value that a loop carries is no sum of products")
            terms = [v for v in owner.operands if not isinstance(v.owner, ir.Block) and v.owner.name == "arith.mulf"]
            rest = [v for v in owner.operands if v not in terms]
            if len(terms) != 1 or len(rest) != 1:
                raise IllegalTransform(nest.label, "a value that a loop carries is no sum of products")
            yield terms[0].owner.operation
            value = rest[0]


def _loads(value: ir.Value, accesses: Mapping[ir.Operation, Access]) -> tuple[Access, ...]:
    """The loads that the lanes of a factor are; none where it is more than loads, broadcast and blended."""
    if isinstance(value.owner, ir.Block):
        return ()
    op = value.owner.operation
    if op in accesses:
        return (accesses[op],)
    if op.name not in ("vector.broadcast", "arith.select"):
        return ()
    parts = [_loads(v, accesses) for v in (op.operands if op.name == "vector.broadcast" else list(op.operands)[1:])]
    return tuple(a for part in parts for a in part) if all(parts) else ()
