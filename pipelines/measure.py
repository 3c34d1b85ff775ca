"""How long a layer takes before and after a rewrite, measured once per distinct pair of layers and computer."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sqlite3
import statistics
import warnings
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from torch_mlir import ir

import loopmorph
from loopmorph.passes import marks
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.machine import cpu_name
from loopmorph.passes.nest import functions
from loopmorph.pipelines.worker import Worker
from loopmorph.pipelines.worker_protocol import TimeJob

CACHE_VARIABLE = "LOOPMORPH_CACHE"
_FILE = "timings.sqlite3"


@dataclass(frozen=True)
class LayerTimes:
    """Median seconds of one execution of a layer as it was and as it is, from samples that took turns.

    Attributes:
        original: seconds before the rewrite.
        rewritten: seconds after it.
        cached: whether they were measured earlier.
    """

    original: float
    rewritten: float
    cached: bool = False

    @property
    def speedup(self) -> float:
        """How many times faster the rewritten layer is."""
        return self.original / self.rewritten


class TimingCache:
    """Times of pairs of layers, kept in one file across runs.

    The two times of a pair are stored and served together: the machine's clock drifts, so times from two sessions do
    not compare, but the ratio within a pair does. A file that is corrupt is replaced; where none can be written, the
    times live in memory. Both warn.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Args:
        folder: where the file lies; by default `$LOOPMORPH_CACHE`, else the user's cache folder.
        """
        self.path = (folder or default_folder()) / _FILE
        self._memory: dict[str, tuple[float, float]] = {}
        self._connection = self._open()

    def get(self, key: str) -> tuple[float, float] | None:
        """Seconds before and after, if the pair has been measured."""
        if key in self._memory or self._connection is None:
            return self._memory.get(key)
        try:
            row = self._connection.execute("SELECT original, rewritten FROM pairs WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return (row[0], row[1]) if row else None

    def put(self, key: str, times: tuple[float, float]) -> None:
        """Stores the seconds before and after."""
        self._memory[key] = times
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", (key, *times))
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Closes the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return _connect(self.path)
        except (OSError, sqlite3.OperationalError) as error:
            self._give_up(error)
        except sqlite3.DatabaseError as error:
            warnings.warn(f"the timing cache {self.path} is corrupt ({error}); it is begun anew", stacklevel=3)
            try:
                self.path.unlink()
                return _connect(self.path)
            except (OSError, sqlite3.Error) as second:
                self._give_up(second)
        return None

    def _give_up(self, error: Exception) -> None:
        warnings.warn(f"times are not kept in {self.path}: {error}", stacklevel=4)
        self._connection = None


def default_folder() -> Path:
    """The folder of the cache: `$LOOPMORPH_CACHE`, else the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("loopmorph"))


def layer_times(
    original: ir.Operation,
    rewritten: ir.Operation,
    layer: str,
    worker: Worker,
    *,
    cache: TimingCache | None = None,
    rounds: int = 20,
    budget: float = 2.0,
    limit: float = 60.0,
) -> LayerTimes:
    """Times one layer of two programs, alone, with samples that take turns in one process.

    Args:
        original: module of affine nests.
        rewritten: the module after transformations.
        layer: the layer's qualified name, the same in both.
        worker: compiles and times.
        cache: where the times are looked up and kept; None measures afresh.
        rounds: samples of each.
        budget: seconds after which no more samples are taken.
        limit: seconds after which the worker is killed.

    Raises:
        ArgumentError: a module without that layer.
        CompilationFailed: a layer cannot be compiled, or the worker crashed or ran out of time.
    """
    texts = tuple(_anonymous_text(extract_layer(module, layer)) for module in (original, rewritten))
    key = _key(texts, worker.threads)
    known = cache.get(key) if cache is not None else None
    if known is not None:
        return LayerTimes(*known, cached=True)
    reply = worker.run(TimeJob(texts, rounds=rounds, budget=budget), limit=limit)
    before, after = (statistics.median(samples) for samples in reply.seconds)
    if cache is not None:
        cache.put(key, (before, after))
    return LayerTimes(before, after)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS pairs (key TEXT PRIMARY KEY, original REAL, rewritten REAL)")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _anonymous_text(module: ir.Module) -> str:
    """The module's text without what does not change its code: names of layers, nodes and parameters, locations."""

    def forget(op: ir.Operation) -> ir.WalkResult:
        for name in (marks.LAYER, marks.NODE):
            if name in op.attributes:
                del op.attributes[name]
        return ir.WalkResult.ADVANCE

    with module.context:
        module.operation.walk(forget)
        for function in functions(module.operation):
            numbered = [_anonymous(k, attributes) for k, attributes in enumerate(marks.argument_marks(function))]
            marks.set_argument_marks(function, numbered)
    return str(module)


def _anonymous(position: int, attributes: dict[str, ir.Attribute]) -> dict[str, ir.Attribute]:
    kept = {name: attribute for name, attribute in attributes.items() if name != marks.INHERIT}
    if marks.PARAM in kept:
        kept[marks.PARAM] = ir.StringAttr.get(str(position))
    return kept


def _key(texts: tuple[str, ...], threads: int) -> str:
    parts = [*texts, str(threads), cpu_name(), loopmorph.__version__, importlib.metadata.version("torch-mlir")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
