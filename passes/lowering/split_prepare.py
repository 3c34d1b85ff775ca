"""`morph-split-prepare`: separate what depends on parameters alone from what runs on every input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import func, memref

from loopmorph.passes import marks
from loopmorph.passes.analysis.definitions import is_used
from loopmorph.passes.analysis.memory.dataflow import parameter_work
from loopmorph.passes.base import Pass
from loopmorph.passes.building.arguments import find_function, set_function
from loopmorph.passes.errors import IllegalTransform


@dataclass(frozen=True)
class SplitPrepare(Pass):
    """Splits `@main` into `@prepare`, which runs once, and `@run`.

    Before:

        func.func @main(%w {morph.param = "w"}, %x {morph.input = 0}, %y {morph.output = 0}) {
          %v = memref.alloc()   affine.for ... { ... %v from %w ... }
          affine.for ... { ... %y from %x and %v ... }
        }

    After:

        func.func @prepare(%w {morph.param = "w"}, %v {morph.packed = 0}) { affine.for ... { ... %v from %w ... } }
        func.func @run(%x {morph.input = 0}, %v {morph.packed = 0}, %y {morph.output = 0}) {
          affine.for ... { ... %y from %x and %v ... }
        }

    `@prepare` takes the parameters that it reads, then the packed memrefs; `@run` the inputs, the parameters that it
    still reads, the packed memrefs, the outputs. Arguments that a function does not use are dropped, but for the
    outputs of `@run`: nobody writes to one without elements. Memrefs that only
    `@prepare` uses are freed at its end. Scalars that both need are computed in both.

    Requires: a function `@main` whose results are arguments marked `morph.output`.
    """

    name: ClassVar[str] = "morph-split-prepare"

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            main = find_function(module, "main")
            if main is None:
                raise IllegalTransform("module", f"{self.name} needs a function @main")
            if main.type.results:
                raise IllegalTransform("function @main", "it returns values; results must be memref arguments")
            _split(main)


def _split(main: func.FuncOp) -> None:
    body = [op.operation for op in main.entry_block.operations]
    own = set(parameter_work(main).ops)
    positions = [k for k, op in enumerate(body) if op in own]
    with ir.InsertionPoint(main):
        prepare, run = (main.operation.clone().opview for _ in range(2))
    prepare.attributes["sym_name"] = ir.StringAttr.get(marks.PREPARE)
    run.attributes["sym_name"] = ir.StringAttr.get(marks.RUN)
    in_prepare = [op.operation for op in prepare.entry_block.operations]
    in_run = [op.operation for op in run.entry_block.operations]
    crossing = _drop_prepared(in_run, positions)
    _keep_prepared(in_prepare, positions)
    _set_arguments(prepare, [in_prepare[k] for k in crossing])
    _set_arguments(run, [in_run[k] for k in crossing])
    _free_temporaries(prepare)
    main.operation.erase()


def _drop_prepared(body: Sequence[ir.Operation], positions: Sequence[int]) -> list[int]:
    """Erases the parameters' work but for the scalars still in use; returns the positions of memrefs still in use."""
    crossing = []
    for k in reversed(positions):
        if not any(is_used(r) for r in body[k].results):
            body[k].erase()
        elif body[k].name == "memref.alloc":
            crossing.append(k)
    return crossing[::-1]


def _keep_prepared(body: Sequence[ir.Operation], positions: Sequence[int]) -> None:
    kept = {*positions, len(body) - 1}
    for k in reversed(range(len(body))):
        unused_scalar = len(body[k].results) > 0 and not any(is_used(r) for r in body[k].results)
        if k not in kept or unused_scalar:
            body[k].erase()


def _set_arguments(function: func.FuncOp, packed: Sequence[ir.Operation]) -> None:
    """Makes the memrefs of the allocations `packed` arguments, and keeps of the others those that are used."""
    block = function.entry_block
    index = ir.IntegerType.get_signless(64)
    old = list(zip(block.arguments, marks.argument_marks(function), strict=True))
    groups: dict[str, list[tuple[ir.Value, dict[str, ir.Attribute]]]] = {
        marks.INPUT: [],
        marks.PARAM: [],
        marks.PACKED: [],
        marks.OUTPUT: [],
    }
    for argument, attributes in old:
        if is_used(argument) or (marks.OUTPUT in attributes and function.name.value == marks.RUN):
            kind = next((k for k in groups if k in attributes), marks.INPUT)
            groups[kind].append((argument, attributes))
    for number, op in enumerate(packed):
        groups[marks.PACKED].append((op.results[0], {marks.PACKED: ir.IntegerAttr.get(index, number)}))
    kept = [entry for group in groups.values() for entry in group]
    for value, _ in kept:
        value.replace_all_uses_with(block.add_argument(value.type, function.location))
    for op in packed:
        op.erase()
    for _ in old:
        block.erase_argument(0)
    set_function(function, [attributes for _, attributes in kept])


def _free_temporaries(function: func.FuncOp) -> None:
    *body, end = (op.operation for op in function.entry_block.operations)
    with ir.InsertionPoint(end):
        for op in body:
            if op.name == "memref.alloc":
                memref.DeallocOp(op.results[0])
