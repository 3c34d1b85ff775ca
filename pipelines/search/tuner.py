"""Tuning the networks of a search: each with the fastest code for its layers, within the seconds that were given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from loopmorph.passes.history import Step
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.tuning.choice_cache import ChoiceCache
from loopmorph.pipelines.tuning.tune import Budget, TunedLayer, tune_layers


@dataclass(frozen=True)
class Tuned:
    """A network before and after it was tuned.

    Attributes:
        untuned: its code as the compiler's model chooses it.
        layers: what was found fastest for each layer of which alternatives were measured.
        program: the network with these choices.
    """

    untuned: Program
    layers: tuple[TunedLayer, ...]
    program: Program


@dataclass(frozen=True)
class TunedPair:
    """The two networks that a search compares, tuned.

    Attributes:
        seconds: that each of them had.
        original, result: the network as imported, and what the search has made of it.
    """

    seconds: float
    original: Tuned
    result: Tuned

    @property
    def networks(self) -> dict[str, Tuned]:
        """Both, by name."""
        return {"original": self.original, "result": self.result}


class Tuner:
    """Tunes the original, and the networks that are made of it.

    The original has so many seconds of measuring, and all other networks together as many, until `renew`; an interrupt
    leaves none. What was measured for a layer is kept in the user's cache, so that another network with the same layer
    has its choice at once.
    """

    def __init__(
        self, original: Program, seconds: float, worker: Worker, cache: ChoiceCache, progress: Progress = silent
    ) -> None:
        """Args:
        original: the network as imported.
        seconds: wall time for measuring.
        worker, cache, progress: see `tune_layers`.
        """
        self.seconds = seconds
        self._original = original
        self._worker, self._cache, self._progress = worker, cache, progress
        self._own, self._others = Budget(seconds), Budget(seconds)
        self._baseline: Tuned | None = None

    def renew(self) -> None:
        """Gives the networks to come as many seconds as the first ones had."""
        self._others = Budget(self.seconds)

    def original(self) -> Tuned:
        """The network as imported; tuned once, so that all are compared with the same code.

        Raises:
            KeyboardInterrupt: nothing more is measured after it.
        """
        if self._baseline is None:
            self._baseline = self._within(self._own, self._original)
        return self._baseline

    def tuned(self, program: Program) -> Tuned:
        """A network that was made of it.

        Raises:
            KeyboardInterrupt: nothing more is measured after it.
        """
        return self._within(self._others, program)

    def steps(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """The steps from the original to a network, with the choices for its layers.

        Raises:
            ArgumentError, IllegalTransform: the original does not admit the steps.
            KeyboardInterrupt: nothing more is measured after it.
        """
        tuned = self.tuned(self._original.after(steps)) if steps else self.original()
        return (*steps, *(each.step for each in tuned.layers))

    def _within(self, budget: Budget, program: Program) -> Tuned:
        try:
            layers = tune_layers(program, budget, self._worker, self._cache, self._progress)
        except KeyboardInterrupt:
            self._own = self._others = Budget(0.0)
            raise
        return Tuned(program, layers, program.after([each.step for each in layers]))


@contextmanager
def tuner(
    original: Program, seconds: float | None, threads: int, target: Target, progress: Progress
) -> Iterator[Tuner | None]:
    """A tuner with a worker process of its own, and the cache of this user; None where there are no seconds."""
    if seconds is None:
        yield None
        return
    with Worker(threads=threads, target=target) as worker, closing(ChoiceCache()) as cache:
        yield Tuner(original, seconds, worker, cache, progress)
