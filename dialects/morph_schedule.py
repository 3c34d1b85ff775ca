"""Schedules: transform modules that mix `morph` operations with upstream ones; writing, reading, applying them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch_mlir import ir
from torch_mlir.dialects.transform import interpreter

from loopmorph.dialects.morph_attributes import KIND, attribute_text
from loopmorph.dialects.morph_ops import NAMESPACE, load, operation_name, step_of, transformations
from loopmorph.passes.diagnostics import file_location, illegal
from loopmorph.passes.errors import ArgumentError, IllegalTransform, LoopmorphError, one_line
from loopmorph.passes.pipeline import module_operation, parse_pipeline, type_name
from loopmorph.passes.registry import did_you_mean
from loopmorph.passes.text.nesting import MOST_LEVELS, too_deep
from loopmorph.passes.transformation import Transformation

ENTRY_POINT = "__transform_main"

_HANDLE = "!transform.any_op"
_DIAGNOSTIC = re.compile(r"Diagnostic message at (?P<where>loc\(.*?\)): (?P<reason>.*?)(?:at loc\(|$)", re.MULTILINE)
_PLACE = re.compile(r'loc\("(?P<file>[^"]*)":(?P<line>[1-9]\d*):(?P<column>\d+)\)')
_MORPH_OPERATION = re.compile(rf'"({NAMESPACE}\.\w+)"')


def schedule_text(steps: Sequence[Transformation[Any] | str]) -> str:
    """A whole schedule module that applies `steps` in order, each with its `morph.kind`.

    Args:
        steps: transformations, or their text as in a pipeline (`morph-split{layer=conv1 iter=ow factor=4}`), so
            that the text of `recorded_steps(module)` is the schedule that made the module.

    Raises:
        ArgumentError: a text is not a pipeline, or a step is not a transformation.
    """
    lines = [
        "module attributes {transform.with_named_sequence} {",
        f"  transform.named_sequence @{ENTRY_POINT}(%module: {_HANDLE} {{transform.consumed}}) {{",
    ]
    before = "%module"
    for number, step in enumerate(_transformations(steps), start=1):
        after = f"%module_{number}"
        lines.append(f"    {after}, %nest_{number} = {_operation_text(step, before)}")
        before = after
    lines += ["    transform.yield", "  }", "}"]
    return "\n".join(lines) + "\n"


def parse_schedule(text: str, context: ir.Context) -> ir.Module:
    """Reads and verifies a schedule; loads the `morph` dialect into `context` first.

    Raises:
        ArgumentError: the text is not a valid schedule; names line and column.
    """
    if not isinstance(text, str):
        raise ArgumentError("schedule", f"expected a text, got {type_name(text)}")
    load(context)
    if too_deep(text) is not None:
        raise ArgumentError("schedule", f"it nests deeper than {MOST_LEVELS} levels")
    try:
        schedule = ir.Module.parse(text, context=context)
    except ir.MLIRError as error:
        raise ArgumentError("schedule", _explain(text, error)) from error
    _entry(schedule)
    return schedule


def schedule_steps(text: str, context: ir.Context) -> tuple[Transformation[Any], ...]:
    """The transformations of a schedule that holds nothing else, in order.

    Raises:
        ArgumentError: the text is not a valid schedule, or holds operations of other dialects.
    """
    schedule = parse_schedule(text, context)
    steps = []
    for operation in _entry(schedule).regions[0].blocks[0].operations:
        if operation.operation.name in transformations():
            steps.append(step_of(operation))
        elif operation.operation.name != "transform.yield":
            reason = f"'{operation.operation.name}' is none of loopmorph's transformations"
            raise ArgumentError("schedule", f"{reason}; expected a schedule of these alone")
    return tuple(steps)


def apply_schedule(module: ir.Module | ir.Operation, schedule: str | ir.Module) -> None:
    """Applies a schedule to a module, in place.

    A schedule that fails leaves the module unusable: the steps before the failing one have been applied and an
    upstream operation may have stopped half-way. Apply it to a copy where the module is still needed. Handles to
    operations in the module dangle afterwards.

    Args:
        module: a `builtin.module`.
        schedule: the text, or a module in the same context from `parse_schedule`.

    Raises:
        ArgumentError: the schedule is not valid, a step names something that is not there, or there is no module.
        IllegalTransform: the module is invalid, the program does not admit a step, or an upstream operation failed.
    """
    payload = module_operation(module)
    if not isinstance(schedule, str | ir.Module):
        raise ArgumentError("schedule", f"expected a text or an ir.Module of torch_mlir, got {type_name(schedule)}")
    parsed = parse_schedule(schedule, payload.context) if isinstance(schedule, str) else schedule
    if parsed.context != payload.context:
        raise ArgumentError("schedule", "it lies in another MLIR context than the module")
    try:
        interpreter.apply_named_sequence(payload, _entry(parsed), parsed)
        payload.verify()
    except LoopmorphError:
        raise
    except ir.MLIRError as error:
        raise illegal(error) from error
    except ValueError as error:
        raise _failure(str(error)) from error


def _transformations(steps: Sequence[Transformation[Any] | str]) -> Iterator[Transformation[Any]]:
    for step in steps:
        for element in parse_pipeline(step).elements if isinstance(step, str) else (step,):
            if not isinstance(element, Transformation):
                raise ArgumentError("steps", f"'{element}' is not a transformation")
            yield element


def _operation_text(step: Transformation[Any], handle: str) -> str:
    attributes = [f"{name} = {attribute_text(value)}" for name, value in step.options().items()]
    attributes.append(f"{KIND} = {attribute_text(step.kind)}")
    name = operation_name(step.name)
    return f'"{name}"({handle}) {{{", ".join(attributes)}}} : ({_HANDLE}) -> ({_HANDLE}, {_HANDLE})'


def _entry(schedule: ir.Module) -> ir.Operation:
    for operation in schedule.body.operations:
        is_sequence = operation.operation.name == "transform.named_sequence"
        if is_sequence and ir.StringAttr(operation.operation.attributes["sym_name"]).value == ENTRY_POINT:
            return operation.operation
    raise ArgumentError("schedule", f"it has no transform.named_sequence @{ENTRY_POINT}")


def _explain(text: str, error: ir.MLIRError) -> str:
    """The first diagnostic of a parse, with its place; an unknown `morph` operation is told as such."""
    diagnostic = error.error_diagnostics[0]
    place = file_location(diagnostic.location)
    if place is None:
        return one_line(diagnostic.message)
    reason = _unknown_operation(text, place) or one_line(diagnostic.message)
    return f"line {place.start_line}, column {place.start_col}: {reason}"


def _unknown_operation(text: str, place: ir.FileLineColLoc) -> str:
    line = text.splitlines()[place.start_line - 1 : place.start_line]
    known = transformations()
    for name in _MORPH_OPERATION.findall(line[0]) if line else ():
        if name not in known:
            return f"unknown operation '{name}'{did_you_mean(name, known)}"
    return ""


def _failure(text: str) -> IllegalTransform:
    """The interpreter tells its diagnostics in one text; the first of them is the reason."""
    match = _DIAGNOSTIC.search(text)
    if match is None:
        return IllegalTransform("schedule", one_line(text))
    place = _PLACE.search(match["where"])
    where = f"schedule line {place['line']}, column {place['column']}" if place else "schedule"
    return IllegalTransform(where, one_line(match["reason"]))
