"""The trials of a joint choice: what was assembled, and what it came to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from loopmorph.passes.errors import LoopmorphError, WrongResult
from loopmorph.passes.history import Step, pipeline_text
from loopmorph.pipelines.legality.predicted_loss import Fitted
from loopmorph.pipelines.search.joint.assembly import Assembly, assemble
from loopmorph.pipelines.search.joint.coefficients import Observation
from loopmorph.pipelines.search.joint.joint_loss import JointLoss
from loopmorph.pipelines.search.joint.knapsack import Problem, Selection, selection_of
from loopmorph.pipelines.search.joint.truth import Truth
from loopmorph.pipelines.search.judge import MiscompiledWarning
from loopmorph.pipelines.search.variants.table import VariantTable
from loopmorph.pipelines.support.progress import Progress, silent

_HELD = 2  # networks: the best one, and one that may yet be better; of a large one the weights are 100 MB

Rank = tuple[int, float]  # the least comes first


@dataclass(frozen=True)
class Trial:
    """An assembled network and what was measured of it.

    Attributes:
        origin: where it came from: "additive", "coefficients", "switch", or a baseline's name.
        selection: the variants that it is made of, with their summed loss and their cost, both by the table alone.
        steps: the transformations.
        dropped: variants, as positions in the table, that the network did not admit after the others.
        losses: what it has lost, measured at each level so far.
        milliseconds: of the whole network, measured; None where it was not.
        failure: why it could not be judged; empty where it could.
    """

    origin: str
    selection: Selection
    steps: tuple[Step, ...]
    dropped: tuple[int, ...] = ()
    losses: tuple[JointLoss, ...] = ()
    milliseconds: float | None = None
    failure: str = ""

    @property
    def kl(self) -> float:
        """The joint loss at the highest level so far; infinite where there is none."""
        return self.losses[-1].kl if self.losses else math.inf

    def is_whole(self, levels: int) -> bool:
        """Whether it was judged at all of so many levels, and has not failed."""
        return len(self.losses) == levels and not self.failure


def _by_kl(trial: Trial) -> Rank:
    return 0, trial.kl


@dataclass
class Trials:
    """Judges choices and keeps what came of them, each network once.

    The weights that a network was judged with on all images are kept of the two that come first by `rank`: a result
    need not be fitted again, whatever has become of the process that judges.

    Attributes:
        table: the variants.
        truth: judges.
        tell: called with "judge", the number of judgements so far and of those in sight.
        rank: how likely a trial is to be the choice, the likeliest first.
        apart: sets of variants that were found not to go together.
    """

    table: VariantTable
    truth: Truth
    tell: Progress = silent
    rank: Callable[[Trial], Rank] = _by_kl
    apart: list[frozenset[int]] = field(default_factory=list)
    _of_choice: dict[tuple[int, ...], str] = field(default_factory=dict)
    _of_steps: dict[str, Trial] = field(default_factory=dict)
    _held: dict[str, Fitted] = field(default_factory=dict)
    _judgements: int = 0

    @property
    def last(self) -> int:
        """The last level, on all images."""
        return self.truth.levels - 1

    @property
    def all(self) -> tuple[Trial, ...]:
        """The trials, in the order in which they were begun."""
        return tuple(self._of_steps.values())

    @property
    def seen(self) -> tuple[frozenset[int], ...]:
        """The choices that were tried."""
        return tuple(frozenset(indices) for indices in self._of_choice)

    @property
    def failed(self) -> tuple[frozenset[int], ...]:
        """The choices of which no network could be judged."""
        choices = self._of_choice.items()
        return tuple(frozenset(indices) for indices, key in choices if self._of_steps[key].failure)

    def of_choice(self, indices: tuple[int, ...]) -> Trial | None:
        """What came of a choice, given as positions in the table; None where it was not tried."""
        return self._of_steps[self._of_choice[indices]] if indices in self._of_choice else None

    def assembled(self, selection: Selection, origin: str) -> Trial:
        """A choice as a network, not judged unless it was before."""
        if selection.indices not in self._of_choice:
            try:
                made = assemble(self.table, selection.indices, self.truth.is_applicable)
            except LoopmorphError as error:
                made = Assembly((), (), selection.indices)
                self._note(selection, Trial(origin, selection, (), failure=str(error)), f"{selection.indices}")
            else:
                self.apart += [each for each in made.apart if each not in self.apart]
                left = selection_of(Problem(self.table), made.kept)
                self._note(selection, Trial(origin, left, made.steps, made.dropped), pipeline_text(made.steps))
        return self._of_steps[self._of_choice[selection.indices]]

    def begin(self, trials: Sequence[Trial], level: int) -> None:
        """Tells which trials will be judged next, up to a level, so that several are judged at once where that can be.

        What comes of it does not depend on that.
        """
        ahead = [each for each in trials if not each.failure]
        self.truth.begin([(each.steps, k) for each in ahead for k in range(len(each.losses), level + 1)])

    def judged(self, trial: Trial, level: int, ahead: int = 0) -> Trial:
        """A trial with its joint loss at all levels up to one.

        Args:
            trial: of these.
            level: the last level.
            ahead: how many judgements are in sight after this one.
        """
        while len(trial.losses) <= level and not trial.failure:
            self._told(ahead + level - len(trial.losses))
            try:
                trial = replace(trial, losses=(*trial.losses, self.truth.loss(trial.steps, len(trial.losses))))
            except LoopmorphError as error:
                trial = replace(trial, failure=str(error))
            self._keep(trial)
            if trial.is_whole(self.truth.levels):
                self._hold(trial)
        return trial

    def fitted(self, trial: Trial) -> Fitted | None:
        """The weights that a trial was judged with on all images; None where they are not kept."""
        return self._held.get(pipeline_text(trial.steps))

    def timed(self, trial: Trial) -> Trial:
        """A trial with its measured time."""
        if trial.milliseconds is None and not trial.failure:
            try:
                trial = replace(trial, milliseconds=self.truth.milliseconds(trial.steps))
            except WrongResult as error:
                warnings.warn(f"{error} (after {pipeline_text(trial.steps)})", MiscompiledWarning, stacklevel=2)
                trial = replace(trial, failure=str(error))
            except LoopmorphError as error:
                trial = replace(trial, failure=str(error))
            self._keep(trial)
        return trial

    def observations(self) -> list[Observation]:
        """What is known of joint losses at the first level, which all trials have."""
        return [Observation(each.selection.indices, each.losses[0].kl) for each in self.all if each.losses]

    def finished(self) -> list[Trial]:
        """The trials with a joint loss at the last level and a measured time."""
        levels = self.truth.levels
        return [each for each in self.all if each.is_whole(levels) and each.milliseconds is not None]

    def _note(self, selection: Selection, trial: Trial, key: str) -> None:
        self._of_choice[selection.indices] = key
        self._of_steps.setdefault(key, trial)

    def _keep(self, trial: Trial) -> None:
        self._of_steps[pipeline_text(trial.steps)] = trial

    def _hold(self, trial: Trial) -> None:
        """Keeps the weights of a trial that was judged just now, if it is among the first."""
        key = pipeline_text(trial.steps)
        first = sorted((*self._held, key), key=lambda each: self.rank(self._of_steps[each]))[:_HELD]
        fitted = self.truth.fitted(trial.steps) if key in first else None
        if fitted is not None:
            self._held[key] = fitted
            self._held = {each: self._held[each] for each in first}

    def _told(self, ahead: int) -> None:
        self._judgements += 1
        self.tell("judge", self._judgements, self._judgements + ahead)
