"""The alternatives for one contraction, and which of them is fastest."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.choice import (
    DIRECT,
    WINOGRAD_TILES,
    Choice,
    RegisterBlock,
    algorithm_name,
    block_text,
)
from loopmorph.passes.analysis.contraction_nest import ContractionNest, view_contraction
from loopmorph.passes.errors import CompilationFailed, IllegalTransform
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.lowering.anonymous_layer import ANY_LAYER
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.scheduling.algorithm import fewer_than_all, winograd_samples, winograd_tile
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.passes.scheduling.contraction_schedules import split_for_threads
from loopmorph.passes.scheduling.register_block import register_blocks, work_of
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import TimeJob
from loopmorph.pipelines.network import copy_module

BLOCKS = 6  # register blocks tried with each algorithm
WORTHWHILE = 0.98  # what replaces the fastest so far has to take less than this share of its time
_ROUNDS = 15
_SAMPLING = 1.0  # seconds of samples in a stage
_PATIENCE = (10.0, 4.0)  # seconds after which a stage is given up: for itself, and for each alternative in it


@dataclass(frozen=True)
class Alternatives:
    """The choices that a layer admits.

    Attributes:
        model: the one that the default schedule makes by itself.
        choices: by algorithm, each with its register blocks, the best by the model first.
    """

    model: Choice
    choices: Mapping[str, Sequence[Choice]]

    @property
    def fitting(self) -> set[Choice]:
        """All of them."""
        return {choice for group in self.choices.values() for choice in group}


def alternatives(text: str, target: Target, threads: int = 1) -> Alternatives | None:
    """The choices that a layer admits; None where there is nothing to choose.

    Args:
        text: a layer alone, called `ANY_LAYER` (see `anonymous_text`).
        target: the processor.
        threads: how many threads will run it.
    """
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        for step in layout_passes(target):
            step.run(module.operation)
        by_model = algorithm_name(winograd_tile(find_nest(module.operation, ANY_LAYER), target))
        found: dict[str, list[Choice]] = {}
        for algorithm in (DIRECT, *WINOGRAD_TILES):
            candidate = copy_module(module).operation
            try:
                outer = _transform(candidate, WINOGRAD_TILES.get(algorithm), target, threads)
            except IllegalTransform:
                continue
            view = view_contraction(find_nest(candidate, ANY_LAYER), outer)
            if view is not None and view.lane.extent == target.lanes:
                blocks = _blocks(candidate, view, outer, target, threads)
                found[algorithm] = [Choice(algorithm, block_text(block)) for block in blocks]
    return Alternatives(found[by_model][0], found) if by_model in found else None


def _blocks(
    module: ir.Operation, view: ContractionNest, outer: tuple[str, ...], target: Target, threads: int
) -> list[RegisterBlock]:
    """The register blocks of a nest, as the default schedule will cut it for threads; the best by the model first."""
    shared = split_for_threads(view, ANY_LAYER, Choice(), target, threads)
    if shared is not None:
        shared.apply(module)
        view = view_contraction(find_nest(module, ANY_LAYER), outer) or view
    return register_blocks(work_of(view, threads), target)


def _transform(module: ir.Operation, tile: int | None, target: Target, threads: int) -> tuple[str, ...]:
    """Applies Winograd with tiles of that extent, if any, as the default schedule will; the iterators over chunks."""
    if tile is None:
        return ()
    nest = find_nest(module, ANY_LAYER)
    samples = fewer_than_all(nest, winograd_samples(nest, tile, target, threads))
    WinogradFiltering(ANY_LAYER, tile, samples).apply(module)
    return () if samples is None else find_nest(module, ANY_LAYER).iterators[:1]


class Race:
    """The alternatives of one layer against each other, in stages, each against the best of the one before.

    The first stage compares the algorithms, each with its best register block by the model; the next one other
    register blocks of the fastest algorithm; one for each other algorithm follows. Within a stage, samples take turns.

    Attributes:
        text: the layer alone, called `ANY_LAYER`.
        model: the model's choice.
        best: the fastest so far, the model's choice at first.
        tried: None before the first stage, then the algorithms of which other register blocks have been tried.
    """

    def __init__(self, text: str, options: Alternatives, cold: int = 0) -> None:
        self.text = text
        self._cold = cold  # as in a `TimeJob`
        self.model = self.best = options.model
        self.tried: tuple[str, ...] | None = None
        self._choices = {algorithm: group[:BLOCKS] for algorithm, group in options.choices.items()}

    @property
    def stages(self) -> int:
        """How many stages have been done."""
        return 0 if self.tried is None else 1 + len(self.tried)

    @property
    def all_stages(self) -> int:
        """How many there are."""
        return 1 + len(self._choices)

    def advance(self, worker: Worker, deadline: float) -> bool:
        """Does the next stage; says whether time has sufficed for it.

        Args:
            worker: compiles and times.
            deadline: by `time.monotonic`.
        """
        if time.monotonic() >= deadline:
            return False
        left = [a for a in self._choices if a not in (self.tried or ())]
        tried: tuple[str, ...] = ()
        if self.tried is None:
            rivals = [group[0] for group in self._choices.values()]
        else:
            algorithm = self.best.algorithm if self.best.algorithm in left else left[0]
            rivals, tried = list(self._choices[algorithm][1:]), (*self.tried, algorithm)
        field = [self.best, *(rival for rival in rivals if rival != self.best)]
        if len(field) > 1:
            texts = [with_choice(self.text, choice) for choice in field]
            times = _times(texts, worker, deadline, self._cold)
            if times is None:
                return False
            fastest = min(range(len(field)), key=lambda k: times[k])
            if times[fastest] < WORTHWHILE * times[0]:
                self.best = field[fastest]
        self.tried = tried
        return True


def with_choice(text: str, choice: Choice) -> str:
    """The text of a layer alone, called `ANY_LAYER`, with a choice set."""
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        Choose(ANY_LAYER, choice.algorithm, choice.block).apply(module.operation)
        return str(module)


def _times(texts: Sequence[str], worker: Worker, deadline: float, cold: int) -> list[float] | None:
    """Median seconds of each; infinite for those that fail alone, None where time is up."""
    left = deadline - time.monotonic()
    if left <= 0:
        return None
    job = TimeJob(texts, rounds=_ROUNDS, budget=min(_SAMPLING, left), cold=cold)
    try:
        limit = min(left, _PATIENCE[0] + _PATIENCE[1] * len(texts))
        return [statistics.median(samples) for samples in worker.run(job, limit=limit).seconds]
    except CompilationFailed:
        if time.monotonic() >= deadline:
            return None
        if len(texts) == 1:
            return [math.inf]
    middle = len(texts) // 2
    first, second = (_times(part, worker, deadline, cold) for part in (texts[:middle], texts[middle:]))
    return None if first is None or second is None else [*first, *second]
