"""All candidates of a search judged, by many workers, in whatever order; what the study knows is not judged again."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from loopmorph.pipelines.search.combiner import Judged
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.study import Record, Study
from loopmorph.pipelines.search.verdict import refused
from loopmorph.pipelines.search.workers.candidate_job import CandidateJob
from loopmorph.pipelines.search.workers.transport import Transport

_AHEAD = 16  # candidates that are drawn before they are judged, where others judge the same ones


@dataclass
class Judging:
    """The judging of candidates as they are drawn.

    Attributes:
        candidates: in the order in which they are drawn.
        study: what was tried before; what is tried now is added.
        transport: has them judged.
        order: chooses which of the next ones is judged first, so that several searches on one study seldom judge the
            same one at once; None for one after the other.
        found: position -> candidate and what became of it.
    """

    candidates: Iterator[Candidate]
    study: Study
    transport: Transport
    order: random.Random | None = None
    found: dict[int, Judged] = field(default_factory=dict)
    _drawn: dict[tuple[str, ...], tuple[int, Candidate]] = field(default_factory=dict)
    _ahead: list[CandidateJob] = field(default_factory=list)
    _admitted: deque[CandidateJob] = field(default_factory=deque)
    _running: int = 0

    @property
    def in_order(self) -> list[Judged]:
        """What was judged so far, in the order in which it was drawn."""
        return [self.found[position] for position in sorted(self.found)]

    def run(self, after_each: Callable[[int], None]) -> None:
        """Judges them all.

        Args:
            after_each: called with the number of those that are judged; what it raises ends the judging.

        Raises:
            LoopmorphError: the original network cannot be scored, or no worker is left.
        """
        while True:
            while self._begin(after_each):
                pass
            if not self._running and not self._ahead and not self._admitted:
                return
            job: CandidateJob
            record: Record
            job, record = self.transport.collect()
            self._running -= 1
            if record.accepted and not job.timed:
                self._admitted.append(CandidateJob(job.steps, record))
            else:
                self._keep(self.study.put(record))
                after_each(len(self.found))

    def _begin(self, after_each: Callable[[int], None]) -> bool:
        """Begins one job; False where there is none, or no worker for it."""
        if self._admitted and self.transport.submit(self._admitted[0]):
            self._admitted.popleft()
            self._running += 1
            return True
        job = self._next(after_each)
        if job is None:
            return False
        # What can be timed is judged whole; where only others are free, they do the part that they can.
        if self.transport.submit(job) or self.transport.submit(CandidateJob(job.steps, timed=False)):
            self._running += 1
            return True
        self._ahead.insert(0, job)
        return False

    def _next(self, after_each: Callable[[int], None]) -> CandidateJob | None:
        """A job that is not known to the study by now."""
        while True:
            self._draw()
            if not self._ahead:
                return None
            job = self._ahead.pop(0 if self.order is None else self.order.randrange(len(self._ahead)))
            record = self._known(job)
            if record is None:
                return job
            self._keep(record)
            after_each(len(self.found))

    def _draw(self) -> None:
        while len(self._ahead) < (1 if self.order is None else _AHEAD):
            candidate = next(self.candidates, None)
            if candidate is None:
                return
            job = CandidateJob(tuple(map(str, candidate.steps)))
            self._drawn[job.steps] = len(self._drawn), candidate
            self._ahead.append(job)

    def _known(self, job: CandidateJob) -> Record | None:
        _, candidate = self._drawn[job.steps]
        if candidate.refusal is not None:
            return self.study.put(Record.of(refused(job.steps, candidate.refusal)))
        return self.study.get(job.steps)

    def _keep(self, record: Record) -> None:
        position, candidate = self._drawn[record.steps]
        self.found[position] = Judged(candidate, record.verdict)
