"""`morph-vectorize`: several iterations of an innermost loop at once, as the lanes of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.dependence.dependence import carried
from loopmorph.passes.analysis.dependence.reductions import reductions
from loopmorph.passes.analysis.structure import body_of, require_no_results
from loopmorph.passes.building.arrange import require_normal
from loopmorph.passes.building.rebuild import copy_marks, wrap
from loopmorph.passes.building.vector_access import LaneAccess, lane_accesses
from loopmorph.passes.building.vector_body import (
    REDUCTION_KINDS,
    BodyBuilder,
    LaneReduction,
    VectorLoop,
    finish,
    neutral,
)
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Loop, Nest
from loopmorph.passes.transformation import Kind, NestTransformation

_UNIFORM = frozenset({"affine.apply", "affine.min", "affine.max"})
_WIDENED_DIALECTS = frozenset({"arith", "math"})


@dataclass(frozen=True)
class VectorizePlan:
    """The loops to vectorise and, where one is the nest's only loop, the name of another to put around it."""

    nest: Nest
    loops: tuple[VectorLoop, ...]
    wrapper: str | None


@dataclass(frozen=True)
class Vectorize(NestTransformation[VectorizePlan]):
    """Vectorises an innermost loop: `morph-vectorize{layer=relu iter=ow width=16}`.

        affine.for %ow = 0 to 40 {                        affine.for %ow = 0 to 2 {
          %a = affine.load %x[%c, %ow]                      %a = affine.vector_load %x[%c, %ow * 16]
          %b = affine.load %s[%c]                           %b = affine.load %s[%c]
          %r = arith.mulf %a, %b                            %v = vector.broadcast %b : f32 to vector<16xf32>
          affine.store %r, %y[%c, %ow]            ->        %r = arith.mulf %a, %v : vector<16xf32>
        } {morph.iter = "ow"}                               affine.vector_store %r, %y[%c, %ow * 16]
                                                          } {morph.iter = "ow"}
                                                          affine.for %ow = 32 to 40 {
                                                            ... the scalar body ...
                                                          } {morph.iter = "ow.rest"}

    A single vector needs no loop: its operations take the place. Where the width divides the extent, there is no
    second loop. Around a nest's only loop another one of extent 1, `ow.0`, is put, so that one nest is left. All loops
    of that name are vectorised. On a convolution with 8 x 8 pixels:
    `morph-interchange{layer=a order=ci,kh,kw,ow},morph-vectorize{layer=a iter=ow width=8}`.

    Elements that lie side by side (iterator with coefficient 1 on the last axis) become `affine.vector_load` and
    `affine.vector_store`; those that no lane changes stay scalars and are broadcast where a vector needs them; all
    others are read and written one by one.

    Reductions over the loop (`y[c] = combine(y[c], v)`) are accumulated in one vector, combined by `vector.reduction`
    after the loop; floating-point sums and products round differently then.

    Requires loops without loops in them, from 0 to a constant of at least the width with step 1; no dependence that
    the loop carries but such reductions; in the body only loads, stores and scalar arithmetic (`arith`, `math`); and
    the iterator in indices only, not as a value.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iter: the iterator.
        width: number of lanes, at least 2.
    """

    name: ClassVar[str] = "morph-vectorize"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iter: str
    width: int = 16

    def analyze_nest(self, nest: Nest) -> VectorizePlan:
        nest.loop(self.iter)
        if self.width < 2:
            raise ArgumentError("width", f"the width must be at least 2, got {self.width}")
        loops = tuple(_analyze(nest, p, self.width) for p in nest.loops if p.iterator == self.iter)
        wrapper = f"{self.iter}.0" if len(nest.loops) == 1 else None
        return VectorizePlan(nest, loops, wrapper)

    def rewrite(self, plan: VectorizePlan) -> ir.Operation:
        with plan.nest.root.context:
            root = plan.nest.root
            if plan.wrapper is not None:
                root = wrap(root, plan.wrapper)
            for each in plan.loops:
                _vectorize(plan.nest, each)
            return root.operation


def _analyze(nest: Nest, loop: Loop, width: int) -> VectorLoop:
    _require_shape(nest, loop, width)
    accesses = {a.access.op: a for a in lane_accesses(nest, loop, width)}
    found = _reductions(nest, loop, accesses)
    _require_no_dependence(nest, loop, found)
    varying, dropped = _values(nest, loop, accesses, found)
    return VectorLoop(loop, width, accesses, varying, found, dropped)


def _require_shape(nest: Nest, loop: Loop, width: int) -> None:
    name = loop.iterator
    if any(other.parent == loop.position for other in nest.loops):
        raise IllegalTransform(nest.label, f"loop '{name}' holds other loops; only an innermost one can be vectorised")
    require_no_results(nest, loop)
    require_normal(nest, loop)
    if loop.extent is None:
        raise IllegalTransform(nest.label, f"the extent of loop '{name}' is no constant")
    if loop.extent < width:
        raise IllegalTransform(nest.label, f"the extent {loop.extent} of '{name}' is less than the width {width}")
    if any(loop.extent % width and other.iterator == f"{name}.rest" for other in nest.loops):
        raise IllegalTransform(nest.label, f"the nest already has an iterator '{name}.rest'")
    for op in body_of(loop.op):
        if any(isinstance(v.type, ir.VectorType) for v in (*op.operands, *op.results)):
            raise IllegalTransform(nest.label, f"loop '{name}' is already vectorised: {op.name} computes with vectors")


