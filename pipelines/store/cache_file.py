"""The files in which measurements and code are kept across runs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sqlite3
import warnings
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import platformdirs

import loopmorph
import loopmorph.dialects
import loopmorph.passes
import loopmorph.pipelines
from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.passes.target.detect import native_target, processor_name

CACHE_VARIABLE = "LOOPMORPH_CACHE"
_PATIENCE = 1.0  # seconds to wait for another program that has locked a file
_IMPATIENCE = 0.02  # the same where a file in that folder was locked before
_locked: set[Path] = set()  # folders of which a file was locked, each told once


class CacheFile:
    """One table of a file. A file that is corrupt is replaced; one that cannot be used is done without. Both warn.

    So is one that another program has locked for a second; the other files of its folder are then waited for no more.

    Attributes:
        path: the file.
    """

    file: ClassVar[str] = "timings.sqlite3"
    contents: ClassVar[str] = "times"  # what messages say that the file keeps

    def __init__(self, table: str, folder: Path | None = None) -> None:
        """Args:
        table: its name and columns, as after `CREATE TABLE`.
        folder: where the file lies; by default `$LOOPMORPH_CACHE`, else the user's cache folder.
        """
        self.path = (folder or default_folder()) / self.file
        self._table = table
        self._connection: sqlite3.Connection | None = None
        self._connection = self._open()

    def execute(self, statement: str, *values: str | float | bytes) -> list[tuple[Any, ...]]:
        """The rows that a statement gives; none where the file cannot be used."""
        if self._connection is None:
            return []
        try:
            with self._connection:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return []

    def close(self) -> None:
        """Closes the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._connect()
        except (OSError, sqlite3.OperationalError) as error:
            self._give_up(error)
        except sqlite3.DatabaseError as error:
            warnings.warn(
                f"the cache of {self.contents} {self.path} is corrupt ({error}); it is begun anew",
                LoopmorphWarning,
                stacklevel=4,
            )
            try:
                self.path.unlink()
                return self._connect()
            except (OSError, sqlite3.Error) as second:
                self._give_up(second)
        return None

    def _connect(self) -> sqlite3.Connection:
        patience = _IMPATIENCE if self.path.parent in _locked else _PATIENCE
        connection = sqlite3.connect(self.path, timeout=patience, check_same_thread=False)
        try:
            with connection:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {self._table}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _give_up(self, error: Exception) -> None:
        self.close()
        text = f"{self.contents} are not kept in {self.path}: {error}"
        if _is_locked(error):
            if self.path.parent in _locked:
                return
            _locked.add(self.path.parent)
            text = f"the cache {self.path} is locked by another program: gone on without what is locked there"
        warnings.warn(text, LoopmorphWarning, stacklevel=5)


def _is_locked(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def default_folder() -> Path:
    """The folder of the cache: `$LOOPMORPH_CACHE`, else the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("loopmorph"))


@cache
def computer() -> str:
    """What measurements hold for: the processor, what code is generated for, and the versions that generate it."""
    versions = f"loopmorph {loopmorph.__version__}, torch-mlir {importlib.metadata.version('torch-mlir')}"
    return f"{processor_name()}, {native_target()}, {versions}"


@cache
def sources() -> str:
    """A hash of loopmorph's source files: a version number says little about a checkout that is worked on."""
    return sources_now()


def sources_now() -> str:
    """`sources` of what lies there now, which may be younger than this process."""
    found = hashlib.sha256()
    for package in (loopmorph.dialects, loopmorph.passes, loopmorph.pipelines):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def hash_of(*parts: str) -> str:
    """One short key for several texts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def source_key(*parts: str) -> str:
    """The key of what these sources make of some texts, on whatever computer."""
    return hash_of(*parts, sources())


def measurement_key(*parts: str) -> str:
    """The key of what was measured of some texts, on this computer and with these sources."""
    return source_key(*parts, computer())
