"""`Executable`: compiled code as a callable on torch tensors."""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Any

import torch

from loopmorph.dialects.morph import schedule_text
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import parse_steps
from loopmorph.passes.nest import functions
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.compiled_code import CompiledCode, bind_memory, compiled_code
from loopmorph.pipelines.codegen.native import NativeCode
from loopmorph.pipelines.codegen.signature import Argument, index_limits, signature_of
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.support.collection import paused_collection
from loopmorph.pipelines.support.structure import plain_structure


class Executable:
    """A compiled network: call it on tensors of the example inputs' shapes and dtypes, on the CPU.

    It holds its own copy of the weights; changing the model's afterwards has no effect. Calls from several threads are
    safe; they run one after the other.

    Attributes:
        program: what was compiled.
        threads: number of threads that it uses.
        target: the processor that it was made for.
        steps: the transformations that made the code from the imported network, as pass texts, in order.
        cached: whether the code was found in the cache of compiled networks.
        compile_seconds: wall time of compilation and of the work on the parameters.
    """

    def __init__(
        self,
        program: Network,
        threads: int = 1,
        target: Target | None = None,
        *,
        native: NativeCode | None = None,
    ) -> None:
        """Compiles a program. `compile` is the usual way to get here.

        Args:
            program: the network.
            threads: number of threads that the code uses, the calling one included.
            target: the processor; this computer by default.
            native: the program's code, where it is compiled already, for these threads and this processor.

        Raises:
            ArgumentError: a number of threads that this computer does not admit.
            CompilationFailed: an operation that cannot be lowered.
        """
        started = time.perf_counter()
        self.program, self.threads, self.target = program, threads, resolve_target(target)
        with paused_collection():
            compiled = compiled_code(program, self.target, threads) if native is None else CompiledCode(native, False)
        self.cached, native = compiled.cached, compiled.native
        self._run, self.steps = native.run, native.interface.steps
        self._lock = threading.Lock()
        _executables.add(self)
        self._memory = bind_memory(native, program.parameters)
        native.prepare()
        tensors = program.example_tensors
        (function,) = functions(program.module.operation)
        limits = index_limits(function)
        self._inputs = tuple(_Expected(tuple(x.shape), x.dtype, limits.get(k)) for k, x in enumerate(tensors))
        arguments = list(enumerate(native.run.arguments))
        self._input_slots = tuple((k, int(a.key)) for k, a in arguments if a.role == "input")
        slots = {int(a.key): k for k, a in arguments if a.role == "output"}
        # What has no elements is written by no code, which has no argument for it then.
        declared = {int(a.key): a for a in signature_of(function) if a.role == "output"}
        self._outputs = tuple((slots.get(k), a.shape, _torch_dtype(a)) for k, a in sorted(declared.items()))
        dtypes = [dtype for _, _, dtype in self._outputs]
        self._structure = program.structure or plain_structure([x.dtype for x in tensors], dtypes)
        self.compile_seconds = time.perf_counter() - started

    @property
    def schedule(self) -> str:
        """What makes this code from the network as imported, as a schedule (transform IR) to print, edit and replay.

        These are the program's own transformations, and after them one `morph.choose` for each contraction that the
        default schedule has scheduled: with that algorithm and register block it takes the same steps again.
        `compile(model, inputs, schedule=text)` gives the same code, on any computer with such vector registers.
        """
        own = self.program.history
        made = [step for text in self.steps for step in parse_steps(text)]
        return schedule_text((*own, *(step for step in made[len(own) :] if isinstance(step, Choose))))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the network's outputs.

        Args:
            args: what the model's `forward` takes by position, arranged as in the example, with tensors of the example
                inputs' shapes and dtypes; what is no tensor has the example's value.
            kwargs: what it takes by keyword, likewise.

        Returns:
            What the model returns, in its structure: tuples, dictionaries, dataclasses. All tensors are new ones, which
            share no memory with inputs or with each other, except that one which is returned twice stays one.

        Raises:
            ArgumentError: another arrangement or constant, a tensor of another shape, dtype or device, or an index that
                lies outside of the table that it is for.
        """
        tensors = self._structure.flatten(args, kwargs)
        inputs = [e.check(k, t) for k, (e, t) in enumerate(zip(self._inputs, tensors, strict=True))]
        outputs = [torch.empty(shape, dtype=dtype) for _, shape, dtype in self._outputs]
        with self._lock:
            for position, k in self._input_slots:
                self._run.bind(position, inputs[k].data_ptr())
            for (slot, _, _), output in zip(self._outputs, outputs, strict=True):
                if slot is not None:
                    self._run.bind(slot, output.data_ptr())
            self._run()
        return self._structure.outputs.build(outputs)


def _after_fork() -> None:
    """In a child process no other thread is in a call, whatever the locks that it inherited say."""
    for executable in _executables:
        executable._lock = threading.Lock()


_executables: weakref.WeakSet[Executable] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class _Expected:
    """Shape and dtype of one input, and into how many elements its own are indices, where they are."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    below: int | None

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
        if self.below is not None and tensor.numel():
            self._check_indices(position, tensor)
        return tensor.contiguous()

    def _check_indices(self, position: int, tensor: torch.Tensor) -> None:
        low, high = (int(bound) for bound in tensor.aminmax())
        assert self.below is not None
        if low < 0 or high >= self.below:
            wrong = low if low < 0 else high
            raise ArgumentError(
                "tensors", f"input {position}: expected indices from 0 to {self.below - 1}, got {wrong} among them"
            )

    def _wrong(self, position: int, got: str) -> ArgumentError:
        wanted = f"a dense CPU tensor {self.shape} {self.dtype}"
        return ArgumentError("tensors", f"input {position}: expected {wanted}, got {got}")


def _torch_dtype(argument: Argument) -> torch.dtype:
    return getattr(torch, argument.dtype)
