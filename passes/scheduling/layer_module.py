"""A layer's group in a module of its own: there its steps find their nests at once, however large the program is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import affine, arith, func

from loopmorph.passes.analysis.memory.box import Box
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, replace_operands, store
from loopmorph.passes.history import Step, record
from loopmorph.passes.scheduling.layer_group import LayerGroup

_RUN = "morph.run"
_ARGUMENT_MARKS = "arg_attrs"


@dataclass(frozen=True)
class LayerModule:
    """The operations of a group, with a stand-in for each value from outside, in a function of another module.

        func.func @layer(%x: memref<...>) {         an argument, with its marks, for an argument
          %y = memref.alloc()                       an allocation for an allocation, a constant for a constant
          affine.for ... { affine.store ... %y }    where the program writes more than zeros to it
          arith.constant {morph.run} 0 : index      begins the first of the group's runs
          affine.for ... {morph.role = "init"}
          arith.constant {morph.run} 0 : index      begins the next one
          affine.for ... {morph.role = "main"}
          return
        }

    All that a layer's schedule may depend on is there (see `LayerGroup`), so a step that changes nothing but the group
    does here what it does in the program.

    Attributes:
        operation: the module.
    """

    operation: ir.Operation

    @classmethod
    def taken(cls, group: LayerGroup, recorded: Iterable[Step]) -> LayerModule:
        """Moves a group out of its program, whose place for it stays empty; wants the context to be entered.

        Args:
            group: the group.
            recorded: the steps that the new module is to record.
        """
        module = ir.Module.create(ir.Location.unknown())
        arguments = [v for v in group.outside if isinstance(v.owner, ir.Block)]
        with ir.Location.unknown(), ir.InsertionPoint(module.body):
            function = func.FuncOp("layer", ([v.type for v in arguments], []))
            block = function.add_entry_block()
        _copy_marks(arguments, function)
        values: dict[ir.Value, ir.Value] = dict(zip(arguments, block.arguments, strict=True))
        with ir.Location.unknown(), ir.InsertionPoint(block):
            for value in group.outside:
                if value not in values:
                    values[value] = value.owner.operation.clone().operation.results[0]
            for value, box in zip(group.outside, group.live, strict=True):
                if box is not None:
                    _fill(values[value], box)
            end = func.ReturnOp([]).operation
        for run in group.runs:
            with ir.Location.unknown(), ir.InsertionPoint(end):
                arith.ConstantOp(ir.IndexType.get(), 0).operation.attributes[_RUN] = ir.UnitAttr.get()
            for op in run.ops:
                op.move_before(end)
                replace_operands(op, values)
        record(module.operation, *recorded)
        return cls(module.operation)

    def copy(self) -> LayerModule:
        """Another one with the same contents."""
        return LayerModule(self.operation.clone().operation)

    def contents(self) -> list[list[ir.Operation]]:
        """The operations that took the place of each of the group's runs."""
        runs: list[list[ir.Operation]] = []
        for op in self._block.operations:
            if _RUN in op.operation.attributes:
                runs.append([])
            elif runs and op.operation.name != "func.return":
                runs[-1].append(op.operation)
        return runs

    def stand_ins(self, group: LayerGroup) -> list[ir.Value]:
        """What stands for each of a group's values from outside."""
        arguments = iter(self._block.arguments)
        ops = iter(self._block.operations)
        return [next(arguments) if isinstance(v.owner, ir.Block) else next(ops).results[0] for v in group.outside]

    def put_back(self, group: LayerGroup) -> list[affine.AffineForOp]:
        """Moves the contents to the places of a group's runs; this module is of no use then.

        Args:
            group: the group that was taken, or one with an equal text.

        Returns:
            The outermost loops of the nests, in program order.
        """
        stand_ins = self.stand_ins(group)
        for op in [op for op in self._before_runs() if op.name == "affine.for"]:
            op.erase()
        for stand_in, value in zip(stand_ins, group.outside, strict=True):
            stand_in.replace_all_uses_with(value)
        contents = self.contents()
        for ops, run in zip(contents, group.runs, strict=True):
            for op in ops:
                op.move_before(run.after)
        return [op.opview for ops in contents for op in ops if isinstance(op.opview, affine.AffineForOp)]

    def _before_runs(self) -> list[ir.Operation]:
        ops = (op.operation for op in self._block.operations)
        return list(itertools.takewhile(lambda op: _RUN not in op.attributes, ops))

    @property
    def _block(self) -> ir.Block:
        return self.operation.regions[0].blocks[0].operations[0].regions[0].blocks[0]


def _copy_marks(arguments: list[ir.Value], function: func.FuncOp) -> None:
    """Gives the arguments of a function the marks that these arguments of another one have."""
    if not arguments:
        return
    attributes = arguments[0].owner.owner.attributes
    if _ARGUMENT_MARKS in attributes:
        known = ir.ArrayAttr(attributes[_ARGUMENT_MARKS])
        function.attributes[_ARGUMENT_MARKS] = ir.ArrayAttr.get(
            [known[ir.BlockArgument(a).arg_number] for a in arguments]
        )


def _fill(memref: ir.Value, box: Box) -> None:
    """Builds a nest that stores ones in a box."""
    rank = len(box.begin)
    element = ir.MemRefType(memref.type).element_type
    map_ = ir.AffineMap.get(rank, 0, [ir.AffineExpr.get_dim(d) + first for d, first in enumerate(box.begin)])
    one = arith.ConstantOp(element, 1 if isinstance(element, ir.IntegerType) else 1.0).result
    header = NestHeader(tuple(f"i{d}" for d in range(rank)), box.shape, {})
    build_nest(header, lambda variables: store(one, memref, map_, variables), ir.Location.unknown())
