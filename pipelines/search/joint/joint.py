"""One choice over all layers: proposed by the additive model, decided by assembled, repaired, timed networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import Step
from loopmorph.pipelines.legality.predicted_loss import Fitted
from loopmorph.pipelines.search.joint.at_latency import AtLatency
from loopmorph.pipelines.search.joint.knapsack import Limits, Problem, Selection, selection_of
from loopmorph.pipelines.search.joint.trials import Trial, Trials
from loopmorph.pipelines.search.joint.truth import Truth
from loopmorph.pipelines.search.joint.within_loss import WithinLoss
from loopmorph.pipelines.search.variants.table import VariantTable
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.numbers import check_seed
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.tuning.tune import check_seconds


@dataclass(frozen=True)
class JointChoice:
    """What was chosen, and all that was tried.

    Attributes:
        trial: the choice.
        limits: that it was to keep; where only a loss of accuracy was, its milliseconds are those that it was found at.
        additive: the optimum of the additive model within these, and how far that is proved (`bound`, `gap`).
        baselines: name -> what became of each baseline, judged like the rest.
        trials: every network that was assembled, in order; of several latencies that were asked for on the same
            trials, those before this one's as well.
        reached: whether the choice keeps the limits, its time measured.
        exhausted: whether every choice within the limits was tried, so that there is nothing better.
        interrupted: whether a keyboard interrupt ended it.
        fitted: the weights that the choice was judged with on all images; None where they were not kept.
    """

    trial: Trial
    limits: Limits
    additive: Selection
    baselines: Mapping[str, Trial]
    trials: tuple[Trial, ...]
    reached: bool
    exhausted: bool = False
    interrupted: bool = False
    fitted: Fitted | None = field(default=None, repr=False, compare=False)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The transformations of the choice, in order."""
        return self.trial.steps


def choose_jointly(
    table: VariantTable,
    truth: Truth,
    limits: Limits,
    *,
    max_loss: float | None = None,
    seed: int = 0,
    seconds: float | None = None,
    progress: Progress = silent,
    trials: Trials | None = None,
    with_baselines: bool = True,
) -> JointChoice:
    """The variants that make the best network together.

    With a limit of milliseconds: the network with the least joint loss that keeps it, by its measured time. Without:
    the fastest network that is predicted to lose no more than `max_loss` points.

    The additive model proposes (see `knapsack`), and its optimum is proved; coefficients of layers are learned from
    what assembled networks lose (see `coefficients`), and switches at constant latency are judged by it (see
    `switches`). Uniform bottlenecks and groups, a greedy and a random choice at the same latency are judged like the
    rest: the result is the best of all. The same seed, table and truth give the same sequence of trials.

    Args:
        table: the variants.
        truth: judges assembled networks.
        limits: of the whole network.
        max_loss: points of accuracy, for a choice without a limit of milliseconds.
        seed: of the random choices.
        seconds: after which nothing new is begun but the additive choice and the baselines; None for as long as
            something improves. It decides where the sequence ends, and nothing else.
        progress: called with "judge", judgements so far and those in sight, and with "front".
        trials: of an earlier choice from the same table and truth, not to be judged again.
        with_baselines: whether to judge baselines as well, which takes as long as so many more networks do.

    Raises:
        ArgumentError: limits that are out of reach by the table (says what is in reach), neither milliseconds nor a
            loss, a budget that is not positive.
    """
    limits.check()
    check_seed(seed)
    if seconds is not None:
        check_seconds(seconds, "seconds")
    if limits.milliseconds is None and max_loss is None:
        raise ArgumentError("limits", "neither a latency nor a loss was given; one of them is needed")
    ledger = Trials(table, truth) if trials is None else trials
    ledger.tell = progress
    deadline = _Deadline(math.inf if seconds is None else time.monotonic() + seconds)
    try:
        if limits.milliseconds is not None:
            return _at_latency(AtLatency(ledger, limits, seed, deadline, with_baselines), deadline)
        within = WithinLoss(ledger, limits, max_loss or 0.0, seed, deadline, with_baselines, progress)
        return _within_loss(within, deadline)
    finally:
        truth.drop()


def _unasked() -> None:
    """There was no interrupt."""


@dataclass
class _Deadline:
    """Says whether it has passed; raises `KeyboardInterrupt` where there was an interrupt."""

    end: float
    check: Callable[[], None] = _unasked

    def __call__(self) -> bool:
        self.check()
        return time.monotonic() >= self.end


def _is_interrupted(run: Callable[[], None], deadline: _Deadline) -> bool:
    """Runs a search; returns whether an interrupt has ended it, wherever it came."""
    try:
        with noted_interrupts() as deadline.check:
            run()
    except KeyboardInterrupt:
        return True
    return False


def _at_latency(search: AtLatency, deadline: _Deadline) -> JointChoice:
    search.trials.rank = search.rank
    interrupted = _is_interrupted(search.run, deadline)
    if search.additive is None:
        raise KeyboardInterrupt  # before there was anything to choose
    best, known = search.best(), (search.baselines, search.trials.all)
    reached, exhausted = best is not None, search.exhausted
    chosen = best or _next_best(search)
    fitted = search.trials.fitted(chosen)
    return JointChoice(chosen, search.limits, search.additive, *known, reached, exhausted, interrupted, fitted)


def _within_loss(search: WithinLoss, deadline: _Deadline) -> JointChoice:
    search.trials.rank = search.rank
    interrupted = _is_interrupted(search.run, deadline)
    best, known = search.best(), (search.baselines, search.trials.all)
    limits = replace(search.limits, milliseconds=None if best is None else best.milliseconds)
    nothing = _nothing(search.trials)
    chosen, additive = best or nothing, search.additive or nothing.selection
    fitted = search.trials.fitted(chosen)
    return JointChoice(chosen, limits, additive, *known, reached=True, interrupted=interrupted, fitted=fitted)


def _next_best(search: AtLatency) -> Trial:
    """Where no network was seen to keep the limits: the fastest that was judged whole; else what is known best."""
    finished = search.trials.finished()
    if finished:
        return min(finished, key=lambda each: each.milliseconds or 0.0)
    able = [each for each in search.trials.all if not each.failure]
    return min(able, key=lambda each: (-len(each.losses), each.kl), default=_nothing(search.trials))


def _nothing(trials: Trials) -> Trial:
    """The network as it is."""
    return Trial("original", selection_of(Problem(trials.table), ()), ())
