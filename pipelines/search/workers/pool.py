"""A transport over places: processes, here or elsewhere, that each do one job at a time."""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from loopmorph.passes.errors import CompilationFailed, LoopmorphWarning
from loopmorph.pipelines.search.workers.job import Job, Nonsense, job_text, parse_reply
from loopmorph.pipelines.search.workers.job_process import JobProcess
from loopmorph.pipelines.support.foreign import describe

_LOOK = 0.2  # seconds between two looks at the places
_PATIENCE = 5.0  # seconds for a thread to see that its process was ended
_ATTEMPTS = 3  # at a job, each at another place where there is one


class LostWorkerWarning(LoopmorphWarning):
    """A worker is gone, hangs or sends nonsense; the text says which one and why. Its job is done elsewhere."""


@dataclass(frozen=True)
class Lost:
    """What comes in the place of a reply that will not come; says why."""

    reason: str


Outcome: TypeAlias = str | Lost  # a reply, or none
Done: TypeAlias = Callable[[Outcome], None]


class Place(Protocol):
    """Somewhere where one job at a time is done.

    Attributes:
        name: for messages.
        may_time: whether it has the processor that times are to be of.
    """

    @property
    def name(self) -> str: ...

    @property
    def may_time(self) -> bool: ...

    def begin(self, job: Job[Any], done: Done) -> None:
        """Begins a job; `done` is called, by whatever thread, when it has ended."""
        ...

    def lost(self) -> str:
        """Why the job that was begun will not end; empty as long as it may."""
        ...

    def close(self) -> None:
        """Ends it; a job that was begun is dropped."""
        ...


class LocalPlace:
    """A process of this computer."""

    def __init__(self, content: bytes, name: str = "this computer", may_time: bool = True) -> None:
        """Args:
        content: the set-up of the judge, `packed`.
        name: for messages.
        may_time: whether it gets what is timed, which others on this computer may disturb.
        """
        self.name, self.may_time = name, may_time
        self._judge = JobProcess(content)
        self._thread: threading.Thread | None = None

    def begin(self, job: Job[Any], done: Done) -> None:
        self._thread = threading.Thread(target=self._work, args=(job, done), daemon=True)
        self._thread.start()

    def lost(self) -> str:
        return ""  # the judge kills what hangs, and says so

    def close(self) -> None:
        self._judge.close()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _work(self, job: Job[Any], done: Done) -> None:
        try:
            outcome: Outcome = self._judge.reply(job_text(job))
        except Exception as error:  # the process cannot be set up, or was closed
            outcome = Lost(describe(error))
        done(outcome)


class Pool:
    """A `Transport` over places. What is lost with one is done at another one, up to three times in all."""

    def __init__(self, places: Sequence[Place] = ()) -> None:
        """Args:
        places: where jobs are done.
        """
        self.places: list[Place] = list(places)
        self._busy: dict[Place, Job[Any]] = {}
        self._again: list[Job[Any]] = []
        self._attempts: dict[str, int] = {}  # at jobs that were lost with a place
        self._outcomes: queue.SimpleQueue[tuple[Place, Job[Any], Outcome]] = queue.SimpleQueue()

    def submit(self, job: Job[Any]) -> bool:
        return not self._again and self._begin(job)

    def collect(self) -> tuple[Any, Any]:
        while (found := self.poll()) is None:
            pass
        return found

    def poll(self, patience: float = _LOOK) -> tuple[Any, Any] | None:
        """The next job that ends, with its result; None where none does within so many seconds, or one is lost.

        Raises:
            CompilationFailed: no job can be done any more.
        """
        for job in self._again:
            if self._attempts[job_text(job)] >= _ATTEMPTS:
                self._again.remove(job)
                return job, job.failed(f"{_ATTEMPTS} workers were lost over it")
        self._begin_again()
        if not self._busy:
            self.look_after()
            self._begin_again()
        if not self._busy:
            raise CompilationFailed("no worker is left that could do what is asked for")
        try:
            place, job, outcome = self._outcomes.get(timeout=patience)
        except queue.Empty:
            self.look_after()
            return None
        if self._busy.get(place) is not job:
            return None  # it was given up meanwhile
        result = self._taken(place, job, outcome)
        return None if result is None else (job, result)

    def close(self) -> None:
        for place in self.places:
            place.close()
        self.places, self._busy = [], {}

    def look_after(self) -> None:
        """Gives up the places whose jobs will not end; called as long as nothing ends."""
        for place, _ in list(self._busy.items()):
            reason = place.lost()
            if reason:
                self.give_up(place, reason)

    def give_up(self, place: Place, reason: str) -> None:
        """Goes on without a place; the job that it has had is done elsewhere."""
        self.places.remove(place)
        warnings.warn(f"gone on without {place.name}: {reason}", LostWorkerWarning, stacklevel=3)
        job = self._busy.pop(place, None)
        if job is not None:
            self._attempts[job_text(job)] = self._attempts.get(job_text(job), 0) + 1
            self._again.append(job)
        place.close()

    def fitting(self, job: Job[Any]) -> list[Place]:
        """The places that may do a job, the best first: those that cannot time leave the others to what is timed."""
        return sorted((each for each in self.places if each.may_time or not job.timed), key=lambda each: each.may_time)

    def _begin_again(self) -> None:
        self._again = [job for job in self._again if not self._begin(job)]

    def _begin(self, job: Job[Any]) -> bool:
        free = [place for place in self.fitting(job) if place not in self._busy]
        if not free:
            return False
        self._busy[free[0]] = job
        free[0].begin(job, partial(self._put, free[0], job))
        return True

    def _put(self, place: Place, job: Job[Any], outcome: Outcome) -> None:
        self._outcomes.put((place, job, outcome))

    def _taken(self, place: Place, job: Job[Any], outcome: Outcome) -> Any | None:
        """The result that an outcome is; None where the job has to be done again."""
        if isinstance(outcome, Lost):
            self.give_up(place, outcome.reason)
            return None
        try:
            result: Any = parse_reply(job, outcome)
        except Nonsense as error:
            self.give_up(place, f"it sends nonsense: {error}")
            return None
        del self._busy[place]
        return result
