"""The least joint loss at a latency: the additive optimum, baselines beside it, learned coefficients, switches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from loopmorph.pipelines.search.joint.baselines import baselines
from loopmorph.pipelines.search.joint.coefficients import Coefficients, fit_coefficients
from loopmorph.pipelines.search.joint.knapsack import Limits, Problem, Selection, is_within, least, solve
from loopmorph.pipelines.search.joint.switches import any_of, offspring
from loopmorph.pipelines.search.joint.trials import Rank, Trial, Trials

_ROUNDS = 16  # of the additive choice, until its variants go together
_TIMINGS = 4  # of these, until a measured time keeps the limit
_CLOSE = 0.98  # of the limit: a measured time that uses it up
_SAMPLES = 12  # choices under sampled coefficients
_TOGETHER = 4  # of these, between which nothing is learned
_OFFSPRING = 8  # of a generation
_SURVIVORS = 2  # that are judged on all images
_PATIENCE = 3  # generations in which nothing improves


@dataclass
class AtLatency:
    """Searches for the choice with the least joint loss that keeps the limits, its time measured.

    The table's times are sums; what they are short of a measured time, as a ratio, is taken off the limit of the next
    choice. Where the measured time is the shorter one, as that of tuned code may be, the limit is raised by as much.

    Attributes:
        trials: judges, and has what was judged before, at other latencies as well.
        limits: of the whole network, with one of milliseconds.
        seed: of what is drawn.
        is_over: whether the time that was given is over; raises `KeyboardInterrupt` where there was an interrupt.
        with_baselines: whether baselines are judged as well.
        additive: the first choice: the optimum of the additive model, with its bound.
        exhausted: whether there was no choice left to try.
    """

    trials: Trials
    limits: Limits
    seed: int
    is_over: Callable[[], bool]
    with_baselines: bool = True
    additive: Selection | None = None
    exhausted: bool = False
    _ratio: float | None = None
    _names: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        """Milliseconds that the network may take."""
        return math.inf if self.limits.milliseconds is None else self.limits.milliseconds

    @property
    def baselines(self) -> Mapping[str, Trial]:
        """The baselines' trials, by name."""
        by_indices = {name: self.trials.of_choice(indices) for name, indices in self._names.items()}
        return {name: trial for name, trial in by_indices.items() if trial is not None}

    def best(self) -> Trial | None:
        """The finished trial with the least joint loss that keeps the limits, its time measured; None without any."""
        return min(filter(self.keeps_limits, self.trials.finished()), key=_order, default=None)

    def run(self) -> None:
        """All of it. What is too much for the time that was given is left out, but for the additive choice and the
        baselines.

        Raises:
            ArgumentError: the limits are out of reach by the table.
        """
        self.settle()
        if self.with_baselines:
            self.judge_baselines()
        self.sample()
        self.switch()

    def settle(self) -> None:
        """The additive optimum, again with another limit of time as long as its measured time is off.

        Raises:
            ArgumentError: the limits are out of reach by the table.
        """
        self.additive = least(self._problem())
        selection: Selection | None = self.additive
        timed: list[Trial] = []
        for _ in range(_ROUNDS):
            trial = None if selection is None else self.trials.assembled(selection, "additive")
            if trial is None or trial in timed:
                break
            if not trial.dropped and not trial.failure:
                trial = self.timed(trial)
                timed += [] if trial.failure else [trial]
                if len(timed) == _TIMINGS or self._uses_up(trial):
                    break
            selection = solve(self._problem())
        fast = [each for each in timed if self._is_fast(each)]
        mildest = min(fast, key=lambda each: each.selection.loss) if fast else min(timed, key=_by_time, default=None)
        if mildest is not None:  # one alone, as judging takes longest of all
            self.trials.judged(mildest, self.trials.last)

    def judge_baselines(self) -> None:
        """Judges and times each baseline like any other choice; one that the network does not admit whole, by what is
        left of it."""
        found = baselines(self._problem(), Random(f"{self.seed} baselines"))
        self.trials.begin([self.trials.assembled(each, name) for name, each in found.items()], self.trials.last)
        for done, (name, selection) in enumerate(found.items(), start=1):
            self.is_over()
            self._names[name] = selection.indices
            trial = self.trials.assembled(selection, name)
            self.trials.judged(trial, self.trials.last, ahead=self.trials.last * (len(found) - done))
        for name, selection in found.items():
            self.is_over()
            self.timed(self.trials.assembled(selection, name))

    def sample(self) -> None:
        """Choices under coefficients drawn around those learned so far, as SPDY has it; then under the latter.

        What is learned from some of them, which are judged together, serves the next.
        """
        generator = Random(f"{self.seed} coefficients")
        for left in range(_SAMPLES, -1, -_TOGETHER):
            learned = self._learned()
            drawn = [learned.sampled(generator) for _ in range(_TOGETHER)] if left else [learned]
            choices = []
            for each in drawn:
                selection = any_of(self._problem(each, self.trials.seen))
                if selection is None:
                    self.exhausted = True
                    break
                if self.is_over():
                    return
                choices.append(selection)
                self.trials.assembled(selection, "coefficients")  # it is seen from now on
            if not self._judges(choices, "coefficients", ahead=left - len(drawn) + 1 if left else 0):
                return
            if self.exhausted:
                break
        self._promote()

    def switch(self) -> None:
        """Generations of switches, until `_PATIENCE` of them improve nothing or there are none left."""
        generator = Random(f"{self.seed} switches")
        idle = 0
        while idle < _PATIENCE and not self.is_over():
            before = self.best()
            parent = before or min(self._open(), key=_order, default=None)
            if parent is None:
                return
            problem = self._problem(excluded=self.trials.seen)
            brood = list(offspring(problem, self._learned(), parent.selection, generator, _OFFSPRING))
            if not self._judges(brood, "switch"):
                return
            self._promote()
            after = self.best()
            improved = after is not None and (before is None or after.kl < before.kl)
            idle = 0 if improved else idle + 1
            if not brood and not improved:
                self.exhausted = any_of(self._problem(excluded=self.trials.seen)) is None
                return

    def _judges(self, choices: Sequence[Selection], origin: str, ahead: int = 0) -> bool:
        """Judges choices on few images, several at once where that can be; returns whether there was time for all.

        Args:
            choices: none depends on what another one comes to.
            origin: where they come from.
            ahead: how many judgements are in sight after these.
        """
        self.trials.begin([self.trials.assembled(each, origin) for each in choices], 0)
        for number, selection in enumerate(choices, start=1):
            if self.is_over():
                return False
            self.trials.judged(self.trials.assembled(selection, origin), 0, ahead=ahead + len(choices) - number)
        return True

    def timed(self, trial: Trial) -> Trial:
        """A trial with its measured time, from which the next limit is made."""
        trial = self.trials.timed(trial)
        if trial.milliseconds is not None and trial.selection.cost.milliseconds > 0:
            ratio = trial.milliseconds / trial.selection.cost.milliseconds
            if self._ratio is None:
                self._ratio = ratio
            elif trial.milliseconds > self.limit and is_within(trial.selection, self._problem().limits):
                self._ratio = max(ratio, self._ratio * trial.milliseconds / self.limit)
        return trial

    def keeps_limits(self, trial: Trial) -> bool:
        """Whether a trial keeps them, its time measured."""
        return self._is_fast(trial) and is_within(trial.selection, replace(self.limits, milliseconds=None))

    def rank(self, trial: Trial) -> Rank:
        """How likely a trial is to be the choice: the best so far, then what may be better once it is timed."""
        if trial == self.best():
            return 0, trial.kl
        if trial.milliseconds is None and not trial.failure and is_within(trial.selection, self._problem().limits):
            return 1, trial.kl
        return 2, _by_time(trial)

    def _problem(self, learned: Coefficients | None = None, excluded: Sequence[frozenset[int]] = ()) -> Problem:
        """What may be chosen now: the limit of time is lowered by what the table has been short of."""
        limits = self.limits if self._ratio is None else replace(self.limits, milliseconds=self.limit / self._ratio)
        losses = None if learned is None else learned.losses(self.trials.table)
        without = (*self.trials.failed, *excluded)
        return Problem(self.trials.table, limits, losses, tuple(self.trials.apart), tuple(dict.fromkeys(without)))

    def _learned(self) -> Coefficients:
        return fit_coefficients(self.trials.table, self.trials.observations())

    def _promote(self) -> None:
        """Judges on all images those of which few images say that they may be better than the best."""
        while not self.is_over():
            best = self.best()
            least_so_far = math.inf if best is None else best.losses[0].kl
            waiting = [each for each in self._open() if each.losses[0].kl < least_so_far]
            if not waiting:
                return
            survivors = sorted(waiting, key=_order)[:_SURVIVORS]
            self.trials.begin(survivors, self.trials.last)
            for trial in [self.trials.judged(each, self.trials.last) for each in survivors]:
                if not trial.failure and (best is None or trial.kl < best.kl):
                    self.timed(trial)

    def _open(self) -> list[Trial]:
        """Trials that are not finished, and may keep the limits as far as is known."""
        allowed = self._problem().limits
        trials = [each for each in self.trials.all if each.losses and not each.failure and each.milliseconds is None]
        unfinished = [each for each in trials if len(each.losses) <= self.trials.last or self.trials.last == 0]
        return [each for each in unfinished if is_within(each.selection, allowed)]

    def _uses_up(self, trial: Trial) -> bool:
        return self._is_fast(trial) and (trial.milliseconds or 0.0) >= _CLOSE * self.limit

    def _is_fast(self, trial: Trial) -> bool:
        return trial.milliseconds is not None and trial.milliseconds <= self.limit


def _order(trial: Trial) -> tuple[float, float]:
    return trial.kl, math.inf if trial.milliseconds is None else trial.milliseconds


def _by_time(trial: Trial) -> float:
    return math.inf if trial.milliseconds is None else trial.milliseconds
