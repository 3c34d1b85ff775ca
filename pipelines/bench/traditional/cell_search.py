"""The best cells of NAS-Bench-201 under a limit on latency: ranked before training, compiled and timed here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its parts are loaded when they are first used

from loopmorph.passes.errors import ArgumentError, CompilationFailed, LoopmorphError
from loopmorph.passes.target.detect import processor_name
from loopmorph.pipelines.bench.nasbench201 import NASBench201Bench
from loopmorph.pipelines.bench.signal_bench import measure_signals
from loopmorph.pipelines.bench.signal_rows import RowFile, SignalRow
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.legality.signals import parse_signals
from loopmorph.pipelines.measure.check import check_network
from loopmorph.pipelines.measure.meter import WorkerMeter
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.program import import_model
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.zoo import CELL

TIME = "milliseconds"  # stands among the scores of a cell in the file of rows
_RANKED_BY = ("naswot",)  # the best of those signals that cost no more (see docs/legality.md)


@dataclass(frozen=True)
class RankedCell:
    """A cell of the benchmark.

    Attributes:
        architecture: the cell; `nasbench201:ARCHITECTURE` is its network's name.
        rank: its place by the signals among the cells, from 1.
        scores: name of each signal, and "macs" -> what it said.
        accuracy: what the benchmark's training gave on CIFAR-10, in per cent.
        milliseconds: one image through the compiled network: the lower quartile.
    """

    architecture: str
    rank: int
    scores: dict[str, float]
    accuracy: float
    milliseconds: float

    @property
    def model(self) -> str:
        """The name by which `resolve_model` knows its network."""
        return f"{CELL}{self.architecture}"


@dataclass(frozen=True)
class CellSearch:
    """What a search among cells found.

    Attributes:
        best: the cells within the limit, the best by the signals first.
        slower: those that were timed and are not within it, in the same order.
        limit_ms: the limit.
        signals: the names of the signals that ranked.
        ranked: how many cells were ranked.
        threads: of the compiled code.
        processor: where it ran.
        source: where the images are from.
        failed: why a cell could not be measured or timed, by its architecture.
        interrupted: whether the search was stopped; there may be better cells than `best` then.
    """

    best: tuple[RankedCell, ...]
    slower: tuple[RankedCell, ...]
    limit_ms: float
    signals: tuple[str, ...]
    ranked: int
    threads: int
    processor: str
    source: str
    failed: dict[str, str]
    interrupted: bool

    def to_json(self) -> str:
        """All of it; a score that is not finite is null."""
        content = {**vars(self), "best": [*map(_as_json, self.best)], "slower": [*map(_as_json, self.slower)]}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _as_json(cell: RankedCell) -> dict[str, Any]:
    scores = {name: value if math.isfinite(value) else None for name, value in cell.scores.items()}
    return {**vars(cell), "scores": scores}


def search_cells(
    cells: Path,
    data: Path | None,
    *,
    limit_ms: float,
    signals: Sequence[str] = _RANKED_BY,
    count: int | None = None,
    keep: int = 10,
    images: int = 64,
    seed: int = 0,
    threads: int = 1,
    device: str | None = None,
    out: Path | None = None,
    progress: Progress = silent,
) -> CellSearch:
    """Random cells of NAS-Bench-201, ranked by signals at initialisation, and the best of them within a latency.

    Cells are compiled, compared with PyTorch and timed in the order of their rank, until enough are within the limit:
    what a search without training costs. Several signals rank by the sum of their ranks. The accuracies that the
    file tabulates rank nothing; they are there to be read.

    Ctrl-C ends the search and gives what was found; with `out`, the same call goes on from there.

    Args:
        cells: CSV file with columns `arch` and `cifar10_test_acc_200ep` (see `load_cells`).
        data: images for the signals (see `load_batch`); None for synthetic ones.
        limit_ms: milliseconds for one image of 32x32.
        signals: names of signals (see `SIGNALS`).
        count: how many cells of the file are drawn, by the seed; None for all.
        keep: how many cells within the limit are looked for.
        images: number of images in the minibatch, at least 2.
        seed: of the weights, and chooses images and cells.
        threads: of the compiled code.
        device: where signals are computed; None takes a CUDA device when there is one.
        out: file of JSON lines that keeps what was measured (see `RowFile`), times included: they hold for this
            processor, this number of threads and this version alone.
        progress: called with what is being done, how much is done, and of how much.

    Raises:
        ArgumentError: an argument out of range; a limit that none of the cells keeps: tells the fastest.
        DataError: the cells or the data cannot be read, or are fewer than asked for.
        CompilationFailed: no cell can be measured and timed.
    """
    _check(limit_ms, keep, threads)
    names = parse_signals(",".join(signals))
    bench = NASBench201Bench(cells, data, count=count, images=images, seed=seed, device=device)
    file = RowFile(out, {**bench.setting, "threads": threads, "processor": processor_name()})
    measured = measure_signals(bench.networks, names, file, progress)
    accuracies = {network.name: network.accuracy for network in bench.networks}
    timing = _Timing(file, limit_ms, keep, threads, seed, progress, accuracies, {**measured.failed})
    interrupted = measured.interrupted
    if not interrupted:
        interrupted = timing.run(ranked(measured.rows, names))
    timed = timing.timed
    if not interrupted:
        _check_found(timed, limit_ms, threads, timing.failed)
    return CellSearch(
        tuple(cell for cell in timed if cell.milliseconds <= limit_ms),
        tuple(cell for cell in timed if cell.milliseconds > limit_ms),
        limit_ms,
        names,
        len(measured.rows),
        threads,
        processor_name(),
        bench.batch.source,
        timing.failed,
        interrupted,
    )


def ranked(rows: Sequence[SignalRow], signals: Sequence[str]) -> list[SignalRow]:
    """The rows, the best first: by the sum of the ranks that the signals give; those of the same sum by their names.

    A score that is not finite counts as the worst.
    """
    if not rows:
        return []
    values = np.array([[_rankable(row.scores[name].value) for name in signals] for row in rows])
    places = scipy.stats.rankdata(-values, axis=0).sum(1)
    return [rows[k] for k in sorted(range(len(rows)), key=lambda k: (places[k], rows[k].network))]


def _rankable(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _check(limit_ms: float, keep: int, threads: int) -> None:
    if not (isinstance(limit_ms, int | float) and 0 < limit_ms < math.inf):
        raise ArgumentError("limit_ms", f"expected a positive number of milliseconds, got {limit_ms!r}")
    check_count("keep", keep)
    check_threads(threads)


def _check_found(timed: Sequence[RankedCell], limit_ms: float, threads: int, failed: dict[str, str]) -> None:
    if not timed:
        name, reason = next(iter(failed.items()))
        raise CompilationFailed(f"none of the cells could be measured and timed; {name}: {reason}")
    fastest = min(timed, key=lambda cell: cell.milliseconds)
    if fastest.milliseconds > limit_ms:
        where = f"at {threads} thread{'s' if threads > 1 else ''}"
        reason = f"none of {len(timed)} cells takes at most {limit_ms:g} ms {where}"
        least = f"the least possible is {fastest.milliseconds:.3f} ms, of {fastest.architecture}"
        raise ArgumentError("limit_ms", f"{reason}; {least}")


@dataclass
class _Timing:
    """Times cells in order until enough are within the limit."""

    file: RowFile
    limit_ms: float
    keep: int
    threads: int
    seed: int
    tell: Progress
    accuracies: dict[str, float]
    failed: dict[str, str]
    timed: list[RankedCell] = field(default_factory=list)

    def run(self, rows: Sequence[SignalRow]) -> bool:
        """Whether it was interrupted."""
        try:
            with Worker(threads=self.threads) as worker, noted_interrupts() as check:
                for rank, row in self._open(rows):
                    self._time(rank, row, worker)
                    check()
            self.tell("timing", len(rows), len(rows))
        except KeyboardInterrupt:
            return True
        return False

    def _open(self, rows: Sequence[SignalRow]) -> Iterator[tuple[int, SignalRow]]:
        for rank, row in enumerate(rows, start=1):
            if sum(cell.milliseconds <= self.limit_ms for cell in self.timed) == self.keep:
                return
            self.tell("timing", rank - 1, len(rows))
            yield rank, row

    def _time(self, rank: int, row: SignalRow, worker: Worker) -> None:
        known = self.file.rows[row.network]
        if TIME not in known.scores:
            try:
                taken = _milliseconds(row.network, self.seed, worker)
            except LoopmorphError as error:
                self.failed[row.network] = str(error)
                return
            known = SignalRow(row.network, row.accuracy, {**known.scores, TIME: Score(taken)})
            self.file.put(known)
        scores = {name: score.value for name, score in known.scores.items() if name != TIME}
        accuracy = self.accuracies[row.network]
        self.timed.append(RankedCell(row.network, rank, scores, accuracy, known.scores[TIME].value))


def _milliseconds(architecture: str, seed: int, worker: Worker) -> float:
    """One image through a cell's network, once its code has been compared with PyTorch."""
    loaded = resolve_model(f"{CELL}{architecture}", seed=seed)
    program = import_model(loaded.model, loaded.example_inputs)
    check_network(program, worker)
    return 1e3 * WorkerMeter(worker).alone(program)
