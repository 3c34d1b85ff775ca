"""Pruning as a baseline: Torch-Pruning's whole channels by their group norm, down to a speed-up that is measured."""

from __future__ import annotations

import copy
import json
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.target.detect import processor_name
from loopmorph.pipelines.bench.contenders import PEERS, Subject, missing, versions
from loopmorph.pipelines.bench.traditional.fused_attention import fused_attentions
from loopmorph.pipelines.bench.turns import in_turns
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.measure.check import check_network
from loopmorph.pipelines.measure.meter import WorkerMeter
from loopmorph.pipelines.measure.timing_cache import TimingCache
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.rewritten.changes import tied_names
from loopmorph.pipelines.support.extras import require_extra
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent

# How channels compete: those of a layer (and of what a residual ties to it) with each other, or with those of all
# layers of the same structure (Isomorphic Pruning, ECCV 2024). What the pruner is told.
STYLES: dict[str, dict[str, bool]] = {
    "uniform": {},
    "isomorphic": {"global_pruning": True, "isomorphic": True},
}
OURS, ONNX_RUNTIME = "loopmorph", "onnxruntime"
CLOCKS = (OURS, ONNX_RUNTIME)
_STEPS = 64  # ratios that are looked at: multiples of 1/64
_ROUNDS, _CALLS = 12, 6  # of ONNX Runtime in turns


@dataclass(frozen=True)
class Pruned:
    """A pruned network.

    Attributes:
        model: the network, in eval mode, with the weights of the channels that stay.
        asked: the speed-up that was looked for.
        ratio: the share of channels that was asked of the pruner.
        speedups: clock -> the original's time over this one's, by that compiler, in turns.
        milliseconds: of one call of our code.
        error: relative difference of our code's outputs from PyTorch's.
        parameters: trainable ones.
        macs: multiply-accumulate operations.
    """

    model: nn.Module
    asked: float
    ratio: float
    speedups: Mapping[str, float]
    milliseconds: float
    error: float
    parameters: int
    macs: int


@dataclass(frozen=True)
class Pruning:
    """What was pruned.

    Attributes:
        style: one of `STYLES`.
        clock: one of `CLOCKS`, by which speed-ups were looked for.
        round_to: channels are left in multiples of this.
        milliseconds: of the original, by our code.
        parameters: of the original.
        threads: of both compilers.
        processor: where both ran.
        versions: of the packages.
        found: a network for each speed-up.
    """

    style: str
    clock: str
    round_to: int
    milliseconds: float
    parameters: int
    threads: int
    processor: str
    versions: Mapping[str, str]
    found: tuple[Pruned, ...]

    def to_json(self) -> str:
        """All but the networks."""
        rows = [{name: value for name, value in vars(each).items() if name != "model"} for each in self.found]
        return json.dumps({**vars(self), "found": rows}, indent=1) + "\n"


def prune_to_speedups(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    speedups: Sequence[float],
    *,
    style: str = "uniform",
    clock: str = OURS,
    round_to: int = 8,
    threads: int = 1,
    progress: Progress = silent,
) -> Pruning:
    """A network pruned by Torch-Pruning, at the ratios whose speed-ups, as measured here, are nearest to some.

    The settings are those of the library's own examples: `GroupNormPruner` with `GroupMagnitudeImportance(p=2)` in
    one step, the layer that gives the classes left alone. Of one compiler the original and the pruned network are
    timed in turns; the ratio is found by bisection over multiples of 1/64. What was timed is kept (see `TimingCache`),
    so that the same call goes on where it was stopped.

    Args:
        model: the trained network, in eval mode; left as it is.
        example_inputs: of it.
        speedups: over the unmodified network by the same compiler, each above 1.
        style: one of `STYLES`.
        clock: whose speed-up it is: our code's ("loopmorph"), or ONNX Runtime's.
        round_to: channels are left in multiples of this.
        threads: of the compiled code.
        progress: called with what is being done, how much is done, and of how much.

    Raises:
        ArgumentError: an argument out of range; Torch-Pruning or ONNX Runtime is not installed; the network cannot be
            pruned so far.
        CompilationFailed: a network cannot be compiled.
        WrongResult: compiled code differs from PyTorch.
    """
    _check(speedups, style, clock, round_to, threads)
    with Worker(threads=threads) as worker, closing(TimingCache()) as cache:
        candidates = _Candidates(model, example_inputs, style, round_to)
        clocks: dict[str, _Clock] = {
            OURS: _OurClock(candidates, WorkerMeter(worker, cache)),
            ONNX_RUNTIME: _ORTClock(candidates, threads),
        }
        ratios = []
        for done, asked in enumerate(speedups):
            progress(f"ratios, {style}", done, len(speedups))
            ratios.append(_nearest(asked, clocks[clock].speedup, candidates.most))
        found = []
        for done, (asked, ratio) in enumerate(zip(speedups, ratios, strict=True)):
            progress(f"checking, {style}", done, len(speedups))
            found.append(_pruned(candidates, clocks, asked, ratio, worker))
        progress(f"checking, {style}", len(speedups), len(speedups))
    (before, _), _ = found[0]
    return Pruning(
        style,
        clock,
        round_to,
        1e3 * before,
        sum(each.numel() for each in model.parameters()),
        threads,
        processor_name(),
        versions([ONNX_RUNTIME], ["torch-pruning"]),
        tuple(each for _, each in found),
    )


