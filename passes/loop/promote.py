"""`morph-promote`: keep what a loop accumulates in registers while it runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.accumulators import Cell, find_accumulators
from loopmorph.passes.analysis.structure import body_of
from loopmorph.passes.building.nest_builder import load, store, vector_load, vector_store
from loopmorph.passes.building.rebuild import copy_marks, move_nest_marks, wrap
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Loop, Nest
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class PromotePlan:
    """What to carry.

    Attributes:
        nest: the nest.
        carried: for each loop, by position, the elements that it is to carry in registers.
        wrapper: where the outermost loop carries some, the name of another to put around it.
    """

    nest: Nest
    carried: Mapping[int, tuple[Cell, ...]]
    wrapper: str | None


@dataclass(frozen=True)
class Promote(NestTransformation[PromotePlan]):
    """Carries accumulators in registers through the loops that do not index them: `morph-promote{layer=conv1}`.

        affine.for %co = 0 to 8 {                         affine.for %co = 0 to 8 {
          affine.for %ci = 0 to 4 {                         %0 = affine.vector_load %y[%co, 0]
            affine.for %k = 0 to 9 {                        %1 = affine.for %ci = 0 to 4 iter_args(%2 = %0) {
              %a = affine.vector_load %y[%co, 0]              %3 = affine.for %k = 0 to 9 iter_args(%a = %2) {
              %b = arith.addf %a, %p                            %b = arith.addf %a, %p
              affine.vector_store %b, %y[%co, 0]                %d = arith.addf %b, %q
              %c = affine.vector_load %y[%co, 0]    ->          affine.yield %d
              %d = arith.addf %c, %q                          } {morph.iter = "k"}
              affine.vector_store %d, %y[%co, 0]              affine.yield %3
            } {morph.iter = "k"}                            } {morph.iter = "ci"}
          } {morph.iter = "ci"}                             affine.vector_store %1, %y[%co, 0]
        } {morph.iter = "co"}                             } {morph.iter = "co"}

    An accumulator is an element, or a vector of elements, that a loop reads first and then writes, in each iteration
    at the same place. Each is carried through as many loops, from the innermost outwards, as do not index it, surely
    run at least once, and touch it in no other way. Where the outermost loop `n` is among them, another one of extent
    1, `n.0`, is put around it to hold the first loads and the last stores. The values stay the same, bit by bit.

    Requires at least one accumulator, and that, in the innermost loop around each, every other access surely touches
    other elements: another memref that cannot overlap, or indices that are apart by a constant or by the ranges of
    the iterators.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
    """

    name: ClassVar[str] = "morph-promote"
    kind: ClassVar[Kind] = "loop"
    may_find_nothing: ClassVar[bool] = True

    layer: str

    def analyze_nest(self, nest: Nest) -> PromotePlan:
        carried = find_accumulators(nest)
        if not any(carried.values()):
            reason = "no loop reads and then writes an element that it does not index; there is nothing to promote"
            raise IllegalTransform(nest.label, reason)
        return PromotePlan(nest, carried, _wrapper(nest) if carried[0] else None)

    def rewrite(self, plan: PromotePlan) -> ir.Operation:
        with plan.nest.root.context:
            root = None if plan.wrapper is None else wrap(plan.nest.root, plan.wrapper).operation
            rebuilt = _Promotion(plan).run()
            return rebuilt if root is None else root


class _Promotion:
    """Rebuilds the loops, from the outermost inwards, with the carried values."""

    def __init__(self, plan: PromotePlan) -> None:
        self.nest = plan.nest
        self.carried = plan.carried
        self.variables = [loop.variable for loop in plan.nest.loops]
        # Looked up before anything changes: an operation's hash changes with its operands.
        self.items = _items(plan.nest)

    def run(self) -> ir.Operation:
        return self._visit(0, {}).operation

    def _visit(self, position: int, values: dict[Cell, ir.Value]) -> affine.AffineForOp:
        """Rebuilds one loop where it stands.

        Args:
            position: the loop.
            values: what is in registers around the loop; elements that the loop carries change to its results.

        Returns:
            The loop that takes its place.
        """
        cells = self.carried.get(position, ())
        loop = self.nest.loops[position].op
        if not cells:
            self._body(position, {})
            return loop
        with ir.InsertionPoint(loop), loop.location:
            fresh = [cell for cell in cells if cell not in values]
            values |= {cell: self._load(cell) for cell in fresh}
            new = _with_results(loop, [values[cell] for cell in cells])
            own = len(loop.operation.results)
            values |= dict(zip(cells, list(new.operation.results)[own:], strict=True))
            for cell in fresh:
                self._store(cell, values.pop(cell))
        inside = dict(zip(cells, list(new.inner_iter_args)[own:], strict=True))
        yielded = self._move_body(position, loop, new)
        self._body(position, inside)
        with ir.InsertionPoint(yielded), loop.location:
            affine.AffineYieldOp([*yielded.operands, *(inside[cell] for cell in cells)])
        yielded.erase()
        for old, result in zip(loop.operation.results, new.operation.results, strict=False):
            old.replace_all_uses_with(result)
        loop.operation.erase()
        return new

    def _move_body(self, position: int, old: affine.AffineForOp, new: affine.AffineForOp) -> ir.Operation:
        """Moves the body, its terminator included, which is returned."""
        ops = [op.operation for op in old.body.operations]
        for before, after in zip(old.inner_iter_args, new.inner_iter_args, strict=False):
            before.replace_all_uses_with(after)
        old.induction_variable.replace_all_uses_with(new.induction_variable)
        self.variables[position] = new.induction_variable
        new.body.append(ops[0])
        for previous, op in itertools.pairwise(ops):
            op.move_after(previous)
        return ops[-1]

    def _body(self, position: int, values: dict[Cell, ir.Value]) -> None:
        """Replaces the accesses in a body to elements that are in registers, and rebuilds the loops in it."""
        for item in self.items[position]:
            if isinstance(item, Loop):
                self._visit(item.position, values)
                continue
            cell, op = item
            if cell not in values:
                continue
            if op.results:
                op.results[0].replace_all_uses_with(values[cell])
            else:
                values[cell] = op.operands[0]
            op.erase()

    def _load(self, cell: Cell) -> ir.Value:
        map_ = ir.AffineMap.get(len(self.variables), 0, list(cell.exprs))
        if isinstance(cell.type, ir.VectorType):
            return vector_load(cell.memref, map_, self.variables, cell.lanes)
        return load(cell.memref, map_, self.variables)

    def _store(self, cell: Cell, value: ir.Value) -> None:
        map_ = ir.AffineMap.get(len(self.variables), 0, list(cell.exprs))
        build = vector_store if isinstance(cell.type, ir.VectorType) else store
        build(value, cell.memref, map_, self.variables)


def _with_results(loop: affine.AffineForOp, values: Sequence[ir.Value]) -> affine.AffineForOp:
    """A loop without a body that runs like `loop`, takes over its marks and carries more values."""
    new = affine.AffineForOp(
        loop.lowerBoundMap.value,
        loop.upperBoundMap.value,
        ir.IntegerAttr(loop.attributes["step"]).value,
        [*loop.inits, *values],
        lower_bound_operands=list(loop.lowerBoundOperands),
        upper_bound_operands=list(loop.upperBoundOperands),
    )
    copy_marks(loop, new)
    move_nest_marks(loop, new)
    if marks.ITER in loop.attributes:
        new.attributes[marks.ITER] = loop.attributes[marks.ITER]
    return new


def _wrapper(nest: Nest) -> str:
    name = f"{nest.iterators[0]}.0"
    if name in nest.iterators:
        raise IllegalTransform(nest.label, f"the nest already has an iterator '{name}'")
    return name


def _items(nest: Nest) -> list[list[Loop | tuple[Cell, ir.Operation]]]:
    """For each loop, by position, the loops and accesses directly in it, in program order."""
    loops = {loop.op.operation: loop for loop in nest.loops}
    accesses = {access.op: access for access in nest.accesses}
    items: list[list[Loop | tuple[Cell, ir.Operation]]] = [[] for _ in nest.loops]
    for loop in nest.loops:
        for op in body_of(loop.op):
            if op in loops:
                items[loop.position].append(loops[op])
            elif op in accesses:
                items[loop.position].append((Cell.of(accesses[op]), op))
    return items
