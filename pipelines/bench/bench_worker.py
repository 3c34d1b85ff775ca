"""The process in which the contenders of a benchmark run in turns, at one number of threads.

Started as `python -m loopmorph.pipelines.bench.bench_worker` with `OMP_NUM_THREADS` set, which has to happen before
torch is imported. It tells its parent the stages that it has come to.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from loopmorph.passes.errors import ArgumentError, IllegalTransform, ImportRefused, LoopmorphError
from loopmorph.pipelines.bench.contenders import PEERS, Run, Subject, compiled_network, missing
from loopmorph.pipelines.bench.layers import explain_slow, time_layers
from loopmorph.pipelines.bench.process_memory import ProcessMemory, watched_memory
from loopmorph.pipelines.bench.result import (
    OURS,
    UNTUNED,
    WRONG,
    LayerRow,
    Missing,
    Request,
    Row,
    SlowRow,
    Stage,
    ThreadResult,
)
from loopmorph.pipelines.bench.roof import moved_bytes, roof_ms
from loopmorph.pipelines.bench.timm_networks import load_network
from loopmorph.pipelines.bench.turns import timed_calls
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.ingress.models import LoadedModel, resolve_model
from loopmorph.pipelines.measure.peak import Peak, measure_peak
from loopmorph.pipelines.support.agreement import largest_error
from loopmorph.pipelines.support.serving import Tell, serve

_WARM_UP = 4
_PAUSE = 0.05  # seconds in which the worker threads of the one before go to sleep
_LEAST_ROUNDS = 2  # so that a drift of the machine does not hit one contender alone
_PROFILE_S, _PROFILE_CALLS = 20.0, (5, 40)  # how long layers are timed, and the least and the most calls of it
_REFUSALS = (ImportRefused, IllegalTransform, ArgumentError)


class _Parent:
    """The process that reads what this one says."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def stage(self, text: str, done: int, of: int, contender: str | None = None) -> None:
        self._tell(Stage(text, done, of, contender))


def randomise_statistics(model: nn.Module, seed: int) -> None:
    """Gives BatchNorm statistics that are not trivial, in place, so that folding them wrongly shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                if module.running_mean is not None and module.running_var is not None:
                    module.running_mean.normal_(0, 0.1, generator=generator)
                    module.running_var.uniform_(0.5, 1.5, generator=generator)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.1, generator=generator)


def perform(request: Request, parent: _Parent) -> ThreadResult:
    """Measures all contenders.

    Raises:
        ArgumentError: the model cannot be resolved.
    """
    torch.set_num_threads(request.threads)
    parent.stage("loading the model", 0, 1)
    loaded = _load(request)
    randomise_statistics(loaded.model, request.seed)
    how = request.threads, request.tune, request.algorithm, request.target
    subject = Subject(loaded.model, loaded.example_inputs, *how, original=loaded.original)
    parent.stage("measuring the machine's peak", 0, 1)
    peak = measure_peak(request.threads)
    field_ = _Field(subject, request, parent)
    field_.build()
    times = field_.race()
    roof = roof_ms(field_.macs, field_.moved_bytes, peak)
    rows, fastest = _rows(field_, times, peak, roof)
    layers = _layers(field_, rows, request, peak, parent)
    return ThreadResult(
        request.threads,
        peak.gflops,
        peak.bandwidth,
        field_.macs,
        fastest,
        tuple(rows),
        tuple(field_.absent.values()),
        layers,
        field_.rounds,
        _slow(field_, rows, layers, request, parent),
        field_.moved_bytes,
        roof,
    )


def _load(request: Request) -> LoadedModel:
    if request.suite:
        return load_network(request.model, batch=request.batch, seed=request.seed)
    return resolve_model(request.model, seed=request.seed, trust=request.trust)


def _layers(field_: _Field, rows: list[Row], request: Request, peak: Peak, parent: _Parent) -> tuple[LayerRow, ...]:
    """The layers of the compiled network, where they are asked for."""
    ours = next((row for row in rows if row.name == OURS), None)
    below = max(request.layers_below, request.explain_below)
    if ours is None or field_.executable is None or not _is_below(ours, below):
        return ()
    least, most = _PROFILE_CALLS
    calls = min(most, max(least, int(_PROFILE_S * 1e3 / ours.median_ms)))
    progress = functools.partial(parent.stage, "timing layers")
    executable = field_.executable
    return time_layers(
        executable.program, request.threads, peak.gflops, progress, target=executable.target, calls=calls
    )


def _slow(
    field_: _Field, rows: list[Row], layers: tuple[LayerRow, ...], request: Request, parent: _Parent
) -> tuple[SlowRow, ...]:
    """The nests of the compiled network that could run faster, where they are asked for."""
    ours = next((row for row in rows if row.name == OURS), None)
    if ours is None or field_.executable is None or not _is_below(ours, request.explain_below):
        return ()
    parent.stage("looking for slow code", 0, 1)
    executable = field_.executable
    return explain_slow(executable.program, request.threads, executable.target, layers, ours.median_ms)


def _is_below(ours: Row, ratio: float) -> bool:
    """Whether the fastest peer's time over ours is less than a ratio; any is less than infinity, none than 0."""
    found = ours.fastest_peer_over_this
    return ratio > 0 and (found is None or found < ratio)


