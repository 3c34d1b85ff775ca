"""Jobs: pieces of a search that depend on nothing but the network, and may be done anywhere. Imports no torch."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass

from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.pipelines.search.study import CANDIDATE, Record
from loopmorph.pipelines.search.verdict import ACCEPTED, FAILED

_LONGEST = 1 << 20  # characters of a reply


class Nonsense(Exception):
    """A reply that cannot be one to the job; says why."""


@dataclass(frozen=True)
class Job:
    """A candidate to be judged, or a part of that.

    Attributes:
        steps: pass texts, in order: at most one neural transformation, before the loop transformations.
        admitted: what the gate has said already, where only the times are missing.
        timed: whether times are measured; without, the gate alone is asked, and what it admits is "accepted" without
            times. What is timed has to run on the processor that the search is for; the rest may run on any.
    """

    steps: tuple[str, ...]
    admitted: Record | None = None
    timed: bool = True

    def as_json(self) -> str:
        """The job as a text; `from_json` reads it."""
        admitted = None if self.admitted is None else self.admitted.as_json()
        return json.dumps({"steps": self.steps, "admitted": admitted, "timed": self.timed})

    @staticmethod
    def from_json(text: str) -> Job:
        """What `as_json` gave."""
        content = json.loads(text)
        admitted = content["admitted"]
        return Job(tuple(content["steps"]), admitted and Record.from_json(admitted), content["timed"])


def failed_reply(job: str, reason: str) -> str:
    """The reply to a job, given as JSON, over which the judge has ended."""
    record = Record(CANDIDATE, Job.from_json(job).steps, FAILED, reason)
    return json.dumps({"record": record.as_json(), "warnings": []})


def parse_reply(job: Job, text: object) -> Record:
    """The record that a reply brings; its warnings are given.

    Raises:
        Nonsense: it is no reply to the job: whoever sent it is not to be trusted with another one.
    """
    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise TypeError("a text is expected")
        content = json.loads(text)
        record, told = Record.from_json(content["record"]), [str(each) for each in content["warnings"]]
        _check(job, record)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Nonsense(f"{type(error).__name__}: {error}") from error
    for each in told:
        warnings.warn(each, LoopmorphWarning, stacklevel=2)
    return record


def _check(job: Job, record: Record) -> None:
    if record != Record.of(record.verdict) or record.steps != job.steps:
        raise ValueError("it is of something else")
    times = [record.numbers.get(name) for name in ("ms_before", "ms_after")]
    if record.outcome == ACCEPTED and job.timed and not all(each and 0 < each < math.inf for each in times):
        raise ValueError(f"times of {times} ms")
    if (not record.accepted or not job.timed) and times != [None, None]:
        raise ValueError("times that were not asked for")
    if record.accepted and not all(map(math.isfinite, record.numbers.values())):
        raise ValueError("it is accepted, with numbers that are not finite")
