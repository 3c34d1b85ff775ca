"""Shared libraries: made of object files by the system's linker, brought into this process by the system's loader."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

LINKERS = ("ld", "ld.lld", "cc", "gcc", "clang")
_LIMIT = 60.0  # seconds
_PREFIX = "_mlir_"  # of the functions that LLVM's engine makes for an array of pointers to the arguments


class LibraryError(Exception):
    """Bytes that are no shared library for this computer, or one that cannot be made or loaded; says why."""


class Library:
    """The code of a shared library, in memory; a `MachineCode`."""

    def __init__(self, content: bytes, prefix: str = _PREFIX) -> None:
        """Loads it.

        Args:
            content: the library's bytes.
            prefix: what the names of the functions that take an array of pointers begin with.

        Raises:
            LibraryError: they cannot be loaded.
        """
        # The loader takes a file, and for one of a name that it knows it would give the library that it has already.
        self._prefix = prefix
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(content)
            file.flush()
            try:
                self._library = ctypes.CDLL(file.name)
            except OSError as error:
                raise LibraryError(f"it cannot be loaded ({str(error).removeprefix(file.name).strip(': ')})") from error

    def address_of(self, name: str) -> int:
        """See `MachineCode`."""
        try:
            function = getattr(self._library, self._prefix + name)
        except AttributeError:
            return 0
        return ctypes.cast(function, ctypes.c_void_p).value or 0


def find_linker() -> str | None:
    """A linker that this computer has."""
    return next((path for name in LINKERS if (path := shutil.which(name)) is not None), None)


def link(object_file: bytes) -> bytes:
    """A shared library of one object file.

    Raises:
        LibraryError: there is no linker, or it refuses.
    """
    if object_file[:4] != b"\x7fELF":
        raise LibraryError("it is no ELF object file")
    linker = find_linker()
    if linker is None:
        raise LibraryError(f"no linker is found ({', '.join(LINKERS)})")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "code.o"), Path(folder, "code.so")
        source.write_bytes(object_file)
        command = [linker, "-shared", "-o", str(made), str(source)]
        run_tool(command)
        return made.read_bytes()


def run_tool(command: Sequence[str]) -> None:
    """Runs a compiler, a linker or the like.

    Raises:
        LibraryError: it does not run, or refuses; says the first of what it says that tells why.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LibraryError(f"{command[0]} does not run: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        why = next((line for line in lines if "error" in line or "undefined" in line), lines[0])
        raise LibraryError(f"{command[0]} refuses: {why.strip()}")