def prune(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], ratio: float, *, style: str, round_to: int
) -> nn.Module:
    """A copy of a network without a share of its channels.

    Of attention with one projection for queries, keys and values (see `fused_attentions`) all heads stay, and each
    loses that share of its features. Class tokens and embeddings go with the channels that they are added to.

    Args:
        model: the network, in eval mode.
        example_inputs: of it.
        ratio: the share of channels, from 0 to below 1, that the pruner is asked to remove of every layer, or of
            every kind of layers.
        style: one of `STYLES`.
        round_to: channels are left in multiples of this.

    Raises:
        ArgumentError: the pruner fails on the network, or what it leaves does not run; Torch-Pruning is not installed.
    """
    require_extra("style", "torch_pruning", "pruning", "pruning takes Torch-Pruning")
    import torch_pruning as tp

    twin = copy.deepcopy(model)
    attentions = fused_attentions(twin)
    features = [each.head_features for each in attentions]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unwrapped parameters")  # it cuts their last axis: channels, as it should
            pruner = tp.pruner.GroupNormPruner(
                twin,
                example_inputs if len(example_inputs) > 1 else example_inputs[0],
                importance=tp.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=[_classifier(twin)],
                round_to=round_to,
                num_heads={each.qkv: each.heads for each in attentions},
                in_channel_groups={},  # its defaults are shared by all calls, and written to
                out_channel_groups={},
                **STYLES[style],
            )
            pruner.step()
    except Exception as error:  # foreign code on any network
        raise ArgumentError("model", f"Torch-Pruning cannot prune it: {describe(error)}") from error
    for attention, before in zip(attentions, features, strict=True):
        attention.follow(before)
    _tie_again(model, twin)
    twin = switch_to_inference(twin)
    _check_runs(twin, example_inputs, len(attentions))
    return twin


def _tie_again(model: nn.Module, twin: nn.Module) -> None:
    """Makes one of the parameters that are one in the network; the pruner cuts each place of theirs by itself."""
    for first, *others in tied_names(model, [path for path, _ in model.named_modules()]):
        for name in others:
            path, _, local = name.rpartition(".")
            if torch.equal(twin.get_parameter(name), twin.get_parameter(first)):
                twin.get_submodule(path).register_parameter(local, twin.get_parameter(first))


def _check_runs(twin: nn.Module, example_inputs: tuple[torch.Tensor, ...], attentions: int) -> None:
    try:
        with torch.no_grad():
            twin(*example_inputs)
    except Exception as error:  # foreign code on any network
        known = f"{attentions} attention{'s'[: attentions != 1]} with a fused projection found"
        reason = f"without the pruned channels it does not run ({known}): {describe(error)}"
        raise ArgumentError("model", reason) from error


