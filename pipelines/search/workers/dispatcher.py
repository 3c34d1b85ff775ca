"""Jobs that are done while whoever asks for them goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from loopmorph.passes.errors import CompilationFailed
from loopmorph.pipelines.search.workers.job import Job, Result
from loopmorph.pipelines.search.workers.pool import Pool

T = TypeVar("T", bound=Result)

_SOON = 0.05  # seconds until what is asked for meanwhile is begun, where there is a worker for it


@dataclass(eq=False)
class _Asked(Generic[T]):
    job: Job[T]
    known: Callable[[], T | None]
    keep: Callable[[T], None]
    future: Future[T] = field(default_factory=Future)

    def end(self, result: T) -> None:
        try:
            self.keep(result)
        except Exception as error:  # whoever waits for the result gets it, not this thread
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Dispatcher:
    """Has jobs done by a pool, each as soon as there is a worker for it. A context manager.

    What is timed comes first; apart from that they are begun in the order in which they are asked for. The workers are
    there from the first job on.
    """

    def __init__(self, open_pool: Callable[[], Pool]) -> None:
        """Args:
        open_pool: makes the pool, which is closed in the end.
        """
        self._open_pool = open_pool
        self._changed = threading.Condition()
        self._waiting: list[_Asked[Any]] = []
        self._running: list[_Asked[Any]] = []
        self._thread: threading.Thread | None = None
        self._closing = False

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self, job: Job[T], known: Callable[[], T | None] = lambda: None, keep: Callable[[T], None] = lambda _: None
    ) -> Future[T]:
        """The result to come of a job; it raises what `Pool.poll` does, and what making the pool does.

        Args:
            job: what is to be done.
            known: called just before it is begun: the result, where that is known by then without doing it.
            keep: called with the result before anybody else has it; by another thread, as `known` is.
        """
        asked = _Asked(job, known, keep)
        with self._changed:
            self._waiting.append(asked)
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._changed.notify()
        return asked.future

    def close(self) -> None:
        """Ends the workers, and drops what is not done yet; what is asked for later has others."""
        with self._changed:
            self._closing = True
            thread, self._thread = self._thread, None
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        try:
            with closing(self._open_pool()) as pool:
                while self._has_work():
                    self._begin(pool)
                    self._take(pool)
        except Exception as error:  # likewise, so that nobody waits for a thread that has ended
            self._end_all(error)
        else:
            self._end_all(None)

    def _has_work(self) -> bool:
        """Waits until there is some; False where there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting or self._running)
            return not self._closing

    def _begin(self, pool: Pool) -> None:
        with self._changed:
            waiting = sorted(self._waiting, key=lambda each: not each.job.timed)
        full = set()
        for each in waiting:
            if each.job.timed in full:
                continue
            known = each.known()
            if known is None and not pool.submit(each.job):
                full.add(each.job.timed)
                continue
            with self._changed:
                self._waiting.remove(each)
            if known is None:
                self._running.append(each)
            else:
                each.end(known)
        if full and not self._running:
            raise CompilationFailed("no worker is left that could do what is asked for")

    def _take(self, pool: Pool) -> None:
        found = pool.poll(_SOON) if self._running else None
        if found is not None:
            job, result = found
            ended = next(each for each in self._running if each.job is job)  # of the same job asked for twice, either
            self._running.remove(ended)
            ended.end(result)

    def _end_all(self, error: Exception | None) -> None:
        with self._changed:
            left = [*self._running, *self._waiting]
            self._running, self._waiting = [], []
            if error is not None:
                self._thread = None
        for each in left:
            if error is None:
                each.future.cancel()
            else:
                each.future.set_exception(error)
