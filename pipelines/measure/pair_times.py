"""How long a layer takes before and after a rewrite, measured once per distinct pair of layers and computer."""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.base import SCHEDULE_ATTRIBUTE, Transformation, recorded_steps
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.nest import functions
from loopmorph.passes.pipeline import parse_pipeline
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import TimeJob
from loopmorph.pipelines.store.cache_file import CacheFile, computer, sources

ANY_LAYER = "layer"  # what a layer is called in the text of a module that stands for all layers like it


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


class TimingCache(CacheFile):
    """Times of pairs of layers, kept in one file across runs.

    The two times of a pair are stored and served together: the machine's clock drifts, so times from two sessions do
    not compare, but the ratio within a pair does.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Args:
        folder: where the file lies (see `CacheFile`).
        """
        super().__init__("pairs (key TEXT PRIMARY KEY, original REAL, rewritten REAL)", folder)
        self._memory: dict[str, tuple[float, float]] = {}

    def get(self, key: str) -> tuple[float, float] | None:
        """Seconds before and after, if the pair has been measured."""
        if key in self._memory:
            return self._memory[key]
        rows = self.execute("SELECT original, rewritten FROM pairs WHERE key = ?", key)
        return (rows[0][0], rows[0][1]) if rows else None

    def put(self, key: str, times: tuple[float, float]) -> None:
        """Stores the seconds before and after."""
        self._memory[key] = times
        self.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", key, *times)


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
    texts = tuple(anonymous_text(extract_layer(module, layer, closed=True)) for module in (original, rewritten))
    return _pair_times(TimeJob(texts, rounds=rounds, budget=budget), worker, cache, limit)


def module_times(
    original: ir.Module, rewritten: ir.Module, worker: Worker, *, cache: TimingCache | None = None, limit: float = 300.0
) -> LayerTimes:
    """Times two whole programs with samples that take turns in one process.

    Args:
        original: module of affine nests.
        rewritten: the module after transformations.
        worker: compiles and times.
        cache: where the times are looked up and kept; None measures afresh.
        limit: seconds after which the worker is killed.

    Raises:
        CompilationFailed: a program cannot be compiled, or the worker crashed or ran out of time.
    """
    return _pair_times(TimeJob((str(original), str(rewritten)), rounds=20, budget=10.0), worker, cache, limit)


def _pair_times(job: TimeJob, worker: Worker, cache: TimingCache | None, limit: float) -> LayerTimes:
    """The medians of a job with two modules, looked up or measured."""
    key = _key(tuple(str(module) for module in job.modules), worker.threads)
    known = cache.get(key) if cache is not None else None
    if known is not None:
        return LayerTimes(*known, cached=True)
    reply = worker.run(job, limit=limit)
    before, after = (statistics.median(samples) for samples in reply.seconds)
    if cache is not None:
        cache.put(key, (before, after))
    return LayerTimes(before, after)


def anonymous_text(module: ir.Module) -> str:
    """The text of an extracted layer without what does not change its code; `module` is changed in place.

    All layers are called `ANY_LAYER`, parameters have numbers for names; names of nodes and locations are left out.
    """
    layer = ir.StringAttr.get(ANY_LAYER, module.context)

    def forget(op: ir.Operation) -> ir.WalkResult:
        if marks.LAYER in op.attributes:
            op.attributes[marks.LAYER] = layer
        if marks.NODE in op.attributes:
            del op.attributes[marks.NODE]
        return ir.WalkResult.ADVANCE

    steps = recorded_steps(module.operation)
    with module.context:
        module.operation.walk(forget)
        for function in functions(module.operation):
            numbered = [_anonymous(k, attributes) for k, attributes in enumerate(marks.argument_marks(function))]
            marks.set_argument_marks(function, numbered)
        if steps:
            texts = [ir.StringAttr.get(_renamed(step)) for step in steps]
            module.operation.attributes[SCHEDULE_ATTRIBUTE] = ir.ArrayAttr.get(texts)
    return str(module)


def _renamed(text: str) -> str:
    """A step of one layer, with the name that stands for all layers."""
    (step,) = parse_pipeline(text).elements
    assert isinstance(step, Transformation)
    values = step.options()
    role = str(values["layer"]).partition("#")[1:]
    return str(type(step)(**{**values, "layer": "".join((ANY_LAYER, *role))}))


def _anonymous(position: int, attributes: dict[str, ir.Attribute]) -> dict[str, ir.Attribute]:
    forgotten = (marks.INHERIT, marks.SOURCE, marks.IDENTITY)
    kept = {name: attribute for name, attribute in attributes.items() if name not in forgotten}
    if marks.PARAM in kept:
        kept[marks.PARAM] = ir.StringAttr.get(str(position))
    return kept


def _key(texts: tuple[str, ...], threads: int) -> str:
    parts = [*texts, str(threads), computer(), sources()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
