"""Files of Optuna's studies, opened so that a process that is killed, or a file of something else, loses nothing.

Optuna keeps studies in a journal (a line of JSON for each operation) or in SQLite; `optuna-dashboard` and Optuna's
plots open both. What it does not do is look whether a file is one of its own before it writes there, and its journal
does not survive a process that is killed in the midst of a line: the next one is glued to the torn one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.support.files import create_file
from loopmorph.pipelines.support.foreign import describe

JOURNAL_SUFFIXES, SQLITE_SUFFIXES = (".log", ".journal"), (".db", ".sqlite", ".sqlite3")
_MAX_BYTES = 1 << 30
_SQLITE_MAGIC = b"SQLite format 3\0"
_LOCK_SUFFIX = ".lock"  # Optuna's
_TABLES = frozenset({"studies", "trials", "version_info"})  # some of Optuna's, by which its files are known
_PATIENCE = 30.0  # seconds to wait for another process that writes to the same file
_LOOK = 0.001  # seconds between two looks at a lock
_OURS = "loopmorph"  # where the links that lock journals point
_LEFT_ALONE = "it is left as it is; name another file"


def check_storage_path(path: Path) -> None:
    """Makes sure, before any long work, that a file can be a study: its name says which kind it is.

    Raises:
        ArgumentError: another suffix than `JOURNAL_SUFFIXES` and `SQLITE_SUFFIXES`, or a place that cannot be written.
        DataError: there is a file that is something else, or damaged.
    """
    _check_name(path)
    if not path.parent.is_dir():
        raise ArgumentError("study", f"cannot write '{path}': there is no folder '{path.parent}'")
    writable = path if path.exists() else path.parent
    if not os.access(writable, os.W_OK):
        raise ArgumentError("study", f"cannot write '{path}': no permission to write to '{writable}'")
    if os.path.lexists(path):
        _check_content(path)


def open_storage(path: Path) -> BaseStorage:
    """The storage that a file holds, or a new one; several processes may have it open and write to it at once.

    Args:
        path: the file, a journal or SQLite by its suffix.

    Raises:
        ArgumentError, DataError: as `check_storage_path`.
    """
    check_storage_path(path)
    try:
        if _is_journal(path):
            return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))
        if not path.exists():
            create_file(path, lambda new: _database(new).engine.dispose())
        return _database(path)
    except (DataError, ArgumentError):
        raise
    except OSError as error:
        raise ArgumentError("study", f"cannot write '{path}': {error.strerror or error}") from error
    except Exception as error:  # a hostile file may make Optuna raise anything
        raise _not_readable(path, error) from error


def read_storage(path: Path) -> BaseStorage:
    """The storage that a file holds, to be read: nothing is created.

    Raises:
        ArgumentError: the file's suffix.
        DataError: there is no such file, or it is something else, or damaged.
    """
    _check_name(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    return open_storage(path)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Within it Optuna does not tell what it does, and does not warn of what it calls experimental."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


class _JournalLock(JournalFileSymlinkLock):
    """A lock that the system lifts when its owner is killed, and Optuna's own one, a link beside the file, above it.

    Under it the journal ends with a whole line: what a killed process has left of one is cut off.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path.absolute()
        self._link = Path(f"{self._path}{_LOCK_SUFFIX}")
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        file = self._path.open("r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._make_link()
            _cut_torn_line(file)
        except BaseException:
            file.close()
            raise
        self._file = file
        return True

    def release(self) -> None:
        file, self._file = self._file, None
        self._link.unlink(missing_ok=True)
        if file is not None:
            file.close()

    def _make_link(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._link.symlink_to(_OURS)
                return
            except FileExistsError:
                if self._is_left_behind():
                    return
            if time.monotonic() > deadline:
                self._link.unlink(missing_ok=True)
            time.sleep(_LOOK)

    def _is_left_behind(self) -> bool:
        """Whether the link is of a killed process that held the lower lock, which is ours now."""
        try:
            return os.readlink(self._link) == _OURS
        except OSError:  # it has just gone
            return False


def _cut_torn_line(file: IO[bytes]) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    whole = end
    while whole > 0:
        size = min(whole, 1 << 16)
        file.seek(whole - size)
        found = file.read(size).rfind(b"\n")
        if found >= 0:
            whole += found + 1 - size
            break
        whole -= size
    file.truncate(whole)


def _is_journal(path: Path) -> bool:
    return path.suffix.lower() in JOURNAL_SUFFIXES


def _check_name(path: Path) -> None:
    if path.suffix.lower() not in (*JOURNAL_SUFFIXES, *SQLITE_SUFFIXES):
        journals, databases = (", ".join(each) for each in (JOURNAL_SUFFIXES, SQLITE_SUFFIXES))
        expected = f"a name that ends in {journals} (a journal) or {databases} (SQLite)"
        raise ArgumentError("study", f"expected {expected}, got '{path}'")
    if "?" in str(path) or "\n" in str(path):
        raise ArgumentError("study", f"expected a name without question marks and line ends, got '{path}'")


def _check_content(path: Path) -> None:
    """Raises:
    DataError: the file is not one of Optuna's.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path}: is no file; {_LEFT_ALONE}")
        if path.stat().st_size == 0:
            return
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: has more than {_MAX_BYTES >> 30} GiB, the most that is read; {_LEFT_ALONE}")
        if _is_journal(path):
            _check_journal(path)
        else:
            _check_database(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_journal(path: Path) -> None:
    """Every line is an operation; the last one may be torn, but only where it begins as one does."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                beginning = b'{"op_code":'
                if not line.startswith(beginning[: len(line)]):
                    raise DataError(f"{path}: line {number} is no entry of a journal of Optuna; {_LEFT_ALONE}")
                return
            try:
                entry = json.loads(line)
                whole = isinstance(entry, dict) and isinstance(entry["op_code"], int)
            except (ValueError, KeyError, RecursionError):
                whole = False
            if not whole:
                raise DataError(f"{path}: line {number} is no entry of a journal of Optuna; {_LEFT_ALONE}")


def _check_database(path: Path) -> None:
    with path.open("rb") as file:
        magic = file.read(len(_SQLITE_MAGIC))
    if magic != _SQLITE_MAGIC:
        raise DataError(f"{path}: is no SQLite file; {_LEFT_ALONE}")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
            (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise DataError(f"{path}: is damaged ({error}); {_LEFT_ALONE}") from error
    if health != "ok":
        raise DataError(f"{path}: is damaged ({health}); {_LEFT_ALONE}")
    if not _TABLES <= {name for kind, name in found if kind == "table"}:
        raise DataError(f"{path}: is a database of something else than studies of Optuna; {_LEFT_ALONE}")
    active = sorted(f"{kind} '{name}'" for kind, name in found if kind not in ("table", "index"))
    if active:
        raise DataError(f"{path}: refused, it holds {active[0]}, which no study of Optuna has; {_LEFT_ALONE}")


def _database(path: Path) -> RDBStorage:
    url = f"sqlite:///{path.absolute()}"
    return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _PATIENCE}})


def _not_readable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: Optuna cannot read it ({describe(error)}); {_LEFT_ALONE}")
