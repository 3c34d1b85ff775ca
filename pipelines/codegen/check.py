"""Compiled code against PyTorch, once it is built: on the example, on random inputs and at the edges of floats."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from loopmorph.passes.errors import IllegalTransform, LoopmorphWarning, WrongResult
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.codegen.first_difference import first_difference
from loopmorph.pipelines.codegen.reproducer import write_reproducer
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.oracle.surgery_check import eval_mode
from loopmorph.pipelines.support.agreement import TOLERANCE, Agreement
from loopmorph.pipelines.support.probes import Probe, nearby, nearby_module, probes

# What a type's rounding costs, by its name in MLIR; the coarsest type of a network counts.
_TOLERANCES = {"bf16": 4e-2, "f16": 5e-3, "f32": TOLERANCE, "f64": 1e-6}
_NEARBY = 2  # how often PyTorch computes once more when results differ, inputs and weights slightly changed


class UncheckedWarning(LoopmorphWarning):
    """Compiled code was not compared with PyTorch; the text says why."""


def check_executable(executable: Executable, reference: nn.Module | None = None) -> None:
    """Compares compiled code with PyTorch.

    The inputs are the example's, then random ones of the same shapes, negative ones, zeros, large ones, and such with
    one NaN or one infinity; those that the model itself raises on are left out. Finite outputs are compared closely;
    NaN and infinity have to lie where PyTorch has them, as far as the mathematics fixes it.

    Args:
        executable: the code.
        reference: the module that it stands for; by default the imported one or, if the network was changed, what
            `Program.to_module` gives. Where that gives none, an `UncheckedWarning` says so, and nothing is compared.

    Raises:
        WrongResult: the outputs differ; names the inputs, the first layer that differs, and a file that reproduces it.
    """
    if reference is None:
        try:
            reference = reference_of(executable.program)
        except IllegalTransform as error:
            text = f"loopmorph: the compiled code is not compared with PyTorch, which has no such network: {error}"
            warnings.warn(text, UncheckedWarning, stacklevel=3)
            return
    comparison = Comparison(executable, reference)
    with reference_mode(reference):
        for probe in probes(executable.program.example_tensors, wild=not comparison.computes_addresses):
            reason = comparison.difference(probe)
            if reason is not None:
                raise WrongResult(_report(comparison, probe, reason))


def reference_of(program: Network) -> nn.Module:
    """The module that a program stands for.

    Raises:
        IllegalTransform: there is none (see `to_module`).
    """
    changed = bool(program.repaired) or any(step.kind == "neural" for step in program.history)
    return to_module(program) if changed else program.model


@contextmanager
def reference_mode(reference: nn.Module) -> Iterator[None]:
    """PyTorch as the network was imported: in inference form, without gradients, autocast and warnings.

    Attention is computed step by step: PyTorch's fused kernel loses NaN.
    """
    mode = eval_mode(reference) if reference.training else nullcontext()
    with mode, torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with sdpa_kernel(SDPBackend.MATH):
            yield


@dataclass(frozen=True)
class Comparison:
    """Compiled code and the module that it stands for."""

    executable: Executable
    reference: nn.Module

    def difference(self, probe: Probe) -> str | None:
        """How the outputs differ; None where they agree, or where the model itself refuses the inputs."""
        expected = self._expected(probe.tensors)
        if expected is None:
            return None
        program, rule = self.executable.program, self.rule(probe)
        args, kwargs = program.arguments([x.cpu() for x in probe.tensors])
        outputs = program.results(self.executable(*args, **kwargs))
        pairs = list(zip(outputs, expected, strict=True))
        if all(rule.disagreement(a, b) is None for a, b in pairs):
            return None
        beside = [(x, nearby_module(self.reference, k)) for k, x in enumerate(nearby(probe, _NEARBY))]
        near = [each for x, module in beside if (each := self._expected(x, module)) is not None]
        usual = self._expected(program.example_tensors) or expected
        for position, (a, b) in enumerate(pairs):
            reason = rule.disagreement(a, b, [each[position] for each in near], usual[position])
            if reason is not None and not (probe.kind in ("NaN", "infinite") and _is_integer(b)):
                return reason if len(pairs) == 1 else f"output {position}: {reason}"
        return None

    def _expected(self, tensors: Sequence[torch.Tensor], module: nn.Module | None = None) -> list[torch.Tensor] | None:
        program = self.executable.program
        args, kwargs = program.arguments(tensors)
        try:
            return [x.detach().cpu() for x in program.results((module or self.reference)(*args, **kwargs))]
        except Exception:  # the user's own code: what it does not accept is no input to compare on
            return None

    def rule(self, probe: Probe) -> Agreement:
        """When outputs agree."""
        spreads = "winograd" in "".join(self.executable.steps)
        return Agreement(self._tolerance, spreads, indeterminate=probe.kind == "infinite")

    @cached_property
    def computes_addresses(self) -> bool:
        """Whether floats become addresses: with NaN they would lead anywhere."""
        return "memref.load" in self._text and "arith.fpto" in self._text

    @cached_property
    def _text(self) -> str:
        return str(self.executable.program.module)

    @cached_property
    def _tolerance(self) -> float:
        types = (name for name in _TOLERANCES if f"x{name}>" in self._text or f"<{name}>" in self._text)
        return _TOLERANCES[next(types, "f32")]


def _is_integer(tensor: torch.Tensor) -> bool:
    """Integers that were made of NaN mean nothing."""
    return not tensor.is_floating_point() and tensor.dtype != torch.bool


def _report(comparison: Comparison, probe: Probe, reason: str) -> str:
    executable, reference = comparison.executable, comparison.reference
    layer = _quietly(lambda: first_difference(executable, reference, probe, comparison.rule(probe)))
    where = f"the first layer that differs is '{layer}'" if layer is not None else "no layer differs by itself"
    text = f"the compiled code differs from PyTorch on {probe.name}: {reason}; {where}"
    path = _quietly(lambda: write_reproducer(executable, probe, text))
    return f"{text}; {path} reproduces it" if path is not None else text


def _quietly(find: Callable[[], str | None]) -> str | None:
    try:
        return find()
    except Exception:  # what helps to find a fault must not hide it by failing itself
        return None
