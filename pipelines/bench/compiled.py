"""A network compiled, compared with PyTorch and timed: what `loopmorph compile` does."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from loopmorph.passes.target.detect import processor_name, resolve_target
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.compile import compile, transformed
from loopmorph.pipelines.ingress.models import LoadedModel, resolve_model
from loopmorph.pipelines.ingress.state import load_state
from loopmorph.pipelines.measure.target import this_computer
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.saved_program import program_of
from loopmorph.pipelines.support.agreement import largest_error
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent, stage
from loopmorph.pipelines.tuning.tune import check_seconds

_WARM_UP = 5


@dataclass(frozen=True)
class CompiledModel:
    """What a network became.

    Attributes:
        model: as it was asked for.
        origin: where its layers and weights are from, in words.
        parameters: trainable ones.
        macs: multiply-accumulate operations of a call.
        threads: of the code.
        target: the processor that the code is for.
        processor: where it was timed.
        steps: how many transformations the program has had before the default schedule.
        relative_error: largest difference from PyTorch's outputs on the example inputs, as a share of the largest.
        median_ms, min_ms: of a call.
        calls: how many were timed.
        compile_s: seconds that compilation took.
        cached: whether the code was that of an earlier compilation.
        executable: the code, to be called.
        program: what was compiled, with what tuning has chosen.
    """

    model: str
    origin: str
    parameters: int
    macs: int
    threads: int
    target: str
    processor: str
    steps: int
    relative_error: float
    median_ms: float
    min_ms: float
    calls: int
    compile_s: float
    cached: bool
    executable: Executable
    program: Program

    def to_json(self) -> str:
        """All but the code."""
        content = {name: value for name, value in vars(self).items() if name not in ("executable", "program")}
        return json.dumps(content, indent=1) + "\n"


def compile_model(
    model: str,
    *,
    weights: Path | None = None,
    threads: int = 1,
    tune: float | None = None,
    target: str | None = None,
    calls: int = 50,
    seed: int = 0,
    trust: bool = False,
    progress: Progress = silent,
) -> CompiledModel:
    """Compiles a network as `compile` does, compares it with PyTorch, and times it.

    The network of a `model.pt` is compiled with the schedule that the search gave it and the weights in the file, which
    may have been trained since.

    Args:
        model: a name of the zoo, `package.module:factory`, a `.pt2` or a `model.pt` (see `resolve_model`).
        weights: trained weights for what has none of its own (see `load_state`).
        threads: of the code.
        tune: seconds in which to measure what is fastest on this computer.
        target: the processor; this computer by default.
        calls: how many are timed.
        seed: of weights, and of the example inputs.
        trust: whether code that a `.pt2` holds, or that a `model.pt` names, may run.
        progress: called as each stage begins (0 of 1) and ends (1 of 1).

    Raises:
        ArgumentError: a model that is not known, an argument out of range.
        DataError: weights or a `model.pt` that cannot be read.
        ImportRefused, IllegalTransform, CompilationFailed, WrongResult: see `compile`.
    """
    check_count("calls", calls)
    check_threads(threads)
    if tune is not None:
        check_seconds(tune)
    processor = this_computer() if target is None else resolve_target(target)
    with stage(progress, "load"):
        loaded = resolve_model(model, seed=seed, trust=trust)
        if weights is not None:
            load_state(loaded.model, weights)
    with stage(progress, "import"):
        imported = program_of(loaded)
    program = imported
    if tune is not None:
        with stage(progress, "tune"):
            program = transformed(imported, processor, threads, schedule=None, tune=tune)
    with stage(progress, "compile and check"):
        executable = compile(program, threads=threads, target=processor)
    with stage(progress, "time"):
        seconds = _seconds(executable, calls)
    return CompiledModel(
        model,
        _origin(loaded, weights),
        sum(each.numel() for each in loaded.model.parameters()),
        program.macs,
        threads,
        str(executable.target),
        processor_name(),
        len(imported.steps),
        error_of(executable, program.to_module().eval()),
        1e3 * statistics.median(seconds),
        1e3 * min(seconds),
        calls,
        executable.compile_seconds,
        executable.cached,
        executable,
        program,
    )


def _origin(loaded: LoadedModel, weights: Path | None) -> str:
    """Where a network is from, in words: what it was made from, and what weights it has."""
    if weights is not None:
        return f"{loaded.note or loaded.name}, with the weights of {weights}"
    if loaded.note:
        return loaded.note
    return f"{loaded.name}, with the weights that it is built with"


def error_of(executable: Executable, module: nn.Module) -> float:
    """The largest difference of compiled code from a module on the example inputs, as a share of the largest output."""
    program = executable.program
    with torch.no_grad():
        expected = program.results(module(*program.example_inputs, **program.example_kwargs))
    found = program.results(executable(*program.example_inputs, **program.example_kwargs))
    return largest_error(found, expected)


def _seconds(executable: Executable, calls: int) -> list[float]:
    args, kwargs = executable.program.example_inputs, executable.program.example_kwargs
    for _ in range(_WARM_UP):
        executable(*args, **kwargs)
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        executable(*args, **kwargs)
        taken.append(time.perf_counter() - started)
    return taken
