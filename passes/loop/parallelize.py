"""`morph-parallelize`: the iterations of one loop on several threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.dependence.aliasing import may_alias
from loopmorph.passes.analysis.dependence.dependence import between_iterations, dependences
from loopmorph.passes.analysis.dependence.known_operations import require_known_operations
from loopmorph.passes.analysis.memory.slabs import by_memref, spread
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Loop, Nest
from loopmorph.passes.nest_text import access_text
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class ParallelizePlan:
    """The loop to mark."""

    nest: Nest
    loop: Loop


@dataclass(frozen=True)
class Parallelize(NestTransformation[ParallelizePlan]):
    """Marks a loop whose iterations may run at the same time: `morph-parallelize{layer=conv1 iter=co}`.

        affine.for %co = 0 to 64 {                        affine.for %co = 0 to 64 {
          ...                                     ->        ...
        } {morph.iter = "co"}                             } {morph.iter = "co", morph.parallel}

    When the program is compiled for several threads, each runs one contiguous chunk of the marked loop, and the loops
    around it in full; with one thread the mark changes nothing. Later transformations keep the mark on the loop, or on
    the outer one of the loops that it is split into.

    Requires a loop with constant bounds and at least two iterations that carries no values in registers
    (`iter_args`), that holds all stores of the nest, and in whose iterations no two with different values of the
    iterator touch the same element, unless both only load it. This refuses reductions over the iterator, and what
    is carried by a loop around it and changes the iterator too. One loop of a nest can be marked.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iter: the iterator.
    """

    name: ClassVar[str] = "morph-parallelize"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iter: str

    def analyze_nest(self, nest: Nest) -> ParallelizePlan:
        loop = nest.loop(self.iter)
        marked = parallel_loop(nest)
        if marked is not None:
            other = "" if marked.position == loop.position else "; one loop of a nest can be"
            raise IllegalTransform(nest.label, f"'{marked.iterator}' is already parallel{other}")
        require_parallel(nest, loop)
        return ParallelizePlan(nest, loop)

    def rewrite(self, plan: ParallelizePlan) -> ir.Operation:
        with plan.nest.root.context:
            plan.loop.op.attributes[marks.PARALLEL] = ir.UnitAttr.get()
            return plan.nest.root.operation


def parallel_loop(nest: Nest) -> Loop | None:
    """The nest's loop that is marked as parallel, if there is one."""
    return next((loop for loop in nest.loops if marks.PARALLEL in loop.op.attributes), None)


def require_parallel(nest: Nest, loop: Loop) -> None:
    """Raises:
    IllegalTransform: the iterations of the loop cannot run at the same time; says why.
    """
    require_parallel_shape(nest, loop)
    reason = _dependence_reason(nest, loop)
    if reason:
        raise IllegalTransform(nest.label, f"'{loop.iterator}' cannot run in parallel: {reason}")


def require_parallel_shape(nest: Nest, loop: Loop) -> None:
    """The part of `require_parallel` that needs no analysis of dependences.

    Raises:
        IllegalTransform: the loop is not one that can be cut into chunks.
    """
    reason = _shape_reason(nest, loop)
    if reason:
        raise IllegalTransform(nest.label, f"'{loop.iterator}' cannot run in parallel: {reason}")


def _shape_reason(nest: Nest, loop: Loop) -> str:
    if loop.extent is None:
        return "its bounds are not constant"
    if loop.extent < 2:
        return f"it has {loop.extent} iteration{'s' if loop.extent != 1 else ''}"
    if len(loop.op.operation.results):
        return "it carries values in registers (iter_args)"
    outside = [store for store in nest.stores if loop.position not in store.loops]
    return f"{access_text(nest, outside[0])} lies outside it" if outside else ""


def _dependence_reason(nest: Nest, loop: Loop) -> str:
    require_known_operations(nest)
    if _obviously_independent(nest, loop):
        return ""
    for dependence in dependences(nest):
        crossing = between_iterations(dependence, loop)
        if crossing is None:
            continue
        if crossing.reduction:
            return f"{access_text(nest, crossing.sink)} is a reduction over '{loop.iterator}'"
        return crossing.describe(nest)
    return ""


def _obviously_independent(nest: Nest, loop: Loop) -> bool:
    """A quick sufficient test: each memref stored to has an axis along which every iteration has its own elements."""
    groups = by_memref(nest.accesses)
    stored = {store.memref for store in nest.stores}
    for memref in stored:
        if any(other != memref and may_alias(memref, other) for other in groups):
            return False
        if spread(nest, loop, groups[memref]) is None:
            return False
    return True
