"""Functions by name; adding arguments, dropping them, putting them in another order: their marks go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import functions


def add_argument(function: func.FuncOp, type_: ir.Type, argument_marks: Mapping[str, ir.Attribute]) -> ir.Value:
    """Appends one argument; returns it."""
    all_marks = [*marks.argument_marks(function), dict(argument_marks)]
    value = function.entry_block.add_argument(type_, function.location)
    set_function(function, all_marks)
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
    set_function(function, [all_marks[position] for position in order])


def set_function(function: func.FuncOp, all_marks: list[dict[str, ir.Attribute]]) -> None:
    """Makes a function's type and argument marks agree with its block's arguments."""
    inputs = [argument.type for argument in function.entry_block.arguments]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, function.type.results))
    marks.set_argument_marks(function, all_marks)


def find_function(module: ir.Operation, name: str) -> func.FuncOp | None:
    """The function of that name that has a body, if there is one."""
    return next((f for f in functions(module) if f.name.value == name), None)


def require_run(module: ir.Operation, name: str) -> func.FuncOp:
    """The function `@run`, for the pass of that name.

    Raises:
        IllegalTransform: there is none.
    """
    function = find_function(module, marks.RUN)
    if function is None:
        raise IllegalTransform("module", f"{name} needs a function @{marks.RUN}; morph-split-prepare makes it")
    return function
