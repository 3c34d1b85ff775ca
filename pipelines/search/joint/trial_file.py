"""What was measured of assembled networks, kept so that a search resumes where it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from loopmorph.pipelines.store.cache_file import CacheFile


class TrialStore(Protocol):
    """Measurements by the text of what was measured."""

    def get(self, key: str) -> Mapping[str, Any] | None:
        """What was measured, as JSON can hold it; None where nothing was."""
        ...

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        """Keeps what was measured."""
        ...


class Forgetful(dict[str, Mapping[str, Any]]):
    """A `TrialStore` that ends with the process."""

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        self[key] = content


class TrialFile(CacheFile):
    """A `TrialStore` in the user's cache, under a key that says all that its measurements depend on."""

    file: ClassVar[str] = "studies.sqlite3"
    contents: ClassVar[str] = "trials"

    def __init__(self, key: str, folder: Path | None = None) -> None:
        """Args:
        key: see `study_key`.
        folder: where the file lies (see `CacheFile`).
        """
        super().__init__("trials (study TEXT, trial TEXT, content TEXT, PRIMARY KEY (study, trial))", folder)
        self._key = key
        self._memory = Forgetful()  # for where the file cannot be used

    def get(self, key: str) -> Mapping[str, Any] | None:
        if key not in self._memory:
            rows = self.execute("SELECT content FROM trials WHERE study = ? AND trial = ?", self._key, key)
            try:
                content = json.loads(rows[0][0]) if rows else None
            except ValueError:  # somebody else has written there
                content = None
            if not isinstance(content, dict):
                return None
            self._memory.put(key, content)
        return self._memory.get(key)

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        self._memory.put(key, content)
        values = (self._key, key, json.dumps(content))
        self.execute("INSERT OR REPLACE INTO trials VALUES (?, ?, ?)", *values)
