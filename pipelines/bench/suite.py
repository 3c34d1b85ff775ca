"""`bench --suite`: many networks against their peers, each in a process of its own; what was measured is kept."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from loopmorph.passes.errors import ArgumentError, LoopmorphError
from loopmorph.passes.registry import did_you_mean, nearest_first
from loopmorph.passes.target.detect import native_target, processor_model, processor_name
from loopmorph.pipelines.bench.bench import check_arguments, check_positive, measure
from loopmorph.pipelines.bench.contenders import PEERS, versions
from loopmorph.pipelines.bench.result import Request, ThreadResult
from loopmorph.pipelines.bench.suite_result import EXPLAINED, SLOW, Setting, SuiteResult, SuiteRow
from loopmorph.pipelines.bench.timm_networks import NETWORKS, require_timm
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.store.cache_file import CacheFile, hash_of, sources, sources_now
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.progress import Progress, silent

SUITES = ("timm",)
BATCHES, THREADS = (1, 8), (1, 2)
LIMIT, _LONGEST = 1800.0, 1e6  # seconds for the process of one row
STOPPED = "the same command, without --fresh, goes on from there"
CHANGED = "loopmorph's source files have changed meanwhile, and rows of other sources do not compare"
_RACE_S = 60.0  # after which no more rounds begin
Measure = Callable[[Request, Progress], ThreadResult]


class SuiteFile(CacheFile):
    """The rows of suites by what they depend on, kept in the user's cache across runs."""

    file: ClassVar[str] = "suites.sqlite3"
    contents: ClassVar[str] = "rows of benchmarks"

    def __init__(self, folder: Path | None = None) -> None:
        """Args:
        folder: where the file lies (see `CacheFile`).
        """
        super().__init__("rows (key TEXT PRIMARY KEY, content TEXT)", folder)

    def get(self, key: str) -> SuiteRow | None:
        """The row, if it has been measured."""
        rows = self.execute("SELECT content FROM rows WHERE key = ?", key)
        try:
            return SuiteRow.from_dict(json.loads(rows[0][0])) if rows else None
        except (ValueError, KeyError, TypeError, AttributeError):  # somebody else has written there
            return None

    def forget(self, key: str) -> None:
        """Drops a row, if there is one."""
        self.execute("DELETE FROM rows WHERE key = ?", key)

    def put(self, key: str, row: SuiteRow) -> None:
        """Stores a row."""
        self.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", key, json.dumps(dataclasses.asdict(row)))


def bench_suite(
    suite: str = "timm",
    *,
    networks: Sequence[str] = (),
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] = THREADS,
    peers: Sequence[str] = tuple(PEERS),
    rounds: int = 10,
    seed: int = 0,
    tune: float | None = None,
    algorithm: str = "auto",
    limit: float = LIMIT,
    fresh: bool = False,
    explain_slow: bool = False,
    progress: Progress = silent,
    watch: Callable[[SuiteRow], None] = lambda _: None,
    perform: Measure | None = None,
) -> SuiteResult:
    """Times the networks of a suite and their peers as `bench` does, one process for each network, batch and threads.

    Each row is in the user's cache once it is measured: the same call goes on where one was stopped, by whatever. A row
    holds for loopmorph's sources, the versions of the peers and this processor; where one of these changes, it is
    measured anew, and where the sources change meanwhile, measuring ends. So it does at Ctrl-C; the result has the rows
    so far. A network that loopmorph refuses, that ends the
    process or that takes longer than the limit costs itself alone. Where ours is slower than a peer, layers are timed.
    Rounds of slow networks end after a minute, but not before there were two.

    Args:
        suite: its name, "timm".
        networks: names, patterns of names (`efficientnet*`) or kinds ("cnn", "mixer", "transformer"); all by default.
        batches: numbers of images at a time.
        threads: numbers of threads.
        peers: names from `eager, inductor, onnxruntime, openvino`, at least one.
        rounds: rounds of eight calls of each contender, at most.
        seed: of weights, statistics and inputs.
        tune: seconds in which loopmorph may tune each network (see `compile`).
        algorithm: "auto", or "direct" to compile without Winograd.
        limit: seconds for the process of one row.
        fresh: whether to forget what has been measured of these rows before.
        explain_slow: whether to name, of networks whose ratio is below 1.2, the nests that could run faster, and why.
        progress: called with what is being done, the number of rows done and of all.
        watch: called with each row that was measured.
        perform: what has a request performed; by default `measure`, without what earlier builds have left.

    Raises:
        ArgumentError: an unknown suite, network, peer or algorithm; a number that is not positive; timm is not there.
    """
    if suite not in SUITES:
        raise ArgumentError("suite", f"expected one of {', '.join(SUITES)}, got '{suite}'")
    check_arguments(threads, peers, rounds, tune, algorithm)
    for name, values in (("batches", batches), ("peers", peers)):
        if not values:
            raise ArgumentError(name, "expected at least one")
    for batch in batches:
        check_positive("batches", batch)
    for count in threads:
        check_threads(count)
    if not 0 < limit <= _LONGEST:
        raise ArgumentError("limit", f"expected more than 0 and at most {_LONGEST:g} seconds, got {limit:g}")
    chosen = choose_networks(networks)
    if perform is None:
        require_timm("suite")
        perform = functools.partial(_measure_cold, limit)
    setting = _setting(peers, rounds, seed, algorithm, tune)
    cases = [(name, batch, count) for name in chosen for batch in batches for count in threads]
    explained = EXPLAINED if explain_slow else 0.0
    requests = [dataclasses.replace(_request(suite, *case, setting), explain_below=explained) for case in cases]
    with closing(SuiteFile()) as file:
        run = _Run({_key(each, setting): each for each in requests}, setting.sources, file, perform, progress, watch)
        stopped = run.go(fresh)
    return SuiteResult(suite, setting, run.rows, stopped)


