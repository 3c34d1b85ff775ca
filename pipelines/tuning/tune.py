"""Tuning: which algorithm and register block is fastest for each contraction of a program, measured."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from loopmorph.passes import marks
from loopmorph.passes.analysis.choice import Choice, read_choice
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import scheduled_by_hand
from loopmorph.passes.nest import nests
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.measure.meter import cold_bytes
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.store.cache_file import source_key
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.tuning.choice_cache import ChoiceCache, Found
from loopmorph.pipelines.tuning.race import Race, alternatives


@dataclass(frozen=True)
class TunedLayer:
    """The code that was found fastest for a layer.

    Attributes:
        layer: qualified name.
        choice: algorithm and register block, both given.
        by_model: those that the default schedule takes by itself.
    """

    layer: str
    choice: Choice
    by_model: Choice

    @property
    def step(self) -> Choose:
        """The transformation that makes the choice."""
        return Choose(self.layer, self.choice.algorithm, self.choice.block)


def tune(
    program: Program,
    seconds: float,
    worker: Worker,
    cache: ChoiceCache | None = None,
    progress: Progress | None = None,
) -> Program:
    """Measures alternatives for each contraction of a program, and chooses the fastest (see `tune_layers`).

    Args:
        program: the program.
        seconds: wall time for measuring; what the cache knows is used in any case.
        worker, cache, progress: see `tune_layers`.

    Returns:
        The program with `morph-choose` applied to the layers that a choice was found for.

    Raises:
        ArgumentError: `seconds` is not a positive number.
    """
    check_seconds(seconds)
    return program.after([each.step for each in tune_layers(program, Budget(seconds), worker, cache, progress)])


@dataclass
class Budget:
    """Seconds of wall time for measuring, which several programs may share.

    Attributes:
        left: seconds; 0 or less where none are.
    """

    left: float

    @contextmanager
    def spending(self) -> Iterator[float]:
        """Takes off what passes within; yields the time, by `time.monotonic`, at which nothing will be left."""
        started = time.monotonic()
        try:
            yield started + self.left
        finally:
            self.left -= time.monotonic() - started


def tune_layers(
    program: Program,
    budget: Budget,
    worker: Worker,
    cache: ChoiceCache | None = None,
    progress: Progress | None = None,
) -> tuple[TunedLayer, ...]:
    """Measures alternatives for each contraction of a program.

    Layers with the same nests are measured once, as in their network: in its layouts, with the worker's threads, and
    with the weights not in the caches, unless those of the whole network fit in a core's. The alternatives are the
    algorithms, each with the register blocks that the model finds best. They race in stages (see `Race`), all nests
    through one before any through the next, and those first whose layers compute most. An alternative that fails to
    compile, crashes or hangs drops out.

    Left as they are: layers that loop transformations have scheduled or for which something has been chosen, and those
    that the time does not suffice for.

    Args:
        program: the program.
        budget: for measuring, which is taken off; with nothing left, what the cache knows is all.
        worker: compiles and times.
        cache: where choices are looked up and kept; None measures afresh.
        progress: called with "tune", the number of stages done and of all.

    Returns:
        The fastest for each layer of which alternatives were measured.
    """
    cold = cold_bytes(program, worker.target)
    races = [entry for group in _groups(program) if (entry := _race(group, cold, worker, cache)) is not None]
    with budget.spending() as deadline:
        _run([race for _, race in races], cold, deadline, worker, cache, progress or silent)
    return tuple(
        TunedLayer(layer, race.best, race.model) for group, race in races if race.stages for layer in group.layers
    )


def _run(
    races: Sequence[Race], cold: int, deadline: float, worker: Worker, cache: ChoiceCache | None, tell: Progress
) -> None:
    """As many stages as there is time for, each race's next one in turn."""
    total = sum(race.all_stages for race in races)
    for stage in range(max((race.all_stages for race in races), default=0)):
        for race in races:
            tell("tune", sum(each.stages for each in races), total)
            due = race.stages == stage < race.all_stages
            if due and race.advance(worker, deadline) and cache is not None and race.tried is not None:
                cache.put(_key(race.text, cold, worker.target), worker.threads, Found(race.best, race.tried))
    tell("tune", total, total)


def tuned(program: Program, seconds: float, target: Target, threads: int, progress: Progress | None = None) -> Program:
    """`tune` with a worker of its own and the cache of this user."""
    with Worker(threads=threads, target=target) as worker, closing(ChoiceCache()) as cache:
        return tune(program, seconds, worker, cache, progress)


def check_seconds(seconds: float, argument: str = "tune") -> None:
    """Raises:
    ArgumentError: not a positive, finite number.
    """
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < math.inf:
        raise ArgumentError(argument, f"expected a positive number of seconds, got {seconds!r}")


@dataclass(frozen=True)
class _Group:
    """Layers with the same nests.

    Attributes:
        text: the nests, as a module that can be compiled alone.
        layers: names.
        cost: multiply-accumulates of all of them.
    """

    text: str
    layers: tuple[str, ...]
    cost: int


def _groups(program: Program) -> list[_Group]:
    """The contractions that are to be tuned, the most costly first."""
    module = program.module.operation
    mains = [nest for nest in nests(module) if nest.role == marks.MAIN]
    uses = Counter(nest.layer for nest in mains)
    by_hand = scheduled_by_hand(module)
    layers: dict[str, list[str]] = {}
    cost: Counter[str] = Counter()
    for nest in mains:
        work = macs(nest)
        if not work or uses[nest.layer] > 1 or nest.layer in by_hand or read_choice(nest) != Choice():
            continue
        try:
            text = program.closed_layer(nest.layer)
        except ArgumentError:  # it goes on with what another layer has begun
            continue
        layers.setdefault(text, []).append(nest.layer)
        cost[text] += work
    return [_Group(text, tuple(layers[text]), total) for text, total in cost.most_common()]


def _key(text: str, cold: int, target: Target) -> str:
    return source_key("cold" if cold else "warm", str(target), text)


def _race(group: _Group, cold: int, worker: Worker, cache: ChoiceCache | None) -> tuple[_Group, Race] | None:
    """The race of a nest's alternatives, as far as the cache says that it has come; None where there are none."""
    options = alternatives(group.text, worker.target.shared_by(worker.threads), worker.threads)
    if options is None:
        return None
    race = Race(group.text, options, cold)
    key = _key(group.text, cold, worker.target)
    known = cache.get(key, worker.threads) if cache is not None else None
    if cache is not None and known is not None:
        if known.choice in options.fitting and set(known.tried) <= set(options.choices):
            race.best, race.tried = known.choice, known.tried
        else:
            wrong = f"{known.choice.algorithm} {known.choice.block}"
            cache.reject(key, worker.threads, f"layer '{group.layers[0]}' does not admit {wrong}")
    return group, race
