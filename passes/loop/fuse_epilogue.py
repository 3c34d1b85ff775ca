"""`morph-fuse-epilogue`: start values and element-wise work on the results while these are in registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.memory.register_results import register_results
from loopmorph.passes.building.erase import erase_memref
from loopmorph.passes.building.pointwise import Builder
from loopmorph.passes.loop.epilogue_plan import EpiloguePlan, plan_epilogue
from loopmorph.passes.nest import Nest
from loopmorph.passes.transformation import Kind, NestTransformation, Scope


@dataclass(frozen=True)
class FuseEpilogue(NestTransformation[EpiloguePlan]):
    """Fuses what comes just before and after a nest with promoted accumulators: `morph-fuse-epilogue{layer=conv1}`.

        affine.for %co = 0 to 16 {                               affine.for %co = 0 to 16 {
          %b = affine.load %bias[%co]                              %b = affine.load %bias[%co]
          affine.store %b, %t[%co]                                 %r = affine.for %ci = ... iter_args(%a = %b) { ... }
        } {morph.role = "init"}                                    %y = arith.maximumf %r, %zero
        affine.for %co = 0 to 16 {                        ->       affine.store %y, %out[%co]
          %s = affine.load %t[%co]                               } {morph.layer = "conv1"}
          %r = affine.for %ci = ... iter_args(%a = %s) { ... }
          affine.store %r, %t[%co]
        } {morph.layer = "conv1"}
        affine.for %c = 0 to 16 {
          %v = affine.load %t[%c]
          %y = arith.maximumf %v, %zero
          affine.store %y, %out[%c]
        } {morph.layer = "relu"}

    The element-wise nest that gives the start values is instantiated at the loads of these, the only reader of the
    results before the stores of these; then that reader's only reader, and so on. Nests and memrefs that serve no
    other purpose go away. On vectors, operations become vector operations; an operand whose elements for the lanes
    lie side by side becomes a vector load, one that is the same in all lanes a scalar load and a broadcast. Where
    an operand of a reader is computed only after the nest, the nest moves down to the reader's place. On a convolution:
    `morph-promote{layer=a},morph-fuse-epilogue{layer=a}`.

    Requires that the nest stores scalars or vectors to one memref, each element once, and reads from that memref
    nothing but their start values, in the loops that store them; and of a nest that is fused that

    - it is perfect and rectangular, of element-wise `arith` and `math` operations on scalars, and stores one value
      per point, each point to an element of its own;
    - the start value's nest writes all these elements, is the last to do so, and nothing that it reads changes
      before the main nest;
    - the reader is the only one, and each of its points reads one of exactly the elements that the nest stores,
      which are in a local memref; the nest does not read what the reader writes;
    - either the reader's other operands are final, and what it writes is not in use, at the main nest's place; or
      the main nest's operands are unchanged at the reader's;
    - for vectors, the reader's results for the lanes lie side by side.

    It is refused where nothing at all can be fused.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
    """

    name: ClassVar[str] = "morph-fuse-epilogue"
    kind: ClassVar[Kind] = "loop"
    may_find_nothing: ClassVar[bool] = True

    layer: str

    @property
    def scope(self) -> Scope:
        return "neighbours"

    def analyze_nest(self, nest: Nest) -> EpiloguePlan:
        return plan_epilogue(register_results(nest))

    def rewrite(self, plan: EpiloguePlan) -> ir.Operation:
        root = plan.results.nest.root.operation
        with root.context:
            if plan.takes_place_of is not None:
                root.move_before(plan.takes_place_of)
            for op in plan.hoisted:
                op.move_before(root)
            _build_start(plan)
            _build_steps(plan)
            _erase_dead(plan)
        return root


def _build_start(plan: EpiloguePlan) -> None:
    if plan.start is None:
        return
    for place, instances in zip(plan.results.places, plan.start.instances, strict=True):
        builder = Builder(place.frame)
        for load, instance in zip(place.loads, instances, strict=True):
            with ir.InsertionPoint(load.op), load.op.location:
                value = builder.compute(instance, {})
            load.op.results[0].replace_all_uses_with(value)
            load.op.erase()


def _build_steps(plan: EpiloguePlan) -> None:
    if not plan.steps:
        return
    for n, place in enumerate(plan.results.places):
        builder = Builder(place.frame)
        for k, store in enumerate(place.stores):
            value = store.op.operands[0]
            with ir.InsertionPoint(store.op), store.op.location:
                for step in plan.steps:
                    value = builder.compute(step.instances[n][k], dict.fromkeys(step.given, value))
                builder.store(value, plan.steps[-1].instances[n][k].store)
            store.op.erase()


def _erase_dead(plan: EpiloguePlan) -> None:
    if plan.start is not None and plan.start.is_dead:
        plan.start.root.erase()
    for step in plan.steps:
        step.root.erase()
    written = [plan.results.memref, *(step.instances[0][0].store.memref for step in plan.steps)]
    for memref in written[:-1]:
        if memref.owner.name == "memref.alloc" and all(use.owner.name == "memref.dealloc" for use in memref.uses):
            erase_memref(memref)
