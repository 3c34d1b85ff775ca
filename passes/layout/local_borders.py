"""`morph-local-borders`: reductions compute on local memrefs, whose layout the compiler may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import func, memref

from loopmorph.passes import marks
from loopmorph.passes.analysis.roles import accumulates
from loopmorph.passes.base import Pass
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.nest import functions, view_nest

_RANK = 4
_ITERATORS = ("n", "c", "h", "w")


@dataclass(frozen=True)
class LocalBorders(Pass):
    """Puts a copy between the network's inputs and outputs and the convolutions and poolings that read and write them.

    The layout of an argument is the caller's; `morph-blocked-layout` packs only local memrefs. Before:

        func.func @main(%x, %w, %y {morph.output = 0 : i64}) { affine.for ... affine.store %v, %y[...] ... }

    After:

        func.func @main(%x, %w, %y {morph.output = 0 : i64}) {
          %t = memref.alloc()   affine.for ... affine.store %v, %t[...] ...
          affine.for ... %y[...] from %t[...] ...
        }

    Requires nothing; only arguments of rank 4 that an accumulating nest accesses get a copy.
    """

    name: ClassVar[str] = "morph-local-borders"

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for function in functions(module):
                touched = _reduced(function)
                attributes = marks.argument_marks(function)
                for argument, mark in zip(function.entry_block.arguments, attributes, strict=True):
                    if argument in touched and len(ir.MemRefType(argument.type).shape) == _RANK:
                        if marks.OUTPUT in mark:
                            _localise(function, argument, reads=False)
                        elif marks.INPUT in mark:
                            _localise(function, argument, reads=True)


def _reduced(function: func.FuncOp) -> set[ir.Value]:
    """The memrefs that nests access that accumulate: convolutions, pooling."""
    roots = [op for op in function.entry_block.operations if op.operation.name == "affine.for"]
    nests = [view_nest(root) for root in roots]
    return {access.memref for nest in nests if accumulates(nest) for access in nest.accesses}


def _localise(function: func.FuncOp, argument: ir.Value, *, reads: bool) -> None:
    block = function.entry_block
    first, last = block.operations[0], block.operations[len(block.operations) - 1]
    with ir.InsertionPoint(first):
        local = memref.AllocOp(argument.type, [], []).result
    argument.replace_all_uses_with(local)
    shape = tuple(ir.MemRefType(argument.type).shape)
    source, target = (argument, local) if reads else (local, argument)
    identity = ir.AffineMap.get_identity(_RANK)

    def body(variables: list[ir.Value]) -> None:
        store(load(source, identity, variables), target, identity, variables)

    with ir.InsertionPoint(first if reads else last):
        build_nest(NestHeader(_ITERATORS, shape, {marks.ROLE: marks.COPY}), body, ir.Location.unknown())
