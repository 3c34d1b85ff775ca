"""Judging a rewritten program: Fisher Potential, numeric check against PyTorch, time of the layers that changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.nest import find_nest, functions
from loopmorph.pipelines.data import Batch
from loopmorph.pipelines.fisher import FisherScore, fisher_potential
from loopmorph.pipelines.measure import TimingCache, layer_times, module_times
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search_space import candidate_layers
from loopmorph.pipelines.surgery import raise_layer
from loopmorph.pipelines.worker import Worker
from loopmorph.pipelines.worker_protocol import RunJob

TOLERANCE = 1e-4  # largest difference from PyTorch that is accepted, as a share of the largest output


@dataclass(frozen=True)
class LayerTime:
    """Median milliseconds of one layer before and after a rewrite, measured in turns."""

    name: str
    ms_before: float
    ms_after: float
    macs_before: int
    macs_after: int


@dataclass
class Evaluator:
    """Judges rewrites of one program on one minibatch; remembers what it has measured.

    Attributes:
        original: the program that all others are compared with.
        batch: the minibatch of the Fisher Potential.
        seed, repeats: initialisations of the Fisher Potential.
        worker: compiles and times.
        cache: times of layers measured before.
    """

    original: Program
    batch: Batch
    seed: int
    repeats: int
    worker: Worker
    cache: TimingCache
    _scores: dict[str, FisherScore] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)

    def fisher(self, program: Program) -> FisherScore:
        """The potential of the program's network, measured once for each distinct sequence of steps.

        Raises:
            IllegalTransform: the network's own code cannot run with the new shapes.
        """
        key = ",".join(program.steps)
        if key not in self._scores:
            self._scores[key] = fisher_potential(
                program.to_module(), self.batch.images, self.batch.labels, seed=self.seed, repeats=self.repeats
            )
        return self._scores[key]

    def changed_layers(self, program: Program) -> list[str]:
        """The contraction layers whose nests differ from the original's."""
        pair = (self.original.module.operation, program.module.operation)
        return [n for n in candidate_layers(self.original) if len({str(extract_layer(m, n)) for m in pair}) > 1]

    def layer_times(self, program: Program) -> list[LayerTime]:
        """Checks and times every layer that the program changed.

        Raises:
            CompilationFailed: a layer cannot be compiled, crashes, hangs, or differs from PyTorch.
        """
        before, after = self.original.module.operation, program.module.operation
        times = []
        for name in self.changed_layers(program):
            self._check(program, name)
            seconds = layer_times(before, after, name, self.worker, cache=self.cache)
            work = [macs(find_nest(module, name)) for module in (before, after)]
            times.append(LayerTime(name, seconds.original * 1e3, seconds.rewritten * 1e3, *work))
        return times

    def check_network(self, program: Program) -> float:
        """Relative error of the compiled network against the module that stands for it in PyTorch.

        Raises:
            CompilationFailed: it cannot be compiled, crashes, hangs, or differs by more than `TOLERANCE`.
        """
        inputs = program.example_inputs
        with torch.no_grad():
            expected = program.to_module().eval()(*inputs)
        return require_close(self._run(program.module, program, inputs), expected, "the optimised network")

    def network_times(self, program: Program, baseline: Program | None = None) -> tuple[float, float]:
        """Median milliseconds of the original (or another) and the rewritten network, in turns or remembered."""
        before = (baseline or self.original).module
        seconds = module_times(before, program.module, self.worker, cache=self.cache)
        return seconds.original * 1e3, seconds.rewritten * 1e3

    def _check(self, program: Program, name: str) -> None:
        """Compares the compiled layer with the module that stands for it in PyTorch, on random inputs."""
        layer = extract_layer(program.module.operation, name)
        key = str(layer)
        if key in self._checked:
            return
        generator = torch.Generator().manual_seed(self.seed)
        inputs = [torch.randn(shape, generator=generator) for shape in _input_shapes(layer)]
        module = raise_layer(program, name).eval()
        with torch.no_grad():
            expected = module(*(_as_taken(module, x) for x in inputs))
        require_close(self._run(layer, program, inputs), expected, f"layer '{name}'")
        self._checked.add(key)

    def _run(self, module: ir.Module, program: Program, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        parameters = {name: tensor.numpy(force=True) for name, tensor in program.parameters.items()}
        reply = self.worker.run(RunJob(str(module), parameters, [x.numpy(force=True) for x in inputs]))
        return torch.from_numpy(reply.outputs[0])


def _as_taken(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the module takes: a linear layer may read a map (N, C, H, W) that the network flattens before it."""
    flattened = isinstance(module, nn.Linear) and x.dim() > 2 and x[0].numel() == module.in_features
    return x.flatten(1) if flattened else x


def _input_shapes(layer: ir.Module) -> list[list[int]]:
    """Shapes of the inputs of an extracted layer, by position."""
    (function,) = functions(layer.operation)
    marked = zip(function.entry_block.arguments, marks.argument_marks(function), strict=True)
    return [list(ir.MemRefType(argument.type).shape) for argument, m in marked if marks.INPUT in m]


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference, as a share of the largest absolute value expected."""
    return float((result - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def require_close(result: torch.Tensor, expected: torch.Tensor, where: str) -> float:
    """The relative error.

    Raises:
        CompilationFailed: shapes differ, or the error exceeds `TOLERANCE`.
    """
    if result.shape != expected.shape:
        raise CompilationFailed(f"{where}: compiled shape {tuple(result.shape)}, PyTorch's {tuple(expected.shape)}")
    error = relative_error(result, expected)
    if not error <= TOLERANCE:
        raise CompilationFailed(f"{where}: compiled code differs from PyTorch by {error:.1e} of the largest output")
    return error


def total(times: Sequence[LayerTime], which: Callable[[LayerTime], float]) -> float:
    """Sum of one of the times over the layers."""
    return sum(which(t) for t in times)
