"""Judging a rewritten program: Fisher Potential, numeric check against PyTorch, time of the layers that changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch_mlir import ir

from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.fisher import FisherScore, fisher_potential
from loopmorph.pipelines.measure.check_layer import check_layer, require_close
from loopmorph.pipelines.measure.pair_times import TimingCache, layer_times, module_times
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import RunJob
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.search_space import candidate_layers


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
        all_work = [{layer.name: layer.macs for layer in p.layers} for p in (self.original, program)]
        for name in self.changed_layers(program):
            self._check(program, name)
            seconds = layer_times(before, after, name, self.worker, cache=self.cache)
            work = [macs.get(name, 0) for macs in all_work]
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
        key = str(extract_layer(program.module.operation, name))
        if key not in self._checked:
            check_layer(program, name, self.worker, seed=self.seed)
            self._checked.add(key)

    def _run(self, module: ir.Module, program: Program, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        parameters = {name: tensor.numpy(force=True) for name, tensor in program.parameters.items()}
        reply = self.worker.run(RunJob(str(module), parameters, [x.numpy(force=True) for x in inputs]))
        return torch.from_numpy(reply.outputs[0])


def total(times: Sequence[LayerTime], which: Callable[[LayerTime], float]) -> float:
    """Sum of one of the times over the layers."""
    return sum(which(t) for t in times)