def choose_networks(patterns: Sequence[str]) -> list[str]:
    """The networks that one of the patterns (see `bench_suite`) names, in the suite's order.

    Raises:
        ArgumentError: a pattern that names none; says which names there are, the nearest first.
    """
    for pattern in patterns:
        if not any(_names(pattern, name) for name in NETWORKS):
            hint = did_you_mean(pattern, [*NETWORKS, *NETWORKS.values()])
            there = f"there are, nearest first, {', '.join(nearest_first(pattern, NETWORKS))}"
            kinds = f"and the kinds {', '.join(dict.fromkeys(NETWORKS.values()))}"
            raise ArgumentError("networks", f"'{pattern}' names no network of the suite{hint}; {there}; {kinds}")
    return [name for name in NETWORKS if not patterns or any(_names(pattern, name) for pattern in patterns)]


def _names(pattern: str, name: str) -> bool:
    return pattern == NETWORKS[name] or fnmatch.fnmatchcase(name, pattern)


def this_processor() -> str:
    """What rows are compared by: one name may stand for several generations of processors."""
    model = processor_model()
    return f"{processor_name()}{f' ({model})' if model else ''}, {native_target()}"


def _setting(peers: Sequence[str], rounds: int, seed: int, algorithm: str, tune: float | None) -> Setting:
    found = versions(peers, ["timm", "torch-mlir"])
    return Setting(this_processor(), found, sources(), tuple(peers), rounds, seed, algorithm, tune)


def _request(suite: str, network: str, batch: int, threads: int, setting: Setting) -> Request:
    return Request(
        network,
        threads,
        setting.peers,
        setting.rounds,
        setting.seed,
        layers_below=SLOW,
        tune=setting.tune,
        algorithm=setting.algorithm,
        suite=suite,
        batch=batch,
        race_s=_RACE_S,
    )


def _measure_cold(limit: float, request: Request, progress: Progress) -> ThreadResult:
    """Has a request performed without what earlier builds have left, so that times of builds are what they say."""
    with tempfile.TemporaryDirectory() as folder:
        cold = {"LOOPMORPH_CODE_CACHE": "0", "TORCHINDUCTOR_CACHE_DIR": folder}
        return measure(request, progress, limit=limit, environment=cold)


def _key(request: Request, setting: Setting) -> str:
    """What a row depends on."""
    return hash_of(*(json.dumps(dataclasses.asdict(each), sort_keys=True) for each in (request, setting)))


@dataclasses.dataclass
class _Run:
    """One run; `rows` are those that it has come to, in order."""

    requests: Mapping[str, Request]  # by key
    sources: str
    file: SuiteFile
    measure: Measure
    progress: Progress
    watch: Callable[[SuiteRow], None]
    _rows: dict[str, SuiteRow] = dataclasses.field(default_factory=dict)

    @property
    def rows(self) -> tuple[SuiteRow, ...]:
        """Those that are known by now, in the order of the requests."""
        return tuple(self._rows[key] for key in self.requests if key in self._rows)

    def go(self, fresh: bool) -> str:
        """Measures what has not been measured; why it ended before its time, empty if it did not."""
        for key in self.requests:
            if fresh:
                self.file.forget(key)
            elif (row := self.file.get(key)) is not None:
                self._rows[key] = row
        try:
            with noted_interrupts() as check:
                for key in [key for key in self.requests if key not in self._rows]:
                    row = self._measured(self.requests[key])
                    if sources_now() != self.sources:  # the process of the row may have read either
                        return CHANGED
                    self._rows[key] = row
                    self.file.put(key, row)
                    self.watch(row)
                    check()
        except KeyboardInterrupt:
            return STOPPED
        return ""

    def _measured(self, request: Request) -> SuiteRow:
        done, of = len(self._rows), len(self.requests)
        what = f"{request.model}, batch {request.batch}, {request.threads} thread{'s' if request.threads > 1 else ''}"
        started = time.perf_counter()
        result, failure = None, ""
        try:
            result = self.measure(request, lambda stage, *_: self.progress(f"{what}: {stage}", done, of))
        except LoopmorphError as error:
            failure = str(error)
        seconds = time.perf_counter() - started
        kind = NETWORKS[request.model]
        return SuiteRow(request.model, kind, request.batch, request.threads, result, failure, seconds)
