"""A judge in a process of its own: a crash of MLIR or PyTorch, or a hang, costs one candidate and not the search."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cloudpickle

from loopmorph.passes.errors import CompilationFailed, LoopmorphWarning, one_line
from loopmorph.passes.history import Step
from loopmorph.pipelines.legality.predicted_loss import Fitted, Judged
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.measure.profile import Profile
from loopmorph.pipelines.search.judge import Judge, LayerTime
from loopmorph.pipelines.search.judge_process import JudgeProcess
from loopmorph.pipelines.search.judge_setup import JudgeSetup, local_judge
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.verdict import FAILED, Verdict
from loopmorph.pipelines.support.service import ServiceEnded, ServiceTimedOut

if TYPE_CHECKING:
    from loopmorph.pipelines.search.variants.harm_job import Harmed
    from loopmorph.pipelines.search.variants.kinds import Proposal

_LONGEST = 200  # characters of a reason
_UNPICKLABLE = (pickle.PicklingError, TypeError, AttributeError, RuntimeError, ValueError)


class NotPossible(Exception):
    """A network cannot be judged in another process; says why."""


class NotIsolatedWarning(LoopmorphWarning):
    """Candidates are judged in the process of the search; the text says why."""


class RemoteJudge:
    """A `Judge` whose work another process does; one that is started again after each request that ended it.

    A context manager. The process starts, and loads what it needs, as soon as this object is made.
    """

    def __init__(self) -> None:
        self._process = JudgeProcess()

    def __enter__(self) -> RemoteJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_up(self, setup: JudgeSetup) -> None:
        """Tells the process what to judge; comes before all else.

        Raises:
            NotPossible: the network cannot be sent there, or the process ends over it.
            LoopmorphError: the network cannot be imported there.
        """
        content = packed(setup)
        try:
            self._process.set_up(content)
        except (ServiceEnded, ServiceTimedOut) as error:
            raise NotPossible(one_line(str(error))[:_LONGEST]) from error

    def close(self) -> None:
        """Ends the process."""
        self._process.close()

    def draw(self, layer: str, generator: random.Random) -> Candidate:
        try:
            candidate, state = self._process.ask("draw", layer, generator.getstate())
        except CompilationFailed as error:
            warnings.warn(f"no candidate for layer '{layer}' could be drawn: {error}", LoopmorphWarning, stacklevel=2)
            generator.random()  # another one next time
            return Candidate(layer, None, ())
        generator.setstate(state)
        return candidate

    def judge(self, candidate: Candidate) -> Verdict:
        return self._verdict(candidate, "judge")

    def admit(self, candidate: Candidate) -> Verdict:
        return self._verdict(candidate, "admit")

    def measure(self, candidate: Candidate, admitted: Verdict) -> Verdict:
        return self._verdict(candidate, "measure", admitted)

    def score(self, steps: Sequence[Step]) -> Score | None:
        return self._process.ask("score", tuple(steps))

    def score_of_original(self) -> Score | None:
        return self._process.ask("score_of_original")

    def is_legal(self, steps: Sequence[Step]) -> bool:
        return self._process.ask("is_legal", tuple(steps))

    def fitted(self, steps: Sequence[Step]) -> Fitted | None:
        try:
            return self._process.ask("fitted", tuple(steps))
        except CompilationFailed:  # what the process kept is lost with it
            return None

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        return self._process.ask("is_applicable", tuple(steps))

    def compare(self, steps: Sequence[Step], share: float = 1.0) -> Judged:
        return self._process.ask("compare", tuple(steps), share)

    def network_time(self, steps: Sequence[Step], baseline: Sequence[Step] = ()) -> PairTime:
        return self._process.ask("network_time", tuple(steps), tuple(baseline))

    def profile(self) -> Profile:
        return self._process.ask("profile")

    def layer_times(self, steps: Sequence[Step]) -> list[LayerTime]:
        return self._process.ask("layer_times", tuple(steps))

    def harm(self, group: Sequence[Proposal]) -> list[Harmed]:
        return self._process.ask("harm", tuple(group))

    def check_network(self, steps: Sequence[Step]) -> float:
        return self._process.ask("check_network", tuple(steps))

    def _verdict(self, candidate: Candidate, name: str, *more: Verdict) -> Verdict:
        try:
            return self._process.ask(name, candidate, *more)
        except CompilationFailed as error:
            return Verdict(tuple(map(str, candidate.steps)), FAILED, str(error))


def packed(setup: JudgeSetup) -> bytes:
    """A set-up as it is sent to other processes, which run what it holds.

    Raises:
        NotPossible: the network cannot be sent.
    """
    try:
        return cloudpickle.dumps(setup)
    except _UNPICKLABLE as error:
        raise NotPossible(one_line(str(error))[:_LONGEST]) from error


@contextmanager
def ready(remote: RemoteJudge, setup: JudgeSetup) -> Iterator[Judge]:
    """The judge, set up; or one in this process, with a warning, where the network cannot be sent to another."""
    try:
        remote.set_up(setup)
    except NotPossible as error:
        remote.close()
        text = f"candidates are judged in this process, which a crash of MLIR would end: {error}"
        warnings.warn(text, NotIsolatedWarning, stacklevel=3)
        with local_judge(setup) as local:
            yield local
    else:
        yield remote
