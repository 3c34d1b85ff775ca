"""The job of judging a candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from loopmorph.passes.history import layer_of, parse_steps
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.study import CANDIDATE, Record
from loopmorph.pipelines.search.verdict import ACCEPTED, FAILED


@dataclass(frozen=True)
class CandidateJob:
    """A candidate to be judged, or a part of that.

    Attributes:
        steps: pass texts, in order: at most one neural transformation, before the loop transformations.
        admitted: what the gate has said already, where only the times are missing.
        timed: whether times are measured; without, the gate alone is asked, and what it admits is "accepted" without
            times.
    """

    kind: ClassVar[str] = "candidate"
    steps: tuple[str, ...]
    admitted: Record | None = None
    timed: bool = True

    def as_json(self) -> dict[str, Any]:
        admitted = None if self.admitted is None else self.admitted.as_json()
        return {"steps": self.steps, "admitted": admitted, "timed": self.timed}

    @staticmethod
    def from_json(content: Any) -> CandidateJob:
        """What `as_json` gave."""
        admitted = content["admitted"]
        return CandidateJob(tuple(content["steps"]), admitted and Record.from_json(admitted), content["timed"])

    def perform(self, judge: Judge) -> Record:
        candidate = self._candidate
        if not self.timed:
            return Record.of(judge.admit(candidate))
        if self.admitted is None:
            return Record.of(judge.judge(candidate))
        return Record.of(judge.measure(candidate, self.admitted.verdict))

    def read(self, content: Any) -> Record:
        record = Record.from_json(content)
        if record != Record.of(record.verdict) or record.steps != self.steps:
            raise ValueError("it is of something else")
        times = [record.numbers.get(name) for name in ("ms_before", "ms_after")]
        if record.outcome == ACCEPTED and self.timed and not all(each and 0 < each < math.inf for each in times):
            raise ValueError(f"times of {times} ms")
        if (not record.accepted or not self.timed) and times != [None, None]:
            raise ValueError("times that were not asked for")
        if record.accepted and not all(map(math.isfinite, record.numbers.values())):
            raise ValueError("it is accepted, with numbers that are not finite")
        return record

    def failed(self, reason: str) -> Record:
        return Record(CANDIDATE, self.steps, FAILED, reason)

    @property
    def _candidate(self) -> Candidate:
        steps = parse_steps(",".join(self.steps))
        neural = steps[0] if steps[0].kind == "neural" else None
        return Candidate(layer_of(steps[0]) or "", neural, steps[1:] if neural else steps)
