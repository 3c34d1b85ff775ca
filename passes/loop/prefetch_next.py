"""`morph-prefetch-next`: while a block of data is read several times, ask for the block that comes after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.affine_expr import LinearForm, from_linear
from loopmorph.passes.base import Kind, Transformation
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.prefetch import prefetch, streamed
from loopmorph.passes.nest import Access, Loop, Nest, find_nest

_LINE_BYTES = 64
_LOCALITY = 2  # into the second-level cache: the first would lose it before it is needed


@dataclass(frozen=True)
class Stream:
    """Vector loads that walk through a block of contiguous memory, once for every iteration of the loops `over`.

    Attributes:
        nest: the nest.
        load: the first of them.
        steps: the innermost loops that walk, each with its number of innermost iterations.
        over: the loops whose iterations walk through the same block again, likewise.
        share: elements of the next block for each innermost iteration.
        block: elements in a block.
    """

    nest: Nest
    load: Access
    steps: tuple[tuple[Loop, int], ...]
    over: tuple[tuple[Loop, int], ...]
    share: int
    block: int


@dataclass(frozen=True)
class PrefetchNext(Transformation[Stream]):
    """Spreads the reading of the next block over the passes through this one: `morph-prefetch-next{layer=a iter=ci}`.

        affine.for %co = 0 to 8 {                  affine.for %co = 0 to 8 {
          affine.for %ow = 0 to 2 {                  affine.for %ow = 0 to 2 {
            affine.for %ci = 0 to 64 {        ->       affine.for %ci = 0 to 64 {
              %a = affine.vector_load %w[%co,            affine.prefetch %w[%co, 0, %ow * 1024 + %ci * 16 + 2048]
                     %ci, 0] : 16                        %a = affine.vector_load %w[%co, %ci, 0] : 16
              %b = affine.vector_load %w[%co,            %b = affine.vector_load %w[%co, %ci, 16] : 16
                     %ci, 16] : 16                       ...
              ...

    Otherwise only the first pass would read from memory and wait for it, and the others leave memory idle. Values
    stay. Behind the last block the address runs past the memref's end, where a prefetch does nothing.

    Requires an innermost loop whose vector loads of one memref cover contiguous memory, block after block, in the order
    of the nest; loops around it that do not move them; and at least one cache line for each innermost iteration.

    Attributes:
        layer: the nest (see `loopmorph.passes.nest.find_nest`).
        iter: the innermost loop.
    """

    name: ClassVar[str] = "morph-prefetch-next"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iter: str

    def analyze(self, module: ir.Operation) -> Stream:
        nest = find_nest(module, self.layer)
        loop = nest.loop(self.iter)
        loads = streamed(nest, loop)
        if not loads:
            raise IllegalTransform(nest.label, f"loop '{self.iter}' holds no vector load that depends on it")
        if len({load.memref for load in loads}) != 1:
            raise IllegalTransform(nest.label, f"the vector loads in '{self.iter}' read several memrefs")
        return _stream(nest, loop, loads)

    def rewrite(self, plan: Stream) -> ir.Operation:
        rank = len(plan.load.exprs)
        walking = {loop.position for loop, _ in plan.steps}
        coefficients: dict[int, int] = {}
        rounds = math.prod(count for _, count in plan.steps)
        inner = 1
        for loop, count in reversed(plan.steps):
            coefficients[loop.position] = inner * plan.share
            inner *= count
        inner = rounds
        for loop, count in reversed(plan.over):
            coefficients[loop.position] = inner * plan.share
            inner *= count
        element = _element_bytes(plan.load)
        exprs = [_without(form, walking) for form in plan.load.forms[:-1]]
        for first in range(0, plan.share, _LINE_BYTES // element):
            ahead = from_linear(LinearForm(coefficients, plan.block + first))
            last = _without(plan.load.forms[-1], walking)
            prefetch(plan.nest, plan.load, [*exprs, last + ahead][:rank], _LOCALITY)
        return plan.nest.root.operation


def _stream(nest: Nest, loop: Loop, loads: Sequence[Access]) -> Stream:
    offsets = {_offset(access): access for access in loads}
    load = offsets[min(offsets)]
    length = max(offsets) - min(offsets) + load.lanes
    if sorted(offsets) != list(range(min(offsets), max(offsets) + 1, load.lanes)):
        raise IllegalTransform(nest.label, f"the vectors that '{loop.iterator}' reads do not lie side by side")
    strides = _strides(nest, load)
    steps: list[tuple[Loop, int]] = []
    over: list[tuple[Loop, int]] = []
    reach = length
    for position in reversed((*nest.around(loop.position), loop.position)):
        here = nest.loops[position]
        count = _iterations(nest, here)
        stride = strides.get(position, 0)
        if count == 1:
            continue
        if stride == 0:
            over.append((here, count))
        elif stride != reach:
            raise IllegalTransform(nest.label, f"loop '{here.iterator}' does not go on where the loops in it end")
        elif over:
            break
        else:
            steps.append((here, count))
            reach *= count
    passes = math.prod(count for _, count in over)
    if passes == 1:
        raise IllegalTransform(nest.label, f"no loop around '{loop.iterator}' reads the same data again")
    if length * _element_bytes(load) % (_LINE_BYTES * passes):
        reason = f"{length} elements in each iteration of '{loop.iterator}' are no whole lines for {passes} passes"
        raise IllegalTransform(nest.label, reason)
    return Stream(nest, load, tuple(reversed(steps)), tuple(reversed(over)), length // passes, reach)


def _offset(load: Access) -> int:
    """Elements of memory before the load where every iterator is 0."""
    shape = ir.MemRefType(load.memref.type).shape
    return sum((form.constant if form else 0) * math.prod(shape[k + 1 :]) for k, form in enumerate(load.forms))


def _strides(nest: Nest, load: Access) -> dict[int, int]:
    """Elements of memory by which a unit of each iterator moves the load."""
    shape = ir.MemRefType(load.memref.type).shape
    strides: dict[int, int] = {}
    for axis, form in enumerate(load.forms):
        if form is None:
            raise IllegalTransform(nest.label, "an index of the vector loads is not linear")
        for position, coefficient in form.coefficients.items():
            strides[position] = strides.get(position, 0) + coefficient * math.prod(shape[axis + 1 :])
    return strides


def _iterations(nest: Nest, loop: Loop) -> int:
    if loop.extent is None or ir.IntegerAttr(loop.op.attributes["step"]).value != 1:
        raise IllegalTransform(nest.label, f"loop '{loop.iterator}' has no constant bounds, or another step than 1")
    return loop.extent


def _element_bytes(load: Access) -> int:
    return ir.FloatType(ir.MemRefType(load.memref.type).element_type).width // 8


def _without(form: LinearForm | None, positions: set[int]) -> ir.AffineExpr:
    if form is None:
        raise ArgumentError("iter", "an index of the vector loads is not linear")
    kept = {p: c for p, c in form.coefficients.items() if p not in positions}
    return from_linear(LinearForm(kept, form.constant))
