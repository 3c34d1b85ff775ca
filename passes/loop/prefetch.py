"""`morph-prefetch`: ask for data some iterations before a vector load needs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import LinearForm, from_linear, substitute
from loopmorph.passes.building.nest_builder import compress
from loopmorph.passes.errors import ArgumentError, IllegalTransform, require_least
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.transformation import Kind, NestTransformation

_FIRST_LEVEL, _SECOND_LEVEL = 3, 2  # into which cache


@dataclass(frozen=True)
class Request:
    """One operation to build.

    Attributes:
        load: what it stands right before.
        exprs: what it asks for: the index in the load's memref, over the nest's loops.
        locality: the cache that it is to come into, as `affine.prefetch` counts.
    """

    load: Access
    exprs: tuple[ir.AffineExpr, ...]
    locality: int


@dataclass(frozen=True)
class PrefetchPlan:
    """The nest, and what to ask for in its loop."""

    nest: Nest
    requests: tuple[Request, ...]


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

    With a loop in place of the distance, `morph-prefetch{layer=conv1 iter=ci spread=co}`, it asks for what the next
    iteration of `co` reads, a part of it in every iteration of the loops within, so that memory delivers at an even
    pace while what the present iteration reads is used again and again (here of 4 times 64 iterations):

        affine.for %co = 0 to 4 {
          affine.for %ow = 0 to 4 {
            affine.for %ci = 0 to 64 {
              affine.prefetch %u[0, 0, %co * 1024 + %ow * 256 + %ci * 4 + 1024], read, locality<2>, data
              %w = affine.vector_load %u[%co, %ci, 0] : memref<4x64x16xf32>, vector<16xf32>

    Requires an innermost loop that holds vector loads whose index depends on it. With `spread`: a loop around it on
    which such loads depend; all of one memref, of which an iteration of that loop reads one piece, and which one of
    the loops within reads again and again; within, loops from 0 to constants.

    Attributes:
        layer: the nest (see `loopmorph.passes.address.find_nest`).
        iter: the innermost loop.
        distance: how many iterations ahead, at least 1.
        spread: a loop around it, one of whose iterations it is to be ahead, evenly.
    """

    name: ClassVar[str] = "morph-prefetch"
    kind: ClassVar[Kind] = "loop"
    may_find_nothing: ClassVar[bool] = True

    layer: str
    iter: str
    distance: int | None = None
    spread: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.distance is None) == (self.spread is None):
            raise ArgumentError("distance", f"{self.name} needs either a distance or a loop to spread over")

    def analyze_nest(self, nest: Nest) -> PrefetchPlan:
        loop = nest.loop(self.iter)
        block = None if self.spread is None else nest.loop(self.spread, "spread")
        if self.distance is not None:
            require_least("distance", self.distance, 1, "iteration")
        loads = _streamed(nest, loop)
        if not loads:
            raise IllegalTransform(nest.label, f"loop '{self.iter}' holds no vector load that depends on it")
        requests = _ahead(nest, loads, loop, self.distance or 0) if block is None else _spread(nest, loads, loop, block)
        return PrefetchPlan(nest, tuple(requests))

    def rewrite(self, plan: PrefetchPlan) -> ir.Operation:
        for request in plan.requests:
            _prefetch(plan.nest, request)
        return plan.nest.root.operation


def _ahead(nest: Nest, loads: Sequence[Access], loop: Loop, distance: int) -> list[Request]:
    """Each load's own address, some iterations later."""
    shift = {loop.position: ir.AffineExpr.get_dim(loop.position) + distance}
    n = len(nest.loops)
    return [Request(a, tuple(substitute(e, shift, n) for e in a.exprs), _FIRST_LEVEL) for a in loads]


def _spread(nest: Nest, loads: Sequence[Access], loop: Loop, block: Loop) -> list[Request]:
    """What the next iteration of the block reads, evenly over the iterations of the loops within.

    Raises:
        IllegalTransform: see `Prefetch`.
    """
    chain = (*nest.around(loop.position), loop.position)
    if block.position not in chain[:-1]:
        raise IllegalTransform(nest.label, f"loop '{block.iterator}' is not around loop '{loop.iterator}'")
    inside = chain[chain.index(block.position) + 1 :]
    for position in inside:
        _require_count(nest, nest.loops[position])
    by_memref: dict[ir.Value, list[Access]] = {}
    for load in loads:
        by_memref.setdefault(load.memref, []).append(load)
    requests = [request for same in by_memref.values() for request in _pieces(nest, same, inside, block)]
    if not requests:
        reason = f"no iteration of loop '{block.iterator}' reads one piece of memory again and again"
        raise IllegalTransform(nest.label, f"{reason} in vectors; give a distance in its place")
    return requests


