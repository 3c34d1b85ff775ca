"""What networks were compiled to, kept across runs."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.passes.target.detect import processor_features
from loopmorph.pipelines.store.cache_file import CacheFile, computer, hash_of, sources

CODE_CACHE_VARIABLE = "LOOPMORPH_CODE_CACHE"
LIMIT = 256 << 20  # bytes of all entries together
_DAY = 86400.0  # seconds after which the time of an entry's last use is written anew
_told: set[str] = set()  # reasons for which nothing is kept, each told once
_OFF = frozenset({"0", "off", "false", "no"})


@dataclass(frozen=True)
class Entry:
    """What is kept for a key.

    Attributes:
        about: what describes it, as JSON can hold it.
        content: bytes.
    """

    about: Any
    content: bytes


class CodeCache(CacheFile):
    """Entries by what they were made from; those that were not used for longest go when there are too many.

    An entry's key says all that it depends on: the text that it was made from, this computer's processor and its
    features, the versions of loopmorph, torch and torch-mlir, and a hash of loopmorph's own source files. So what
    another computer or another version has left is never found. An entry whose check sum is wrong is dropped.
    """

    file: ClassVar[str] = "code.sqlite3"
    contents: ClassVar[str] = "compiled networks"

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        """Args:
        folder: where the file lies (see `CacheFile`).
        limit: bytes of all entries together.
        """
        super().__init__("code (key TEXT PRIMARY KEY, about TEXT, content BLOB, checksum TEXT, used REAL)", folder)
        self._limit = limit

    def get(self, key: str) -> Entry | None:
        """The entry of a key (see `key_of`), if there is one."""
        rows = self.execute("SELECT about, content, checksum, used FROM code WHERE key = ?", key)
        if not rows:
            return None
        about, content, checksum, used = rows[0]
        if not isinstance(about, str) or not isinstance(content, bytes) or checksum != _checksum(about, content):
            self.reject(key, "its check sum is wrong")
            return None
        if time.time() - used > _DAY:
            self.execute("UPDATE code SET used = ? WHERE key = ?", time.time(), key)
        return Entry(json.loads(about), zlib.decompress(content))

    def put(self, key: str, entry: Entry) -> None:
        """Stores an entry, and drops others where there are too many."""
        about, content = json.dumps(entry.about), zlib.compress(entry.content, level=1)
        values = (about, content, _checksum(about, content), time.time())
        self.execute("INSERT OR REPLACE INTO code VALUES (?, ?, ?, ?, ?)", key, *values)
        self._evict()

    def reject(self, key: str, reason: str) -> None:
        """Says that an entry cannot be right, and forgets it."""
        warnings.warn(
            f"an entry of the cache of {self.contents} {self.path} is ignored: {reason}", LoopmorphWarning, stacklevel=2
        )
        self.execute("DELETE FROM code WHERE key = ?", key)

    def cannot_keep(self, reason: str) -> None:
        """Says, once in a process for each reason, why nothing new is kept."""
        if reason not in _told:
            _told.add(reason)
            warnings.warn(f"{self.contents} are not kept in {self.path}: {reason}", LoopmorphWarning, stacklevel=2)

    def _evict(self) -> None:
        total = 0
        for key, size in self.execute("SELECT key, length(content) FROM code ORDER BY used DESC"):
            total += size
            if total > self._limit:
                self.execute("DELETE FROM code WHERE key = ?", key)


@contextmanager
def code_cache() -> Iterator[CodeCache | None]:
    """The cache; None where `$LOOPMORPH_CODE_CACHE` turns it off."""
    if os.environ.get(CODE_CACHE_VARIABLE, "").lower() in _OFF:
        yield None
        return
    cache = CodeCache()
    try:
        yield cache
    finally:
        cache.close()


def key_of(*parts: str) -> str:
    """The key of what is made from these texts, on this computer and by these versions."""
    return hash_of(*parts, *_versions())


@functools.cache
def _versions() -> tuple[str, ...]:
    return computer(), processor_features(), torch.__version__, sources()


def _checksum(about: str, content: bytes) -> str:
    return hashlib.sha256(about.encode() + b"\0" + content).hexdigest()
