"""A study: which candidates were tried and what became of them, kept so that a search resumes where it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Protocol

from loopmorph.pipelines.search.verdict import FAILED, WRONG, Verdict
from loopmorph.pipelines.store.cache_file import CacheFile


class Study(Protocol):
    """What was tried."""

    def get(self, candidate: str) -> Verdict | None:
        """What became of a candidate, given its text; None where it was not tried."""
        ...

    def put(self, candidate: str, verdict: Verdict) -> None:
        """Stores what became of a candidate."""
        ...


class StudyFile(CacheFile):
    """A study in the user's cache, under a key that says all that its verdicts depend on.

    What failed or came out wrong is not kept: it may have been the machine's bad moment, and a fault that is repaired
    has to be tried again.
    """

    file: ClassVar[str] = "studies.sqlite3"
    contents: ClassVar[str] = "verdicts"

    def __init__(self, key: str, folder: Path | None = None) -> None:
        """Args:
        key: see `measurement_key`.
        folder: where the file lies (see `CacheFile`).
        """
        columns = "study TEXT, candidate TEXT, verdict TEXT, PRIMARY KEY (study, candidate)"
        super().__init__(f"verdicts ({columns})", folder)
        self._key = key

    def get(self, candidate: str) -> Verdict | None:
        rows = self.execute("SELECT verdict FROM verdicts WHERE study = ? AND candidate = ?", self._key, candidate)
        try:
            return Verdict.from_json(json.loads(rows[0][0])) if rows else None
        except (ValueError, KeyError, TypeError):  # somebody else has written there
            return None

    def put(self, candidate: str, verdict: Verdict) -> None:
        if verdict.outcome not in (FAILED, WRONG):
            values = (self._key, candidate, json.dumps(verdict.as_json()))
            self.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", *values)