def _require_count(nest: Nest, loop: Loop) -> None:
    """Raises:
    IllegalTransform: the loop does not run from 0 to a constant by ones.
    """
    bounds = nest.bounds(loop)
    if loop.extent is None or bounds.step != 1 or [str(e) for e in bounds.lower] != ["0"]:
        raise IllegalTransform(nest.label, f"loop '{loop.iterator}' does not run from 0 to a constant by ones")


def _pieces(nest: Nest, loads: Sequence[Access], inside: Sequence[int], block: Loop) -> list[Request]:
    """The requests for what loads of one memref read in an iteration of the block; none where that is no one piece."""
    addresses = [address for load in loads if (address := _address(load)) is not None]
    if len(addresses) < len(loads) or not _counts_elements(loads[0].memref):
        return []
    load, address = loads[0], min(addresses, key=lambda each: each.constant)
    piece = address.coefficients.get(block.position, 0)
    steps = {p: nest.loops[p].extent or 1 for p in inside}
    spanned = sum(address.coefficients.get(p, 0) * (extent - 1) for p, extent in steps.items())
    repeated = any(p not in address.coefficients and extent > 1 for p, extent in steps.items())
    if piece <= spanned or not repeated or any(address.coefficients.get(p, 0) < 0 for p in inside):
        return []
    line = marks.ALIGNMENT * 8 // ir.MemRefType(load.memref.type).element_type.width
    share = -(-piece // math.prod(steps.values()))
    coefficients = {p: c for p, c in address.coefficients.items() if p not in inside}
    for p in reversed(inside):
        coefficients[p] = share
        share *= steps[p]
    start = address.constant + piece
    share = coefficients[inside[-1]]
    zeros = (ir.AffineExpr.get_constant(0),) * (len(load.exprs) - 1)
    starts = range(start, start + share, line)
    return [Request(load, (*zeros, from_linear(LinearForm(coefficients, s))), _SECOND_LEVEL) for s in starts]


def _address(load: Access) -> LinearForm | None:
    """The place of a load's first element, counted in elements; None where it is not linear in the loops."""
    strides, offset = ir.MemRefType(load.memref.type).get_strides_and_offset()
    forms = [form for form in load.forms if form is not None]
    if len(forms) < len(load.forms) or ir.ShapedType.get_dynamic_stride_or_offset() in strides:
        return None
    coefficients: dict[int, int] = {}
    for stride, form in zip(strides, forms, strict=True):
        for p, c in form.coefficients.items():
            coefficients[p] = coefficients.get(p, 0) + stride * c
    return LinearForm(coefficients, offset + sum(s * f.constant for s, f in zip(strides, forms, strict=True)))


def _counts_elements(memref: ir.Value) -> bool:
    """Whether the last index of a memref, the others being 0, is the place of an element."""
    strides, offset = ir.MemRefType(memref.type).get_strides_and_offset()
    return strides[-1:] == [1] and not offset


def _prefetch(nest: Nest, request: Request) -> None:
    variables = [loop.variable for loop in nest.loops]
    load = request.load
    map_, operands = compress(ir.AffineMap.get(len(variables), 0, list(request.exprs)), variables)
    with ir.InsertionPoint(load.op), load.op.location:
        ir.Operation.create(
            "affine.prefetch",
            operands=[load.memref, *operands],
            attributes={
                "isWrite": ir.BoolAttr.get(False),
                "isDataCache": ir.BoolAttr.get(True),
                "localityHint": ir.IntegerAttr.get(ir.IntegerType.get_signless(32), request.locality),
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
    address = _address(access)
    if address is None:
        return str([str(e) for e in access.exprs]), 0
    varying = str([sorted(form.coefficients.items()) for form in access.forms if form is not None])
    width = ir.MemRefType(access.memref.type).element_type.width
    return varying, address.constant * width // 8 // marks.ALIGNMENT
