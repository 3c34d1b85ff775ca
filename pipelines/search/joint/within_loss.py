"""The fastest network that is predicted to lose no more accuracy than is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from loopmorph.pipelines.search.joint.at_latency import AtLatency
from loopmorph.pipelines.search.joint.knapsack import Limits, Problem, Selection, is_within
from loopmorph.pipelines.search.joint.pareto import front
from loopmorph.pipelines.search.joint.trials import Rank, Trial, Trials
from loopmorph.pipelines.support.progress import Progress, silent

_POINTS = 24  # latencies between the original's and the least


@dataclass
class WithinLoss:
    """Looks along the additive front for the last legal choice, by bisection, and from there goes on at the next
    latencies, as `AtLatency` does, as long as a legal network is found.

    Attributes:
        trials: judges.
        limits: of the whole network, without milliseconds.
        max_loss: points of accuracy: the upper end of what a legal network is predicted to lose.
        seed, is_over, with_baselines: see `AtLatency`.
        tell: called with "front" while that is made.
        additive: the choice of the front that the result started from.
        baselines: at the latency of the result, by name.
    """

    trials: Trials
    limits: Limits
    max_loss: float
    seed: int
    is_over: Callable[[], bool]
    with_baselines: bool = True
    tell: Progress = silent
    additive: Selection | None = None
    baselines: Mapping[str, Trial] = field(default_factory=dict)

    def best(self) -> Trial | None:
        """The fastest legal trial, its time measured; None without any."""
        legal = [each for each in self.trials.finished() if self._is_legal(each)]
        return min(legal, key=lambda each: (each.milliseconds or 0.0, each.kl), default=None)

    def rank(self, trial: Trial) -> Rank:
        """How likely a trial is to be the choice: the best so far, then those that are legal and not timed yet."""
        if trial == self.best():
            return 0, trial.kl
        milliseconds = trial.selection.cost.milliseconds
        return (1 if trial.milliseconds is None and self._is_legal(trial) else 2), milliseconds

    def run(self) -> None:
        """All of it; baselines at the latency that was found come last, whatever time was given.

        Raises:
            ArgumentError: the limits are out of reach by the table.
        """
        points = front(Problem(self.trials.table, self.limits), _POINTS, self.tell)
        reached = self._last_legal(points)
        for point in points[reached + 1 :]:
            if self.is_over() or not self._improves(point):
                break
        best = self.best()
        if best is not None and self.with_baselines:
            search = self._at(best.milliseconds or best.selection.cost.milliseconds)
            search.timed(best)
            search.judge_baselines()
            self.baselines = search.baselines

    def _last_legal(self, points: tuple[Selection, ...]) -> int:
        """The position of the fastest choice of the front that is legal, and timed; -1 where none is."""
        low, high = -1, len(points)
        while high - low > 1:
            self.is_over()
            middle = (low + high) // 2
            trial = self.trials.assembled(points[middle], "additive")
            if self._is_legal(self.trials.judged(trial, self.trials.last, ahead=(high - low) // 2)):
                low = middle
            else:
                high = middle
        if low >= 0:
            self.additive = points[low]
            self.trials.timed(self.trials.assembled(points[low], "additive"))
        return low

    def _improves(self, point: Selection) -> bool:
        """Whether there is a legal network at the latency of a choice of the front; searches until the first one."""
        search = self._at(point.cost.milliseconds)
        for stage in (search.settle, search.sample, search.switch):
            stage()
            if any(self._is_legal(each) for each in self.trials.finished() if search.keeps_limits(each)):
                self.additive = search.additive
                return True
        return False

    def _at(self, milliseconds: float) -> AtLatency:
        limits = replace(self.limits, milliseconds=milliseconds)
        return AtLatency(self.trials, limits, self.seed, self.is_over)

    def _is_legal(self, trial: Trial) -> bool:
        whole = trial.is_whole(self.trials.truth.levels)
        return whole and trial.losses[-1].high <= self.max_loss and is_within(trial.selection, self.limits)
