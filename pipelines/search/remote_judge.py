"""A judge in a process of its own: a crash of MLIR or PyTorch, or a hang, costs one candidate and not the search."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cloudpickle

from loopmorph.passes.errors import CompilationFailed, LoopmorphError, LoopmorphWarning
from loopmorph.passes.history import Step
from loopmorph.pipelines.legality.predicted_loss import Fitted, Judged
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.search.judge import Judge, LayerTime
from loopmorph.pipelines.search.judge_setup import JudgeSetup, local_judge
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.verdict import FAILED, Verdict
from loopmorph.pipelines.support.service import Service, ServiceEnded, ServiceTimedOut

_MAIN = "loopmorph.pipelines.search.judge_main"
_LIMIT = 1800.0  # seconds of wall time for one request; the largest networks take minutes to score


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
        self._service: Service | None = Service(_MAIN, whole_path=True)
        self._content = b""

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
        try:
            self._content = cloudpickle.dumps(setup)
            self._exchange("set_up", self._content)
        except (ServiceEnded, ServiceTimedOut, *_UNPICKLABLE) as error:
            raise NotPossible(" ".join(str(error).split())[:200]) from error

    def close(self) -> None:
        """Ends the process."""
        service, self._service = self._service, None
        if service is not None:
            service.stop()

    def draw(self, layer: str, generator: random.Random) -> Candidate:
        try:
            candidate, state = self._ask("draw", layer, generator.getstate())
        except CompilationFailed as error:
            warnings.warn(f"no candidate for layer '{layer}' could be drawn: {error}", LoopmorphWarning, stacklevel=2)
            generator.random()  # another one next time
            return Candidate(layer, None, ())
        generator.setstate(state)
        return candidate

    def judge(self, candidate: Candidate) -> Verdict:
        try:
            return self._ask("judge", candidate)
        except CompilationFailed as error:
            return Verdict(tuple(map(str, candidate.steps)), FAILED, str(error))

    def score(self, steps: Sequence[Step]) -> Score | None:
        return self._ask("score", tuple(steps))

    def is_legal(self, steps: Sequence[Step]) -> bool:
        return self._ask("is_legal", tuple(steps))

    def fitted(self, steps: Sequence[Step]) -> Fitted | None:
        try:
            return self._ask("fitted", tuple(steps))
        except CompilationFailed:  # what the process kept is lost with it
            return None

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        return self._ask("is_applicable", tuple(steps))

    def compare(self, steps: Sequence[Step], share: float = 1.0) -> Judged:
        return self._ask("compare", tuple(steps), share)

    def network_time(self, steps: Sequence[Step], baseline: Sequence[Step] = ()) -> PairTime:
        return self._ask("network_time", tuple(steps), tuple(baseline))

    def layer_times(self, steps: Sequence[Step]) -> list[LayerTime]:
        return self._ask("layer_times", tuple(steps))

    def check_network(self, steps: Sequence[Step]) -> float:
        return self._ask("check_network", tuple(steps))

    def _ask(self, *request: Any) -> Any:
        """The reply to a request.

        Raises:
            LoopmorphError: what the judge raised.
            CompilationFailed: the process ended, or did not reply in time.
        """
        try:
            if self._service is None:
                self._service = Service(_MAIN, whole_path=True)
                self._exchange("set_up", self._content)
            return self._exchange(*request)
        except ServiceTimedOut:
            self.close()
            raise CompilationFailed(f"the process that judges was killed after {_LIMIT:g} s") from None
        except ServiceEnded as error:
            self.close()
            raise CompilationFailed(f"the process that judges {error}") from error
        except LoopmorphError:
            raise
        except BaseException:  # an interrupted exchange would leave half a message in the pipe
            self.close()
            raise

    def _exchange(self, *request: Any) -> Any:
        assert self._service is not None
        reply = self._service.ask(request, _LIMIT, _warn)
        if isinstance(reply, LoopmorphError):
            raise reply
        return reply


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


def _warn(told: tuple[type[Warning], str]) -> None:
    category, text = told
    warnings.warn(text, category, stacklevel=2)