class _Field:
    """The contenders: those that run, and those that do not.

    Attributes:
        runs: name -> a call.
        errors: name -> relative error of its outputs.
        built: name -> seconds until the first calls were done.
        memory: name -> memory until then, where the system says.
        absent: name -> why it does not run.
        rounds: how many rounds of calls there were.
        executable: the network compiled by loopmorph, None where that failed.
        macs: multiply-accumulate operations of the network.
        moved_bytes: bytes of its weights, inputs and outputs.
    """

    def __init__(self, subject: Subject, request: Request, parent: _Parent) -> None:
        self._subject, self._request, self._parent = subject, request, parent
        self.runs: dict[str, Run] = {}
        self.errors: dict[str, float] = {}
        self.built: dict[str, float] = {}
        self.memory: dict[str, ProcessMemory] = {}
        self.absent = {name: Missing(name, reason) for name, reason in request.crashed.items()}
        self.rounds = 0
        self.executable: Executable | None = None
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            subject.model(*subject.inputs)
        self.macs = counter.get_total_flops() // 2
        self.moved_bytes = 0

    def build(self) -> None:
        """Prepares each contender and compares its outputs with eager PyTorch's."""
        expected = tuple(a.copy() for a in PEERS["eager"](self._subject)())
        self.moved_bytes = moved_bytes(self._subject.model, self._subject.arrays, expected)
        ours = (OURS,) if self._request.tune is None else (OURS, UNTUNED)
        names = [name for name in (*ours, *self._request.peers) if name not in self.absent]
        for position, name in enumerate(names):
            self._parent.stage(f"building {name}", position, len(names), name)
            reason = missing(name)
            if reason is not None:
                self.absent[name] = Missing(name, reason, "absent")
                continue
            started = time.perf_counter()
            try:
                with watched_memory() as memory:
                    run = self._contender(name)
                    self.errors[name] = largest_error(run(), expected)
                    for _ in range(_WARM_UP):
                        run()
            except Exception as error:  # foreign code, which may raise anything: reported, and the others go on
                refused = isinstance(error, _REFUSALS)
                self.absent[name] = Missing(name, _one_line(error), "refused" if refused else "failed")
                continue
            self.runs[name], self.built[name], self.memory[name] = run, time.perf_counter() - started, memory

    def race(self) -> dict[str, list[float]]:
        """Seconds of each contender's calls, the contenders taking turns."""
        seconds: dict[str, list[float]] = {name: [] for name in self.runs}
        wanted, patience = self._request.rounds, self._request.race_s
        began = time.perf_counter()
        for done in range(wanted):
            if patience is not None and done >= _LEAST_ROUNDS and time.perf_counter() - began > patience:
                break
            self.rounds = done + 1
            for name, run in self.runs.items():
                self._parent.stage("measuring", done, wanted, name)
                time.sleep(_PAUSE)
                seconds[name] += timed_calls(run)
        return seconds

    def _contender(self, name: str) -> Run:
        if name == UNTUNED:
            return compiled_network(dataclasses.replace(self._subject, tune=None))[0]
        if name != OURS:
            return PEERS[name](self._subject)
        run, self.executable = compiled_network(self._subject)
        return run


def _rows(field_: _Field, times: dict[str, list[float]], peak: Peak, roof: float) -> tuple[list[Row], str | None]:
    medians = {name: float(np.median(samples)) for name, samples in times.items()}
    fastest = fastest_peer(medians, field_.errors)
    rows = []
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        gflops = 2 * field_.macs / median / 1e9
        rows.append(
            Row(
                name=name,
                median_ms=median * 1e3,
                min_ms=min(times[name]) * 1e3,
                fastest_peer_over_this=medians[fastest] / median if fastest is not None else None,
                relative_error=field_.errors[name],
                gflops=gflops,
                share_of_peak=gflops / peak.gflops,
                build_s=field_.built[name],
                build_cached=field_.executable.cached if name == OURS and field_.executable is not None else None,
                peak_bytes=field_.memory[name].peak,
                added_bytes=field_.memory[name].added,
                share_of_roof=roof / (median * 1e3),
            )
        )
    return rows, fastest


def fastest_peer(medians: Mapping[str, float], errors: Mapping[str, float]) -> str | None:
    """The peer with the least median among those whose relative errors are those of rounding; None if there is none."""
    peers = [name for name in medians if name not in (OURS, UNTUNED) and errors[name] <= WRONG]
    return min(peers, key=lambda name: medians[name], default=None)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    return text if isinstance(error, LoopmorphError) else f"{type(error).__name__}: {text[:200]}"


def _handle(request: Request, tell: Tell) -> ThreadResult | LoopmorphError:
    try:
        return perform(request, _Parent(tell))
    except LoopmorphError as error:
        return error


def main() -> None:
    """Serves one request after the other."""
    warnings.filterwarnings("ignore")
    serve(_handle)


if __name__ == "__main__":
    main()
