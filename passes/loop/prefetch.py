"""`morph-prefetch`: ask for data some iterations before a vector load needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import substitute
from loopmorph.passes.building.nest_builder import compress
from loopmorph.passes.errors import IllegalTransform, require_least
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.transformation import Kind, NestTransformation

_LOCALITY = 3  # into the first-level cache


@dataclass(frozen=True)
class PrefetchPlan:
    """The loads to run ahead of.

    Attributes:
        nest: the nest.
        loads: vector loads of memrefs that only this nest's lanes stream through, in the loop.
        position: the loop whose iterations count.
    """

    nest: Nest
    loads: tuple[Access, ...]
    position: int


@dataclass(frozen=True)
class Prefetch(NestTransformation[PrefetchPlan]):
    """Prefetches what an innermost loop will load in vectors: `morph-prefetch{layer=conv1 iter=ci distance=8}`.

        affine.for %ci = 0 to 64 {                        affine.for %ci = 0 to 64 {
          %w = affine.vector_load %u[%a, %ci, 0]    ->      affine.prefetch %u[%a, %ci + 8, 0], read, locality<3>, data
          ...                                               %w = affine.vector_load %u[%a, %ci, 0]
        } {morph.iter = "ci"}                               ...
                                                          } {morph.iter = "ci"}

    Values stay. Past the end of the loop the address runs on into what lies behind it in memory, which is what the
    next iteration of the loops around reads where the memref is laid out in the order of the nest (`morph-pack`); a
    prefetch of an address outside of the memref does nothing. On a convolution:
    `morph-interchange{layer=a order=kh,kw,ci,ow},morph-vectorize{layer=a iter=ow width=8},
    morph-prefetch{layer=a iter=ci distance=8}`.

    Requires an innermost loop that holds vector loads whose index depends on it.

    Attributes:
        layer: the nest (see `loopmorph.passes.address.find_nest`).
        iter: the innermost loop.
        distance: how many iterations ahead, at least 1.
    """

    name: ClassVar[str] = "morph-prefetch"
    kind: ClassVar[Kind] = "loop"
    may_find_nothing: ClassVar[bool] = True

    layer: str
    iter: str
    distance: int

    def analyze_nest(self, nest: Nest) -> PrefetchPlan:
        loop = nest.loop(self.iter)
        require_least("distance", self.distance, 1, "iteration")
        loads = _streamed(nest, loop)
        if not loads:
            raise IllegalTransform(nest.label, f"loop '{self.iter}' holds no vector load that depends on it")
        return PrefetchPlan(nest, loads, loop.position)

    def rewrite(self, plan: PrefetchPlan) -> ir.Operation:
        variables = [loop.variable for loop in plan.nest.loops]
        ahead = ir.AffineExpr.get_dim(plan.position) + self.distance
        shift = {plan.position: ahead}
        for load in plan.loads:
            _prefetch(plan.nest, load, [substitute(e, shift, len(variables)) for e in load.exprs])
        return plan.nest.root.operation


def _prefetch(nest: Nest, load: Access, exprs: Sequence[ir.AffineExpr]) -> None:
    """Asks, right before the load, for what stands at `exprs` (over the nest's loops) in the load's memref."""
    variables = [loop.variable for loop in nest.loops]
    map_, operands = compress(ir.AffineMap.get(len(variables), 0, list(exprs)), variables)
    with ir.InsertionPoint(load.op), load.op.location:
        ir.Operation.create(
            "affine.prefetch",
            operands=[load.memref, *operands],
            attributes={
                "isWrite": ir.BoolAttr.get(False),
                "isDataCache": ir.BoolAttr.get(True),
                "localityHint": ir.IntegerAttr.get(ir.IntegerType.get_signless(32), _LOCALITY),
                "map": ir.AffineMapAttr.get(map_),
            },
        )


def _streamed(nest: Nest, loop: Loop) -> tuple[Access, ...]:
    """One vector load for each cache line that the loop reads and that moves with it."""
    inside = [a for a in nest.loads if a.lanes > 1 and a.loops[-1] == loop.position]
    moving = [a for a in inside if loop.position in a.dims]
    distinct: dict[tuple[ir.Value, str, int], Access] = {}
    for access in moving:
        distinct.setdefault((access.memref, *_line(access)), access)
    return tuple(distinct.values())


def _line(access: Access) -> tuple[str, int]:
    """What of an address varies with the loops, and the cache line that the rest of it falls in."""
    type_ = ir.MemRefType(access.memref.type)
    forms = [form for form in access.forms if form is not None]
    strides, offset = type_.get_strides_and_offset()
    if len(forms) < len(access.forms) or any(s == ir.ShapedType.get_dynamic_stride_or_offset() for s in strides):
        return str([str(e) for e in access.exprs]), 0
    varying = str([sorted(form.coefficients.items()) for form in forms])
    elements = offset + sum(stride * form.constant for stride, form in zip(strides, forms, strict=True))
    return varying, elements * type_.element_type.width // 8 // marks.ALIGNMENT
