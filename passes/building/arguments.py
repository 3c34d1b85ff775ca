"""Adding arguments to a function, dropping them, and putting them in another order; their marks go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks


def add_argument(function: func.FuncOp, type_: ir.Type, argument_marks: Mapping[str, ir.Attribute]) -> ir.Value:
    """Appends one argument; returns it."""
    all_marks = [*marks.argument_marks(function), dict(argument_marks)]
    value = function.entry_block.add_argument(type_, function.location)
    _set_signature(function, all_marks)
    return value


def arrange_arguments(function: func.FuncOp, order: Sequence[int]) -> None:
    """Puts the arguments in the order of `order`, their present positions; one that it leaves out has no uses and goes.

    All arguments are made anew: values taken before dangle afterwards.
    """
    block = function.entry_block
    old, all_marks = list(block.arguments), marks.argument_marks(function)
    for position in order:
        old[position].replace_all_uses_with(block.add_argument(old[position].type, function.location))
    for _ in old:
        block.erase_argument(0)
    _set_signature(function, [all_marks[position] for position in order])


def _set_signature(function: func.FuncOp, all_marks: list[dict[str, ir.Attribute]]) -> None:
    inputs = [argument.type for argument in function.entry_block.arguments]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, function.type.results))
    marks.set_argument_marks(function, all_marks)
