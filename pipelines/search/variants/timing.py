"""The times of variants: measured in a process of their own, once for each pattern, unless they cannot win."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.variants.kinds import Proposal
from loopmorph.pipelines.search.variants.time_job import Timed, VariantTimeJob
from loopmorph.pipelines.search.variants.together import Structure
from loopmorph.pipelines.search.verdict import WORTHWHILE
from loopmorph.pipelines.search.workers.dispatcher import Dispatcher

T = TypeVar("T")


@dataclass(frozen=True)
class OriginalTime:
    """The time of the original network.

    Attributes:
        milliseconds: of one call.
        layers: layer -> the share of these that it takes within the network.
    """

    milliseconds: float
    layers: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """The times as JSON can hold them; `from_json` reads them."""
        return {"milliseconds": self.milliseconds, "layers": dict(self.layers)}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> OriginalTime:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is something else.
        """
        layers = {str(name): float(value) for name, value in content["layers"].items()}
        return OriginalTime(float(content["milliseconds"]), layers)


@dataclass
class LayerClock:
    """What the layers of the original take, and how fast code can be at most: learned from what is measured.

    Alone a layer takes another time than within its network; so of a variant's times only the ratio counts, and what it
    is a ratio of is what the layer takes within the network. Where that is not known, as where a layer runs in turns
    with others, it is what equal layers take alone.

    Attributes:
        texts: layer -> a text that equal layers share.
        roof: multiply-accumulates in a millisecond that the processor can do at most, as measured.
    """

    texts: Mapping[str, str]
    roof: float
    _within: Mapping[str, float] = field(default_factory=dict)
    _before: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def know(self, original: OriginalTime) -> None:
        """Takes in what the layers take within the network, which sum up to its time."""
        self._within = {name: share * original.milliseconds for name, share in original.layers.items()}

    def learn(self, timed: Timed) -> None:
        """Takes in what was measured.

        An algorithm with fewer multiplications than the layer has (Winograd's) is faster than the measured roof.
        """
        for each in timed.layers:
            self._before[self.texts[each.name]].append(each.ms_before)
            for macs, ms in ((each.macs_before, each.ms_before), (each.macs_after, each.ms_after)):
                self.roof = max(self.roof, macs / ms if ms else 0.0)  # a layer that is gone takes no time

    def original(self, layer: str) -> float | None:
        """The milliseconds of a layer within the original, or the median of those of equal ones alone; None where none
        was timed.
        """
        if layer in self._within:
            return self._within[layer]
        samples = self._before.get(self.texts[layer])
        return statistics.median(samples) if samples else None

    def cannot_win(self, structure: Structure) -> bool:
        """Whether a variant, at the roof, would still take longer than what it replaces took."""
        before = [self.original(layer) for layer, (macs, _) in structure.macs.items() if macs]
        known = [each for each in before if each is not None]
        least = sum(macs for _, macs in structure.macs.values()) / self.roof
        return len(known) == len(before) and least >= WORTHWHILE * sum(known)

    def change(self, timed: Timed) -> float:
        """By how many milliseconds a variant changes the network's time.

        The ratio within each pair, which the machine's drift leaves alone, times what the layer usually takes.
        """
        changes = []
        for each in timed.layers:
            usual = self.original(each.name)
            changes.append((each.ms_before if usual is None else usual) * (each.ms_after / each.ms_before - 1))
        return sum(changes)


class Timer:
    """Times one thing after the other, in the background where that disturbs nobody. A context manager.

    Args:
        judge: what measures; asked for when it is needed first.
        clock: says what cannot win, and learns.
        background: whether to measure while the caller does something else.
        workers: measure variants instead; the original is timed before they begin.
    """

    def __init__(
        self, judge: Callable[[], Judge], clock: LayerClock, background: bool, workers: Dispatcher | None = None
    ) -> None:
        self._judge, self._clock, self._workers = judge, clock, workers
        self._pool = ThreadPoolExecutor(1) if background and workers is None else None
        self._asked: list[Future[Any]] = []

    def __enter__(self) -> Timer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def is_idle(self) -> bool:
        """Whether all that was asked for has been measured."""
        return all(future.done() for future in self._asked)

    def cancel(self) -> None:
        """Begins nothing more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def original(self, keep: Callable[[OriginalTime], None]) -> Future[OriginalTime]:
        """The time to come of the original network.

        Args:
            keep: called with it as soon as it is there.
        """

        def measure() -> OriginalTime:
            pair, within = self._judge().network_time(()), self._judge().profile()
            layers = {name: seconds / within.total for name, seconds in within.seconds.items()}
            time = OriginalTime(1e3 * statistics.mean((pair.original, pair.rewritten)), layers)
            self._clock.know(time)
            keep(time)
            return time

        return self._submit(measure)

    def variant(self, proposal: Proposal, structure: Structure, keep: Callable[[Timed], None]) -> Future[Timed]:
        """The times to come of a variant.

        Args:
            proposal: the variant.
            structure: what it changes.
            keep: called with its times as soon as they are there, unless they would be others the next time.
        """
        job = VariantTimeJob(proposal.text, tuple(self._clock.texts))

        def known() -> Timed | None:
            if not self._clock.cannot_win(structure):
                return None
            return Timed(refused="its arithmetic alone would take as long as what it replaces")

        def learn(timed: Timed) -> None:
            self._clock.learn(timed)
            if timed.final:
                keep(timed)

        def measure() -> Timed:
            timed = known() or job.perform(self._judge())
            learn(timed)
            return timed

        return self._submit(measure) if self._workers is None else self._noted(self._workers.ask(job, known, learn))

    def _submit(self, measure: Callable[[], T]) -> Future[T]:
        return self._noted(self._pool.submit(measure) if self._pool is not None else done(measure()))

    def _noted(self, future: Future[T]) -> Future[T]:
        self._asked.append(future)
        return future


def done(value: T) -> Future[T]:
    """What is known already, as something to come."""
    future: Future[T] = Future()
    future.set_result(value)
    return future
