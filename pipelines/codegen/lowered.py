"""`Lowered`: a network in the LLVM dialect, out of which code in memory, an object file or a library is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.building.arguments import find_function
from loopmorph.passes.lowering.restrict_instructions import restrict_instructions
from loopmorph.passes.lowering.time_layers import timed_layers
from loopmorph.passes.lowering.to_llvm import lower_to_llvm, plan_scheduled, schedule_nests
from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.instructions import why_not_here
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.signature import Argument, Signature, signature_of


@dataclass(frozen=True)
class Interface:
    """What a caller of a compiled network has to know.

    Attributes:
        prepare: the arguments of `@prepare`, which runs once.
        run: the arguments of `@run`, which computes the outputs.
        steps: the transformations that made the code from the imported network, as pass texts, in order.
        layers: where `@run` is timed: the layers that the elements of its argument "clock" belong to, but for the last.
        threads: how many threads execute `@run` together.
        target: the processor that it was made for, as text (see `Target`).
    """

    prepare: Signature
    run: Signature
    steps: tuple[str, ...]
    layers: tuple[str, ...]
    threads: int
    target: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, buffers and constants that either function reads."""
        names = (str(a.key) for a in (*self.prepare, *self.run) if a.role == "param")
        return tuple(dict.fromkeys(names))

    def as_json(self) -> dict[str, Any]:
        """The interface as JSON can hold it; `from_json` reads it."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Interface:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError: it is something else.
        """
        prepare, run = (tuple(_argument(each) for each in content[name]) for name in ("prepare", "run"))
        steps, layers = (tuple(content[name]) for name in ("steps", "layers"))
        return Interface(prepare, run, steps, layers, content["threads"], content["target"])


@dataclass(frozen=True)
class Lowered:
    """A network in the LLVM dialect.

    Attributes:
        module: the module, with `@prepare` and `@run`.
        interface: how these are called.
    """

    module: ir.Module
    interface: Interface


def lower(module: ir.Module, target: Target, threads: int = 1, *, timed: bool = False) -> Lowered:
    """Lowers a module of affine nests with one function `@main`, in place.

    Code for another processor than this computer's has that one's instructions alone, if they are all here.

    Args:
        module: the module; it becomes the result's.
        target: the processor.
        threads: number of threads.
        timed: whether `@run` notes when each layer begins (see `morph-time-layers`).

    Raises:
        IllegalTransform: there is no `@main`, or it returns values; a loop marked as parallel is not.
        CompilationFailed: an operation that cannot be lowered; names it and its location.
    """
    schedule_nests(module, target, threads)
    return lower_scheduled(module, target, threads, timed=timed)


def lower_scheduled(module: ir.Module, target: Target, threads: int = 1, *, timed: bool = False) -> Lowered:
    """Does what `lower` does after `schedule_nests`, in place.

    Args:
        module, target, threads, timed: as there; target and threads are those that the nests were scheduled for.

    Raises:
        IllegalTransform: a loop marked as parallel is not.
        CompilationFailed: an operation that cannot be lowered; names it and its location.
    """
    plan_scheduled(module, target, threads, timed=timed)
    operation = module.operation
    prepare, run = (signature_of(find_function(operation, name)) for name in (marks.PREPARE, marks.RUN))
    steps, layers = tuple(marks.recorded_steps(operation)), timed_layers(operation)
    interface = Interface(prepare, run, steps, layers, threads, str(target))
    lower_to_llvm(module)
    if target.name != native_target().name and why_not_here(target) is None:
        restrict_instructions(module, target)
    return Lowered(module, interface)


def _argument(described: Mapping[str, Any]) -> Argument:
    return Argument(**{**described, "shape": tuple(described["shape"])})
