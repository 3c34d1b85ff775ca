"""Results in files: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from loopmorph.passes.errors import ArgumentError


def prepare_folder(folder: Path) -> None:
    """Makes sure that results can be written to the folder, before any long work.

    Raises:
        ArgumentError: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise ArgumentError("out", f"cannot write to '{folder}': it is a file, not a folder") from error
    except OSError as error:
        raise ArgumentError("out", f"cannot write to '{folder}': {error.strerror or error}") from error


def check_writable(argument: str, path: Path | None) -> None:
    """Makes sure, before any long work, that a file can be written after it.

    Raises:
        ArgumentError: it cannot.
    """
    if path is None:
        return
    if path.is_dir():
        raise ArgumentError(argument, f"cannot write '{path}': it is a folder")
    if not path.parent.is_dir():
        raise ArgumentError(argument, f"cannot write '{path}': there is no folder '{path.parent}'")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ArgumentError(argument, f"cannot write '{path}': no permission to write to '{path.parent}'")


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], *, argument: str = "out") -> None:
    """Writes a file beside its place and moves it there when it is whole.

    Args:
        path: the file.
        write: writes the content.
        argument: who named the file, for the error.

    Raises:
        ArgumentError: the file cannot be written.
    """
    try:
        replace_file(path, write)
    except OSError as error:
        raise ArgumentError(argument, f"cannot write '{path}': {error.strerror or error}") from error


def replace_file(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """As `write_atomically`, but raises the system's own errors."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(name, 0o666 & ~_umask())  # a temporary file is its owner's alone
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def create_file(path: Path, make: Callable[[Path], Any]) -> None:
    """Makes a file under another name, and puts it in its place once it is whole; one that is there already stays.

    Args:
        path: the file.
        make: makes the content of the file that it is given, which is empty and has the same suffix.

    Raises:
        OSError: the file cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    try:
        make(Path(name))
        os.chmod(name, 0o666 & ~_umask())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def _umask() -> int:
    """The permission bits that this process takes from new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
