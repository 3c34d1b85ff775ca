"""Times of pairs of programs, kept across runs."""

from __future__ import annotations

from pathlib import Path

from loopmorph.pipelines.store.cache_file import CacheFile


class TimingCache(CacheFile):
    """Times of pairs of layers, kept in one file across runs.

    The two times of a pair are stored and served together: the machine's clock drifts, so times from two sessions do
    not compare, but the ratio within a pair does.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Args:
        folder: where the file lies (see `CacheFile`).
        """
        super().__init__("pairs (key TEXT PRIMARY KEY, original REAL, rewritten REAL)", folder)
        self._memory: dict[str, tuple[float, float]] = {}

    def get(self, key: str) -> tuple[float, float] | None:
        """Seconds before and after, if the pair has been measured."""
        if key in self._memory:
            return self._memory[key]
        rows = self.execute("SELECT original, rewritten FROM pairs WHERE key = ?", key)
        return (rows[0][0], rows[0][1]) if rows else None

    def put(self, key: str, times: tuple[float, float]) -> None:
        """Stores the seconds before and after."""
        self._memory[key] = times
        self.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", key, *times)
