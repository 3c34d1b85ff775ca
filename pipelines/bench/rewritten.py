"""Rewritten networks beside their original by our code, and beside the original by other engines, all in turns."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from loopmorph.passes.errors import ArgumentError, CompilationFailed, DataError, WrongResult
from loopmorph.passes.target.detect import processor_name
from loopmorph.pipelines.bench.compiled import error_of
from loopmorph.pipelines.bench.contenders import PEERS, Subject, missing, versions
from loopmorph.pipelines.bench.result import WRONG, Missing
from loopmorph.pipelines.bench.turns import Run, in_turns
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.support.agreement import largest_error
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.json_file import read_json
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent

ORIGINAL = "original"
_WARM_UP = 4


@dataclass(frozen=True)
class RewrittenRow:
    """One network by one engine.

    Attributes:
        name: of the network among the pipelines; `original` for what was not rewritten.
        engine: `loopmorph` or a peer's name.
        median_ms: of a call.
        speedup: how many times as fast as the original by our code.
        relative_error: largest difference from PyTorch's outputs, as a share of the largest.
        macs: multiply-accumulate operations.
        parameters: trainable ones.
    """

    name: str
    engine: str
    median_ms: float
    speedup: float
    relative_error: float
    macs: int
    parameters: int


@dataclass(frozen=True)
class RewrittenResult:
    """What was measured.

    Attributes:
        model: the original.
        threads: of each engine.
        cpu: the processor's name.
        rounds: of calls in turns.
        versions: of the packages of the engines.
        rows: the original by our code first.
        missing: peers that did not run, and why.
    """

    model: str
    threads: int
    cpu: str
    rounds: int
    versions: dict[str, str]
    rows: tuple[RewrittenRow, ...]
    missing: tuple[Missing, ...] = field(default=())

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_pipelines(path: Path, names: Sequence[str] = ()) -> dict[str, str]:
    """Name -> pipeline of a file that `evaluation add` keeps; those of some names, in their order, or all.

    Raises:
        DataError: the file cannot be read, or holds something else.
        ArgumentError: it has no pipeline of such a name; tells the names.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise DataError(f"{path}: a dictionary of pipelines is expected")
    for name in names:
        if name not in content:
            known = ", ".join(f"'{each}'" for each in content)
            raise ArgumentError("networks", f"{path} has no network '{name}'; there are {known}")
    return {name: content[name] for name in names or content}


def bench_rewritten(
    model: str,
    pipelines: Mapping[str, str],
    *,
    peers: Sequence[str] = (),
    threads: int = 1,
    rounds: int = 10,
    seed: int = 0,
    trust: bool = False,
    progress: Progress = silent,
) -> RewrittenResult:
    """Compiles a network and rewrites of it, compares each with PyTorch, and times all in turns, peers included.

    Weights do not matter for time, so the original's are what it is built with.

    Args:
        model: the original (see `resolve_model`).
        pipelines: name -> what `Program.apply` takes.
        peers: engines that run the original (see `PEERS`).
        threads: of each engine.
        rounds: of eight calls of each.
        seed: of weights and inputs.
        trust: whether code that a file holds may run.
        progress: called with what is being done, how much is done, and of how much.

    Raises:
        ArgumentError: a peer that is not known, an argument out of range, no pipeline.
        ImportRefused, CompilationFailed: a network that cannot be imported or compiled.
        IllegalTransform: a pipeline that the original does not admit.
        WrongResult: compiled code differs from PyTorch; names the network.
    """
    _check(pipelines, peers, threads, rounds)
    torch.set_num_threads(threads)
    loaded = resolve_model(model, seed=seed, trust=trust)
    original = import_model(loaded.model, loaded.example_inputs)
    contenders, absent = _Contenders(threads), []
    for done, (name, text) in enumerate({ORIGINAL: "", **pipelines}.items()):
        progress("compiling", done, 1 + len(pipelines))
        try:
            contenders.add_program(name, original.apply(text) if text else original)
        except (CompilationFailed, WrongResult) as error:
            raise type(error)(f"'{name}': {error}") from error
    progress("compiling", 1 + len(pipelines), 1 + len(pipelines))
    for peer in peers:
        reason = missing(peer) or contenders.add_peer(peer, Subject(loaded.model, loaded.example_inputs, threads))
        if reason is not None:
            absent.append(Missing(peer, reason, "absent" if missing(peer) else "failed"))
    medians = contenders.race(rounds, progress)
    ours = medians[ORIGINAL, "loopmorph"]
    rows = tuple(
        RewrittenRow(*key, 1e3 * medians[key], ours / medians[key], contenders.errors[key], *contenders.sizes[key])
        for key in contenders.runs
    )
    packages = versions([*peers])
    return RewrittenResult(model, threads, processor_name(), rounds, packages, rows, tuple(absent))


class _Contenders:
    """What is timed, by network and engine.

    Attributes:
        runs: a call of each.
        errors: relative errors.
        sizes: multiply-accumulates and trainable parameters.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.runs: dict[tuple[str, str], Run] = {}
        self.errors: dict[tuple[str, str], float] = {}
        self.sizes: dict[tuple[str, str], tuple[int, int]] = {}

    def add_program(self, name: str, program: Program) -> None:
        """Compiles a program and compares it with the module that stands for it."""
        key = name, "loopmorph"
        executable = compile(program, threads=self._threads, check=False)
        module = program.to_module().eval()
        error = error_of(executable, module)
        if error > WRONG:
            raise WrongResult(f"compiled code differs from PyTorch by {error:.1e} of the largest output")
        self.errors[key] = error
        self.sizes[key] = program.macs, sum(each.numel() for each in module.parameters())
        self.runs[key] = lambda: executable(*program.example_inputs)

    def add_peer(self, peer: str, subject: Subject) -> str | None:
        """Prepares a peer on the original; why it does not run, or None."""
        key = ORIGINAL, peer
        try:
            run = PEERS[peer](subject)
            error = largest_error(run(), PEERS["eager"](subject)())
        except Exception as failure:  # foreign code
            return describe(failure)
        if error > WRONG:
            return f"its outputs differ from eager's by {error:.1e} of the largest"
        self.errors[key], self.sizes[key], self.runs[key] = error, self.sizes[ORIGINAL, "loopmorph"], run
        return None

    def race(self, rounds: int, progress: Progress) -> dict[tuple[str, str], float]:
        """Median seconds of each, taking turns."""
        for run in self.runs.values():
            for _ in range(_WARM_UP):
                run()
        seconds = in_turns(self.runs, rounds, progress=progress)
        return {key: statistics.median(taken) for key, taken in seconds.items()}


def _check(pipelines: Mapping[str, str], peers: Sequence[str], threads: int, rounds: int) -> None:
    if not pipelines:
        raise ArgumentError("pipelines", "expected at least one rewritten network")
    if ORIGINAL in pipelines:
        raise ArgumentError("pipelines", f"'{ORIGINAL}' is what the unmodified network is called; another is expected")
    for peer in peers:
        if peer not in PEERS:
            raise ArgumentError("peers", f"'{peer}' is not known; accepted are {', '.join(PEERS)}")
    check_threads(threads)
    check_count("rounds", rounds)
