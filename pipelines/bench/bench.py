"""`bench`: the compiled network against what a user would pick instead, each number of threads in its own process."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import loopmorph
from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.scheduling.default_schedule import ALGORITHM_CHOICES
from loopmorph.passes.target.machine import cpu_name
from loopmorph.pipelines.bench.contenders import PEERS
from loopmorph.pipelines.bench.result import BenchResult, Request, ThreadResult
from loopmorph.pipelines.tuning.tune import check_seconds

_MAIN = "loopmorph.pipelines.bench.bench_worker"
Progress = Callable[[str, int, int], None]


def bench(
    model: str,
    *,
    threads: Sequence[int] = (1,),
    peers: Sequence[str] = tuple(PEERS),
    rounds: int = 10,
    layers: bool = False,
    seed: int = 0,
    tune: float | None = None,
    algorithm: str = "auto",
    progress: Progress = lambda stage, done, of: None,
) -> BenchResult:
    """Times a network compiled by loopmorph and its peers, interleaved, and compares their outputs with eager's.

    Contenders take turns in one process: eight calls each in a round, so that drift of the machine hits all alike.
    BatchNorm's statistics are drawn at random. A contender that does not run is part of the result, with the reason.

    Args:
        model: a zoo name, `package.module:factory`, or the path of a `.pt2`.
        threads: numbers of threads; each gets a process of its own.
        peers: names from `eager, inductor, onnxruntime, openvino`.
        rounds: rounds of calls.
        layers: whether to time each layer within the compiled program.
        seed: of weights, statistics and inputs.
        tune: seconds in which loopmorph may tune, for each number of threads (see `compile`).
        algorithm: "auto", or "direct" to compile the network without Winograd.
        progress: called with a stage's text, the steps done and the steps of it.

    Raises:
        ArgumentError: a peer that is not known, a number that is not positive, a model that cannot be used.
        CompilationFailed: the process ended without a result.
    """
    check_arguments(threads, peers, rounds)
    if tune is not None:
        check_seconds(tune)
    if algorithm not in ALGORITHM_CHOICES:
        raise ArgumentError("algorithm", f"expected one of {', '.join(ALGORITHM_CHOICES)}, got '{algorithm}'")
    results = []
    for count in threads:
        request = Request(model, count, tuple(peers), rounds, seed, layers, tune=tune, algorithm=algorithm)
        results.append(_measure(request, _at(progress, count)))
    return BenchResult(model, seed, rounds, cpu_name(), tuple(results))


def check_arguments(threads: Sequence[int], peers: Sequence[str], rounds: int) -> None:
    """Refuses what `bench` cannot do.

    Raises:
        ArgumentError: a peer that is not known, a number that is not positive.
    """
    for peer in peers:
        if peer not in PEERS:
            near = difflib.get_close_matches(peer, PEERS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ArgumentError("peers", f"'{peer}' is not known{hint}; accepted are {', '.join(PEERS)}")
    if not threads:
        raise ArgumentError("threads", "expected at least one number of threads")
    for name, value in (*(("threads", count) for count in threads), ("rounds", rounds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(name, f"expected positive whole numbers, got {value!r}")


def _at(progress: Progress, threads: int) -> Progress:
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    return lambda stage, done, of: progress(f"{count}: {stage}", done, of)


def _measure(request: Request, progress: Progress) -> ThreadResult:
    """Has the request performed; without a contender that ended the process, where one did."""
    while True:
        with _Process(request.threads) as process:
            found, contender = process.perform(request, progress)
            if found is not None:
                return found
            reason = process.fate()
        if contender is None or contender in request.crashed:
            raise CompilationFailed(f"the benchmark's process {reason}")
        request = dataclasses.replace(request, crashed={**request.crashed, contender: f"its process {reason}"})


class _Process:
    """One worker process with everything that it starts; gone at the end of the `with`."""

    def __init__(self, threads: int) -> None:
        package = str(Path(loopmorph.__file__).resolve().parent.parent)
        path = os.pathsep.join([package, *(p for p in sys.path if p and p != package)])
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **counts, "PYTHONPATH": path},
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends the whole group
        )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()

    def perform(self, request: Request, progress: Progress) -> tuple[ThreadResult | None, str | None]:
        """The result, or None with the contender at which the process ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        contender = None
        try:
            self._process.stdin.write(json.dumps(dataclasses.asdict(request)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None, None
        for line in self._process.stdout:
            message: dict[str, Any] = json.loads(line)
            if message["kind"] == "result":
                return ThreadResult.from_dict(message["result"]), None
            if message["kind"] == "error":
                raise _error(message)
            contender = message["contender"]
            progress(message["text"], message["done"], message["of"])
        return None, contender

    def fate(self) -> str:
        """How the process ended, with the last line that it wrote."""
        code = self._process.wait(timeout=10)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return f"{how}: {lines[-1][:200]}" if lines else how


def _error(message: dict[str, Any]) -> ArgumentError | CompilationFailed:
    if message["argument"] is not None:
        return ArgumentError(message["argument"], message["message"])
    return CompilationFailed(message["message"])