def _reductions(nest: Nest, loop: Loop, accesses: Mapping[ir.Operation, LaneAccess]) -> tuple[LaneReduction, ...]:
    """The reductions into elements that the loop does not index, in program order."""
    if not any(a.form == "uniform" and a.access.kind == "store" for a in accesses.values()):
        return ()
    found = []
    for reduction in reductions(nest):
        load, store = nest.accesses[reduction.load], nest.accesses[reduction.store]
        fixed = loop.position not in store.dims
        if store.op in accesses and fixed and reduction.combiner in REDUCTION_KINDS:
            combine = store.op.operands[0].owner
            value = next(v for v in combine.operands if v != load.op.results[0])
            found.append(LaneReduction(load.op, combine, store.op, value))
    return tuple(found)


def _require_no_dependence(nest: Nest, loop: Loop, found: tuple[LaneReduction, ...]) -> None:
    accumulating = {op for r in found for op in (r.load, r.store)}
    for dependence in carried(nest, loop):
        known = dependence.source.op in accumulating and dependence.sink.op in accumulating
        if not (dependence.reduction and known):
            reason = f"the iterations of '{loop.iterator}' cannot run side by side: {dependence.describe(nest)}"
            raise IllegalTransform(nest.label, reason)


def _values(
    nest: Nest, loop: Loop, accesses: Mapping[ir.Operation, LaneAccess], found: tuple[LaneReduction, ...]
) -> tuple[frozenset[ir.Value], frozenset[ir.Operation]]:
    """The values that differ from lane to lane, and the operations that only compute indices.

    Raises:
        IllegalTransform: an operation that has no vector form.
    """
    varying: set[ir.Value] = {loop.variable}
    dropped: set[ir.Operation] = set()
    reducing = {op for r in found for op in (r.load, r.combine, r.store)}
    body = body_of(loop.op)
    for op in reversed(body):
        if op.name == "affine.apply" and all(u.owner in dropped or u.owner in accesses for u in op.results[0].uses):
            dropped.add(op)
    for op in body:
        if op in dropped or op in reducing:
            continue
        if op in accesses:
            access = accesses[op]
            if access.form != "uniform" and access.access.kind == "load":
                varying.add(op.results[0])
        elif loop.variable in op.operands:
            reason = f"{op.name} uses the iterator '{loop.iterator}' as a value, not only in indices"
            raise IllegalTransform(nest.label, reason)
        else:
            _require_form(nest, loop, op, varying)
    for value in (*varying - {loop.variable}, *(r.value for r in found)):
        if not isinstance(value.type, ir.IntegerType | ir.FloatType):
            raise IllegalTransform(nest.label, f"values of type {value.type} cannot be the lanes of a vector")
    return frozenset(varying), frozenset(dropped)


def _require_form(nest: Nest, loop: Loop, op: ir.Operation, varying: set[ir.Value]) -> None:
    computes = op.name.split(".")[0] in _WIDENED_DIALECTS and not len(op.regions)
    if not computes and op.name not in _UNIFORM:
        raise IllegalTransform(nest.label, f"{op.name} in loop '{loop.iterator}' has no vector form")
    if any(v in varying for v in op.operands):
        if not computes:
            reason = f"{op.name} uses the iterator '{loop.iterator}' as a value, not only in indices"
            raise IllegalTransform(nest.label, reason)
        varying.update(op.results)


def _vectorize(nest: Nest, plan: VectorLoop) -> None:
    """Builds the vectors before the loop, which keeps the rest or goes."""
    loop = plan.loop
    before = ir.InsertionPoint(loop.op)
    in_scope = {*nest.around(loop.position), loop.position}
    # No index here uses the iterator of a loop elsewhere, which may be gone already.
    variables = [(nest.loops[p] if p in in_scope else loop).variable for p in range(len(nest.loops))]
    with before, loop.op.location:
        if plan.vectors == 1:
            partial = BodyBuilder(plan, variables, before, None).build()
        else:
            vector_loop = affine.AffineForOp(0, plan.vectors, 1, [neutral(r, plan.width) for r in plan.reductions])
            vector_loop.attributes[marks.ITER] = ir.StringAttr.get(loop.iterator)
            copy_marks(loop.op, vector_loop)
            variables[loop.position] = vector_loop.induction_variable
            with ir.InsertionPoint(vector_loop.body):
                outside = ir.InsertionPoint(vector_loop)
                affine.AffineYieldOp(BodyBuilder(plan, variables, outside, list(vector_loop.inner_iter_args)).build())
            partial = list(vector_loop.operation.results)
        for reduction, value in zip(plan.reductions, partial, strict=True):
            finish(plan, reduction, value, variables)
    if plan.rest:
        loop.op.attributes["lowerBoundMap"] = ir.AffineMapAttr.get(ir.AffineMap.get_constant(plan.vectors * plan.width))
        loop.op.attributes[marks.ITER] = ir.StringAttr.get(f"{loop.iterator}.rest")
    else:
        loop.op.operation.erase()
