"""`compile`: from a network to a callable on torch tensors."""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import dataclass

import torch
from torch import nn

from loopmorph.dialects.morph import schedule_text
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.pipelines.codegen.compiled_code import bind_memory, compiled_code
from loopmorph.pipelines.codegen.engine import Argument
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.ingress.importer import RETURNS_TUPLE
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.support.collection import paused_collection
from loopmorph.pipelines.tuning.tune import check_seconds, tuned


class Executable:
    """A compiled network: call it on tensors of the example inputs' shapes and dtypes, on the CPU.

    It holds its own copy of the weights; changing the model's afterwards has no effect. Calls from several threads are
    safe; they run one after the other.

    Attributes:
        program: what was compiled.
        cached: whether the code was found in the cache of compiled networks.
        compile_seconds: wall time of compilation and of the work on the parameters.
    """

    def __init__(self, program: Program, threads: int = 1) -> None:
        """Compiles a program. `compile` is the usual way to get here.

        Raises:
            ArgumentError: a number of threads that this computer does not admit.
            CompilationFailed: an operation that cannot be lowered.
        """
        started = time.perf_counter()
        self.program = program
        with paused_collection():
            compiled = compiled_code(program, threads)
        self.cached = compiled.cached
        self._run = compiled.run
        self._steps = _replayable(program, compiled.steps)
        self._lock = threading.Lock()
        _executables.add(self)
        self._memory = bind_memory(compiled, program)
        compiled.prepare()
        self._inputs = tuple(_Expected(tuple(x.shape), x.dtype) for x in program.example_inputs)
        arguments = list(enumerate(compiled.run.arguments))
        self._input_slots = tuple((k, int(a.key)) for k, a in arguments if a.role == "input")
        outputs = sorted((int(a.key), k, a) for k, a in arguments if a.role == "output")
        self._outputs = tuple((k, a.shape, _torch_dtype(a)) for _, k, a in outputs)
        self._returns_tuple = len(outputs) != 1 or RETURNS_TUPLE in program.module.operation.attributes
        self.compile_seconds = time.perf_counter() - started

    @property
    def schedule(self) -> str:
        """What makes this code from the network as imported, as a schedule (transform IR) to print, edit and replay.

        These are the program's own transformations, and after them one `morph.choose` for each contraction that the
        default schedule has scheduled: with that algorithm and register block it takes the same steps again.
        `compile(model, inputs, schedule=text)` gives the same code, on any computer with such vector registers.
        """
        return schedule_text(self._steps)

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Computes the network's outputs.

        Args:
            tensors: one per positional argument of the model's `forward`, of the example inputs' shapes and dtypes.

        Returns:
            A new tensor, or a tuple of new tensors where the model returns several (or a tuple of one).

        Raises:
            ArgumentError: a wrong number of tensors, or one of another shape, dtype or device.
        """
        if len(tensors) != len(self._inputs):
            raise ArgumentError("tensors", f"expected {len(self._inputs)} input tensor(s), got {len(tensors)}")
        inputs = [e.check(k, t) for k, (e, t) in enumerate(zip(self._inputs, tensors, strict=True))]
        outputs = [torch.empty(shape, dtype=dtype) for _, shape, dtype in self._outputs]
        with self._lock:
            for position, k in self._input_slots:
                self._run.bind(position, inputs[k].data_ptr())
            for (position, _, _), output in zip(self._outputs, outputs, strict=True):
                self._run.bind(position, output.data_ptr())
            self._run()
        return tuple(outputs) if self._returns_tuple else outputs[0]


def _after_fork() -> None:
    """In a child process no other thread is in a call, whatever the locks that it inherited say."""
    for executable in _executables:
        executable._lock = threading.Lock()


_executables: weakref.WeakSet[Executable] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)


def compile(
    model_or_program: nn.Module | Program,
    example_inputs: tuple[torch.Tensor, ...] | None = None,
    *,
    threads: int = 1,
    schedule: str | None = None,
    tune: float | None = None,
) -> Executable:
    """Compiles the inference form of a network to machine code for this computer.

    Args:
        model_or_program: a module, or a program that has been imported (and perhaps transformed) already.
        example_inputs: for a module: one tensor per positional argument of `forward`; shapes and dtypes become static.
        threads: number of threads that the code uses, the calling one included.
        schedule: transformations to apply first, as `Program.apply` takes them.
        tune: seconds of wall time in which to measure which algorithm and register block is fastest for each
            contraction for which nothing is scheduled or chosen (see `loopmorph.pipelines.tuning.tune`). What is
            found is kept, so that the next time begins where this one ended. Without it, models decide.

    Raises:
        ArgumentError: an argument of the wrong type or range, example inputs missing or superfluous.
        ImportRefused: the module cannot be imported.
        IllegalTransform: the program does not admit the schedule.
        CompilationFailed: an operation that cannot be lowered; names it and its location.
    """
    check_threads(threads)
    if tune is not None:
        check_seconds(tune)
    with paused_collection():
        program = _program(model_or_program, example_inputs)
        if schedule is not None:
            program = program.apply(schedule)
    if tune is not None:
        program = tuned(program, tune, threads)
    return Executable(program, threads)


def _program(model_or_program: nn.Module | Program, example_inputs: tuple[torch.Tensor, ...] | None) -> Program:
    if isinstance(model_or_program, Program):
        if example_inputs is not None:
            raise ArgumentError("example_inputs", "a Program has its example inputs already; leave them out")
        return model_or_program
    if not isinstance(model_or_program, nn.Module):
        kind = type(model_or_program).__name__
        raise ArgumentError("model_or_program", f"expected an nn.Module or a Program, got {kind}")
    if example_inputs is None:
        raise ArgumentError("example_inputs", "needed to compile an nn.Module: a tuple of tensors")
    return import_model(model_or_program, example_inputs)


def _replayable(program: Program, steps: tuple[str, ...]) -> tuple[str, ...]:
    """The program's steps, and of those that the default schedule has added the choices."""
    added = [step for step in steps[len(program.steps) :] if step.startswith(f"{Choose.name}{{")]
    return (*program.steps, *added)


@dataclass(frozen=True)
class _Expected:
    """Shape and dtype of one input."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def check(self, position: int, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor, laid out densely.

        Raises:
            ArgumentError: it is not what is expected.
        """
        if not isinstance(tensor, torch.Tensor):
            raise self._wrong(position, f"a {type(tensor).__name__}")
        if tensor.shape != self.shape or tensor.dtype != self.dtype:
            raise self._wrong(position, f"{tuple(tensor.shape)} {tensor.dtype}")
        if not tensor.device.type == "cpu" or tensor.layout is not torch.strided:
            raise self._wrong(position, f"a {tensor.layout} tensor on {tensor.device}")
        return tensor.contiguous()

    def _wrong(self, position: int, got: str) -> ArgumentError:
        wanted = f"a dense CPU tensor {self.shape} {self.dtype}"
        return ArgumentError("tensors", f"input {position}: expected {wanted}, got {got}")


def _torch_dtype(argument: Argument) -> torch.dtype:
    return getattr(torch, argument.dtype)
