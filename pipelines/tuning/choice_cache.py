"""Which choice was found fastest for a nest, kept across runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from loopmorph.passes.analysis.choice import Choice
from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.pipelines.store.cache_file import CacheFile, computer


@dataclass(frozen=True)
class Found:
    """The fastest alternative so far, and the algorithms of which other register blocks have been tried."""

    choice: Choice
    tried: tuple[str, ...] = ()


class ChoiceCache(CacheFile):
    """Choices by nest, number of threads and computer.

    What was found on another computer, or with other versions, is told apart by its entry and not used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Args:
        folder: where the file lies (see `CacheFile`).
        """
        super().__init__(
            "choices (nest TEXT, threads INTEGER, computer TEXT, algorithm TEXT, block TEXT, tried TEXT, "
            "PRIMARY KEY (nest, threads, computer))",
            folder,
        )
        self._memory: dict[tuple[str, int], Found] = {}
        self._told: set[str] = set()

    def get(self, nest: str, threads: int) -> Found | None:
        """What was found for a nest.

        Args:
            nest: what identifies it.
            threads: number of threads.
        """
        if (nest, threads) in self._memory:
            return self._memory[nest, threads]
        rows = self.execute(
            "SELECT computer, algorithm, block, tried FROM choices WHERE nest = ? AND threads = ?", nest, threads
        )
        by_computer = {str(name): _found(*values) for name, *values in rows}
        mine = by_computer.pop(computer(), None)
        if mine is None:
            for other in by_computer.keys() - self._told:
                self._told.add(other)
                reason = f"was measured on another computer ({other}; this one is {computer()})"
                warnings.warn(
                    f"an entry of the tuning cache {self.path} {reason} and is ignored", LoopmorphWarning, stacklevel=2
                )
        return mine

    def put(self, nest: str, threads: int, found: Found) -> None:
        """Stores what was found; both parts of the choice are given."""
        self._memory[nest, threads] = found
        values = (computer(), found.choice.algorithm or "", found.choice.block or "", ",".join(found.tried))
        self.execute("INSERT OR REPLACE INTO choices VALUES (?, ?, ?, ?, ?, ?)", nest, threads, *values)

    def reject(self, nest: str, threads: int, reason: str) -> None:
        """Says that an entry cannot be right, and forgets it."""
        warnings.warn(f"an entry of the tuning cache {self.path} is ignored: {reason}", LoopmorphWarning, stacklevel=2)
        self._memory.pop((nest, threads), None)
        where = "nest = ? AND threads = ? AND computer = ?"
        self.execute(f"DELETE FROM choices WHERE {where}", nest, threads, computer())


def _found(algorithm: object, block: object, tried: object) -> Found:
    """An entry as it stands in the file, whatever that is."""
    return Found(Choice(str(algorithm), str(block)), tuple(filter(None, str(tried).split(","))))
