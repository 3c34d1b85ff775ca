"""A study: what was tried and what became of it, kept so that a search resumes where it ended."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from loopmorph.pipelines.search.verdict import ACCEPTED, FAILED, WRONG, Verdict
from loopmorph.pipelines.store.cache_file import CacheFile

CANDIDATE, NETWORK = "candidate", "network"  # kinds of records: of a rewrite of a layer, of an assembled network
_RANKS = {NETWORK: 0, CANDIDATE: 1}


@dataclass(frozen=True)
class Record:
    """Something that was tried.

    Attributes:
        kind: what it is: `CANDIDATE`, `NETWORK`, or what else a search keeps of networks (see `StudyStore`).
        steps: the transformations from the network as imported, as pass texts, in order.
        outcome: as of a `Verdict`.
        reason: why it was refused; empty where it was not.
        numbers: what was measured, by name: "ms_before" and "ms_after" (median milliseconds), "score" (the gate's), ...
    """

    kind: str
    steps: tuple[str, ...]
    outcome: str
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Whether it need not be tried again. What failed or came out wrong has to be: it may have been the machine's
        bad moment, and a fault that is repaired is not known to a file."""
        return self.outcome not in (FAILED, WRONG)

    @property
    def saved(self) -> float | None:
        """Milliseconds that it saves; None where it was not timed."""
        if "ms_before" not in self.numbers or "ms_after" not in self.numbers:
            return None
        return self.numbers["ms_before"] - self.numbers["ms_after"]

    @property
    def accepted(self) -> bool:
        """Whether it is legal, checked and timed."""
        return self.outcome == ACCEPTED

    def as_json(self) -> dict[str, Any]:
        """The record as strict JSON can hold it; `from_json` reads it."""
        numbers = {name: value if math.isfinite(value) else str(value) for name, value in self.numbers.items()}
        return {
            "kind": self.kind,
            "steps": [*self.steps],
            "outcome": self.outcome,
            "reason": self.reason,
            "numbers": numbers,
        }

    @staticmethod
    def from_json(content: Any) -> Record:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, OverflowError: it is something else.
        """
        texts = (content["kind"], content["outcome"], content["reason"], *content["steps"], *content["numbers"])
        if not isinstance(content["steps"], list) or not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is expected")
        numbers = {name: float(value) for name, value in content["numbers"].items()}
        return Record(content["kind"], tuple(content["steps"]), content["outcome"], content["reason"], numbers)

    @staticmethod
    def of(verdict: Verdict) -> Record:
        """What became of a candidate, as a record."""
        named = {name: getattr(verdict, name) for name in ("score", "ms_before", "ms_after")}
        numbers = {name: value for name, value in named.items() if value is not None}
        return Record(CANDIDATE, verdict.transforms, verdict.outcome, verdict.reason, numbers)

    @property
    def verdict(self) -> Verdict:
        """What became of a candidate."""
        score, before, after = (self.numbers.get(name) for name in ("score", "ms_before", "ms_after"))
        return Verdict(self.steps, self.outcome, self.reason, score, before, after)


def ranked(records: Iterable[Record]) -> list[Record]:
    """The best first: what was accepted before what was not, networks before candidates, what saves most time first."""

    def rank(record: Record) -> tuple[bool, int, float]:
        return not record.accepted, _RANKS.get(record.kind, len(_RANKS)), -(record.saved or 0.0)

    return sorted(records, key=rank)


class Study(Protocol):
    """What was tried."""

    def get(self, steps: Sequence[str], kind: str = CANDIDATE) -> Record | None:
        """What became of something, given its steps as pass texts; None where it was not tried, or has to be again."""
        ...

    def put(self, record: Record) -> Record:
        """Keeps what became of something.

        Returns:
            The record that counts from now on: an earlier one where another search was faster.
        """
        ...

    def close(self) -> None:
        """Nothing is read or kept any more."""
        ...


class StudyFile(CacheFile):
    """A study in the user's cache, under a key that says all that its records depend on; of final records alone."""

    file: ClassVar[str] = "studies.sqlite3"
    contents: ClassVar[str] = "records of studies"

    def __init__(self, key: str, folder: Path | None = None) -> None:
        """Args:
        key: see `measurement_key`.
        folder: where the file lies (see `CacheFile`).
        """
        columns = "study TEXT, kind TEXT, steps TEXT, record TEXT, PRIMARY KEY (study, kind, steps)"
        super().__init__(f"records ({columns})", folder)
        self._key = key

    def get(self, steps: Sequence[str], kind: str = CANDIDATE) -> Record | None:
        statement = "SELECT record FROM records WHERE study = ? AND kind = ? AND steps = ?"
        rows = self.execute(statement, self._key, kind, ",".join(steps))
        try:
            return Record.from_json(json.loads(rows[0][0])) if rows else None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):  # somebody else has written there
            return None

    def put(self, record: Record) -> Record:
        if record.final:
            values = (self._key, record.kind, ",".join(record.steps), json.dumps(record.as_json()))
            self.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", *values)
        return record
