"""What is known of variants, kept in the user's cache, so that a table that was stopped, by whatever, goes on."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, ClassVar

from loopmorph.pipelines.store.cache_file import CacheFile


class VariantFile(CacheFile):
    """JSON objects by what they depend on and by the steps of a variant.

    Each is in the file once it is put there. Threads may share it.
    """

    file: ClassVar[str] = "variants.sqlite3"
    contents: ClassVar[str] = "variants"

    def __init__(self, folder: Path | None = None) -> None:
        """Args:
        folder: where the file lies (see `CacheFile`).
        """
        super().__init__("variants (key TEXT, steps TEXT, content TEXT, PRIMARY KEY (key, steps))", folder)
        self._lock = threading.Lock()

    def get(self, key: str, steps: str) -> dict[str, Any] | None:
        """What is known; None where nothing is."""
        with self._lock:
            rows = self.execute("SELECT content FROM variants WHERE key = ? AND steps = ?", key, steps)
        try:
            content = json.loads(rows[0][0]) if rows else None
        except (ValueError, TypeError):  # somebody else has written there
            return None
        return content if isinstance(content, dict) else None

    def put(self, key: str, steps: str, content: dict[str, Any]) -> None:
        """Stores what is known."""
        with self._lock:
            self.execute("INSERT OR REPLACE INTO variants VALUES (?, ?, ?)", key, steps, json.dumps(content))
