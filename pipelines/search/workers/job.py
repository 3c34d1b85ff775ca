"""Jobs: pieces of a search that may be done anywhere, as texts, and their replies. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from loopmorph.passes.errors import LoopmorphWarning

if TYPE_CHECKING:
    from loopmorph.pipelines.search.judge import Judge

_LONGEST = 1 << 20  # characters of a reply


class Nonsense(Exception):
    """A reply that cannot be one to the job; says why."""


class Result(Protocol):
    """What a job brings."""

    def as_json(self) -> dict[str, Any]:
        """The result as JSON can hold it; the job's `read` reads it."""
        ...


ResultT = TypeVar("ResultT", bound=Result)
ResultT_co = TypeVar("ResultT_co", bound=Result, covariant=True)


class Job(Protocol[ResultT_co]):
    """A piece of a search that depends on nothing but itself and the set-up of the judge.

    A kind of job is a class, with its row in `performing.KINDS`; its `from_json` reads what `as_json` gives.

    Attributes:
        kind: tells the kinds apart.
    """

    kind: ClassVar[str]

    @property
    def timed(self) -> bool:
        """Whether something is timed: it has to run on the processor that the search is for; the rest may on any."""
        ...

    def as_json(self) -> dict[str, Any]:
        """The job as JSON can hold it."""
        ...

    def perform(self, judge: Judge) -> ResultT_co:
        """Does it. What a user's network or a step of it may provoke is a result; nothing is raised for it."""
        ...

    def read(self, content: Any) -> ResultT_co:
        """What a result has given as JSON, as far as it can be one of this job.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, OverflowError: it cannot.
        """
        ...

    def failed(self, reason: str) -> ResultT_co:
        """The result where those who do jobs have ended over it."""
        ...


def job_text(job: Job[Any]) -> str:
    """A job as it is sent."""
    return json.dumps({"kind": job.kind, **job.as_json()})


def reply_text(job: str, result: Result, told: list[str]) -> str:
    """A reply as it is sent.

    Args:
        job: the text that it replies to.
        result: what the job has brought.
        told: the warnings that came up.
    """
    return json.dumps({"to": _name(job), "result": result.as_json(), "warnings": told})


def failed_reply(job: str, reason: str) -> str:
    """The reply to a job over which the judge has ended."""
    return json.dumps({"to": _name(job), "failed": reason, "warnings": []})


def parse_reply(job: Job[ResultT], text: object) -> ResultT:
    """The result that a reply brings; its warnings are given.

    Raises:
        Nonsense: it is no reply to the job: whoever sent it is not to be trusted with another one.
    """
    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise TypeError("a text is expected")
        content = json.loads(text)
        told = [str(each) for each in content["warnings"]]
        if content["to"] != _name(job_text(job)):
            raise ValueError("it is of something else")
        result = job.failed(str(content["failed"])) if "failed" in content else job.read(content["result"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Nonsense(f"{type(error).__name__}: {error}") from error
    for each in told:
        warnings.warn(each, LoopmorphWarning, stacklevel=2)
    return result


def _name(job: str) -> str:
    """Tells which job a reply is to."""
    return hashlib.sha256(job.encode()).hexdigest()
