"""Where jobs are done: the protocol, and the one place that every search has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.workers.job import Job


class Transport(Protocol):
    """Has jobs done, several at a time, wherever it has its workers. A job that is lost on the way is done again."""

    def submit(self, job: Job[Any]) -> bool:
        """Begins a job; False where no worker that may do it is free."""
        ...

    def collect(self) -> tuple[Any, Any]:
        """The next job that has ended, of those that were begun, in whatever order they end; with its result.

        Raises:
            LoopmorphError: no job can be done any more.
        """
        ...

    def close(self) -> None:
        """Ends the workers; what was begun is dropped."""
        ...


@dataclass
class InTurn:
    """One job after the other, by the judge that the search has anyway.

    Attributes:
        judge: does them.
    """

    judge: Judge
    _job: Job[Any] | None = None

    def submit(self, job: Job[Any]) -> bool:
        if self._job is not None:
            return False
        self._job = job
        return True

    def collect(self) -> tuple[Any, Any]:
        job, self._job = self._job, None
        if job is None:
            raise RuntimeError("no job was begun")
        return job, job.perform(self.judge)

    def close(self) -> None:
        self._job = None