def _classifier(model: nn.Module) -> nn.Module:
    """The last layer with channels, whose outputs are the network's."""
    layers = [each for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ArgumentError("model", "it has no convolution and no linear layer, so there is nothing to prune")
    return layers[-1]


def _narrowest(model: nn.Module) -> int:
    """The fewest channels of a layer that is pruned; of attention, those of a head. 0 where there is none."""
    attentions = fused_attentions(model)
    apart = {_classifier(model), *(each.qkv for each in attentions)}
    layers = [each for each in model.modules() if each not in apart]
    widths = [
        *(each.out_channels for each in layers if isinstance(each, nn.Conv2d)),
        *(each.out_features for each in layers if isinstance(each, nn.Linear)),
        *(each.head_features for each in attentions),
    ]
    return min(widths, default=0)


class _Candidates:
    """The pruned networks by their ratio, each made once."""

    def __init__(self, model: nn.Module, inputs: tuple[torch.Tensor, ...], style: str, round_to: int) -> None:
        self.model, self.inputs, self._style, self._round_to = model, inputs, style, round_to
        self.original = import_model(model, inputs)
        self._made: dict[int, nn.Module] = {}
        self._programs: dict[int, Program] = {}

    @property
    def most(self) -> int:
        """The largest ratio, in `_STEPS`, that leaves the narrowest layer some channels: the pruner skips what would
        have none, which makes the network larger again."""
        narrowest = _narrowest(self.model)
        found = int(_STEPS * (1 - self._round_to / narrowest)) if narrowest else 0
        if found < 1:
            reason = f"its narrowest layer has {narrowest} channels; fewer in multiples of {self._round_to} are none"
            raise ArgumentError("model", reason)
        return found

    def module(self, ratio: int) -> nn.Module:
        if ratio not in self._made:
            share = ratio / _STEPS
            self._made[ratio] = prune(self.model, self.inputs, share, style=self._style, round_to=self._round_to)
        return self._made[ratio]

    def program(self, ratio: int) -> Program:
        if ratio not in self._programs:
            self._programs[ratio] = import_model(self.module(ratio), self.inputs)
        return self._programs[ratio]


class _Clock(Protocol):
    """Times the original and a pruned network in turns."""

    def times(self, ratio: int) -> tuple[float, float]:
        """Seconds of the original and of the pruned network."""
        ...

    def speedup(self, ratio: int) -> float:
        """The one over the other."""
        before, after = self.times(ratio)
        return before / after


@dataclass(frozen=True)
class _OurClock(_Clock):
    candidates: _Candidates
    meter: WorkerMeter

    def times(self, ratio: int) -> tuple[float, float]:
        pair = self.meter.network(self.candidates.original, self.candidates.program(ratio))
        return pair.original, pair.rewritten


class _ORTClock(_Clock):
    def __init__(self, candidates: _Candidates, threads: int) -> None:
        self._candidates, self._threads = candidates, threads
        self._original: Callable[[], Any] | None = None
        self._known: dict[int, tuple[float, float]] = {}

    def times(self, ratio: int) -> tuple[float, float]:
        if ratio not in self._known:
            if self._original is None:
                self._original = self._session(self._candidates.model)
            pair = self._original, self._session(self._candidates.module(ratio))
            before, after = in_turns(dict(enumerate(pair)), _ROUNDS, calls=_CALLS).values()
            self._known[ratio] = statistics.median(before), statistics.median(after)
        return self._known[ratio]

    def _session(self, model: nn.Module) -> Callable[[], Any]:
        try:
            return PEERS[ONNX_RUNTIME](Subject(model, self._candidates.inputs, self._threads))
        except Exception as error:  # foreign code
            raise CompilationFailed(f"ONNX Runtime cannot run the network: {describe(error)}") from error


def _nearest(asked: float, speedup: Callable[[int], float], most: int) -> int:
    """The ratio, in `_STEPS`, whose speed-up is nearest to one, by bisection.

    Raises:
        ArgumentError: the largest ratio is not fast enough.
    """
    if speedup(most) < asked:
        reason = f"{asked:g} times cannot be reached; {most / _STEPS:.0%} fewer channels are {speedup(most):.2f} times"
        raise ArgumentError("speedups", f"{reason} as fast")
    low, high = 0, most  # slower than asked (0 prunes nothing); at least as fast
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if speedup(middle) >= asked else (middle, high)
    if low and asked / speedup(low) < speedup(high) / asked:
        return low
    return high


def _pruned(
    candidates: _Candidates, clocks: Mapping[str, _Clock], asked: float, ratio: int, worker: Worker
) -> tuple[tuple[float, float], Pruned]:
    """The seconds of both networks by our code, and the one that was chosen."""
    program, module = candidates.program(ratio), candidates.module(ratio)
    times = clocks[OURS].times(ratio)
    speedups = {name: each.speedup(ratio) for name, each in clocks.items()}
    count = sum(parameter.numel() for parameter in module.parameters())
    error = check_network(program, worker)
    return times, Pruned(module, asked, ratio / _STEPS, speedups, 1e3 * times[1], error, count, program.macs)


def _check(speedups: Sequence[float], style: str, clock: str, round_to: int, threads: int) -> None:
    if not speedups or not all(isinstance(each, int | float) and 1 < each < float("inf") for each in speedups):
        raise ArgumentError("speedups", f"expected numbers above 1, got {list(speedups)!r}")
    for name, value, of in (("style", style, tuple(STYLES)), ("clock", clock, CLOCKS)):
        if value not in of:
            raise ArgumentError(name, f"expected one of {', '.join(of)}, got {value!r}")
    check_count("round_to", round_to)
    check_threads(threads)
    require_extra("style", "torch_pruning", "pruning", "pruning takes Torch-Pruning")
    reason = missing(ONNX_RUNTIME)
    if reason is not None:
        raise ArgumentError("clock", reason)
