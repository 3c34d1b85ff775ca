"""`compile`: from a network to a callable on torch tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.check import check_executable
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.measure.target import this_computer
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.support.collection import paused_collection
from loopmorph.pipelines.tuning.tune import check_seconds, tuned


def compile(
    model_or_program: nn.Module | Program,
    example_inputs: tuple[Any, ...] | None = None,
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    threads: int = 1,
    schedule: str | None = None,
    tune: float | None = None,
    target: Target | str | None = None,
    check: bool = True,
) -> Executable:
    """Compiles the inference form of a network to machine code for this computer.

    Args:
        model_or_program: a module, or a program that has been imported (and perhaps transformed) already.
        example_inputs: for a module: the positional arguments of `forward`: tensors, whose shapes and dtypes become
            static, also in tuples, lists and dictionaries; numbers, text and None, whose values are compiled in.
        example_kwargs: for a module: its keyword arguments, likewise. The code is called as `forward` is.
        threads: number of threads that the code uses, the calling one included.
        schedule: transformations to apply first, as `Program.apply` takes them.
        tune: seconds of wall time in which to measure which algorithm and register block is fastest for each
            contraction for which nothing is scheduled or chosen (see `loopmorph.pipelines.tuning.tune`). What is
            found is kept, so that the next time begins where this one ended. Without it, models decide.
        target: the processor whose registers and caches the code is laid out for: "native", this computer, by default;
            another one of its instruction set by name ("x86_64_v3"), or with some figures given ("native+l2=512K").
            The code has that one's instructions alone, if this computer has all of them, else this computer's.
        check: whether to compare the code with PyTorch: on the example inputs, on random ones and on zeros, negative,
            large and non-finite values (see `loopmorph.pipelines.codegen.check`). It costs about seven calls of each.
            What has no counterpart in PyTorch is not compared, and an `UncheckedWarning` says so.

    Raises:
        ArgumentError: an argument of the wrong type or range, example inputs missing or superfluous.
        ImportRefused: the module cannot be imported.
        IllegalTransform: the program does not admit the schedule.
        CompilationFailed: an operation that cannot be lowered; names it and its location.
        WrongResult: the code computes something else than PyTorch, which is a fault of loopmorph; names the first layer
            that differs, and a file that reproduces it.
    """
    processor = this_computer() if target is None else resolve_target(target)
    check_threads(threads)
    if tune is not None:
        check_seconds(tune)
    with paused_collection():
        program = as_program(model_or_program, example_inputs, example_kwargs)
    program = transformed(program, processor, threads, schedule=schedule, tune=tune)
    executable = Executable(program, threads, processor)
    if check:
        check_executable(executable)
    return executable


def transformed(program: Program, target: Target, threads: int, *, schedule: str | None, tune: float | None) -> Program:
    """A program after a schedule, and with what is fastest on this computer chosen for the rest; see `compile`.

    Raises:
        ArgumentError: `tune` is no positive number.
        IllegalTransform: the program does not admit the schedule.
    """
    if schedule is not None:
        with paused_collection():
            program = program.apply(schedule)
    return program if tune is None else tuned(program, tune, target, threads)


def as_program(
    model_or_program: nn.Module | Program,
    example_inputs: tuple[Any, ...] | None,
    example_kwargs: Mapping[str, Any] | None,
) -> Program:
    """A program itself, or a module imported with its example inputs; see `compile`.

    Raises:
        ArgumentError: something else; example inputs missing or superfluous.
        ImportRefused: the module cannot be imported.
    """
    if isinstance(model_or_program, Program):
        for name, given in (("example_inputs", example_inputs), ("example_kwargs", example_kwargs)):
            if given is not None:
                raise ArgumentError(name, "a Program has its example inputs already; leave them out")
        return model_or_program
    if not isinstance(model_or_program, nn.Module):
        kind = type(model_or_program).__name__
        raise ArgumentError("model_or_program", f"expected an nn.Module or a Program, got {kind}")
    if example_inputs is None and example_kwargs is None:
        raise ArgumentError("example_inputs", "needed to compile an nn.Module: a tuple of tensors")
    return import_model(model_or_program, () if example_inputs is None else example_inputs, example_kwargs)
