"""`bench`: the compiled network against what a user would pick instead, each number of threads in its own process."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence

from loopmorph.passes.errors import ArgumentError, CompilationFailed, LoopmorphError
from loopmorph.passes.scheduling.default_schedule import ALGORITHM_CHOICES
from loopmorph.passes.target.detect import processor_name, resolve_target
from loopmorph.passes.target.instructions import why_not_here
from loopmorph.pipelines.bench.contenders import PEERS, peers_limits
from loopmorph.pipelines.bench.result import BenchResult, Request, Stage, ThreadResult
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.support.service import Service, ServiceEnded, ServiceTimedOut
from loopmorph.pipelines.tuning.tune import check_seconds

_MAIN = "loopmorph.pipelines.bench.bench_worker"


def bench(
    model: str,
    *,
    threads: Sequence[int] = (1,),
    peers: Sequence[str] = tuple(PEERS),
    rounds: int = 10,
    layers: bool = False,
    explain_slow: bool = False,
    seed: int = 0,
    tune: float | None = None,
    algorithm: str = "auto",
    target: str | None = None,
    trust: bool = False,
    progress: Progress = silent,
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
        explain_slow: whether to name the nests of it that could run faster, and why; times the layers as well.
        seed: of weights, statistics and inputs.
        tune: seconds in which loopmorph may tune, for each number of threads (see `compile`).
        algorithm: "auto", or "direct" to compile the network without Winograd.
        target: the processor that loopmorph's code is for (see `compile`), one whose code runs here. Peers are kept to
            its vectors by their own switches (see `peers_limits`); ONNX Runtime has none.
        trust: whether code that a `.pt2` holds may run.
        progress: called with a stage's text, the steps done and the steps of it.

    Raises:
        ArgumentError: a peer that is not known, a number that is not positive, a model that cannot be used, a target
            whose code does not run here.
        CompilationFailed: the process ended without a result.
    """
    check_arguments(threads, peers, rounds, tune, algorithm)
    processor = None if target is None else resolve_target(target)
    if processor is not None and (reason := why_not_here(processor)) is not None:
        raise ArgumentError("target", f"code for {processor} cannot be timed on this computer: {reason}")
    limits = {} if processor is None else peers_limits(processor)
    below = math.inf if layers else 0.0
    first = Request(model, 1, tuple(peers), rounds, seed, below, tune=tune, algorithm=algorithm, trust=trust)
    explained = math.inf if explain_slow else 0.0
    named = None if processor is None else str(processor)
    first = dataclasses.replace(first, target=named, explain_below=explained)
    results = []
    for count in threads:
        request = dataclasses.replace(first, threads=count)
        results.append(measure(request, _at(progress, count), environment=limits))
    return BenchResult(model, seed, rounds, processor_name(), tuple(results), first.target)


def check_arguments(
    threads: Sequence[int], peers: Sequence[str], rounds: int, tune: float | None = None, algorithm: str = "auto"
) -> None:
    """Refuses what `bench` cannot do.

    Raises:
        ArgumentError: a peer or an algorithm that is not known, a number that is not positive.
    """
    for peer in peers:
        if peer not in PEERS:
            near = difflib.get_close_matches(peer, PEERS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ArgumentError("peers", f"'{peer}' is not known{hint}; accepted are {', '.join(PEERS)}")
    if not threads:
        raise ArgumentError("threads", "expected at least one number of threads")
    for name, value in (*(("threads", count) for count in threads), ("rounds", rounds)):
        check_positive(name, value)
    if tune is not None:
        check_seconds(tune)
    if algorithm not in ALGORITHM_CHOICES:
        raise ArgumentError("algorithm", f"expected one of {', '.join(ALGORITHM_CHOICES)}, got '{algorithm}'")


def check_positive(argument: str, value: int) -> None:
    """Raises:
    ArgumentError: not a positive whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(argument, f"expected positive whole numbers, got {value!r}")


def _at(progress: Progress, threads: int) -> Progress:
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    return lambda stage, done, of: progress(f"{count}: {stage}", done, of)


def measure(
    request: Request,
    progress: Progress = silent,
    *,
    limit: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> ThreadResult:
    """Has a request performed in a process of its own; without a contender that ended the process, or kept it too long.

    Args:
        request: what to measure.
        progress: called with a stage's text, the steps done and the steps of it.
        limit: seconds for the process; None for as long as it takes.
        environment: variables to set there.

    Raises:
        ArgumentError: a model that cannot be used.
        CompilationFailed: the process ended, or was ended, without a result.
    """
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(request.threads))
    while True:
        contender: str | None = None

        def tell(stage: Stage) -> None:
            nonlocal contender
            contender = stage.contender
            progress(stage.text, stage.done, stage.of)

        service = Service(_MAIN, environment={**counts, **(environment or {})}, whole_path=True)
        try:
            found = service.ask(request, limit, tell)
        except (ServiceEnded, ServiceTimedOut) as error:
            how = str(error) if isinstance(error, ServiceEnded) else f"was ended after {limit:g} s"
            if contender is None or contender in request.crashed:
                raise CompilationFailed(f"the benchmark's process {how}") from error
            request = dataclasses.replace(request, crashed={**request.crashed, contender: f"its process {how}"})
            continue
        finally:
            service.stop()
        if isinstance(found, LoopmorphError):
            raise found
        return found
