"""A process that does what it is asked, so that a crash or a hang of it costs one request: the parent's side.

The other side is `serve` in `serving.py`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import loopmorph
from loopmorph.pipelines.support.frames import REPLY, read_frame, write_frame

_LAST_WORDS = 200  # characters


class ServiceEnded(Exception):
    """The process ended instead of replying; the message says how: `was killed by SIGSEGV: its last line`."""


class ServiceTimedOut(Exception):
    """The process did not reply in time; it has to be stopped."""


class Service:
    """A running process. It ends with its parent, or when it is stopped."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None, whole_path: bool = False
    ) -> None:
        """Starts `python -m MODULE ARGUMENTS`.

        Args:
            module: a module whose main calls `serve`.
            arguments: of the command line.
            environment: variables to set.
            whole_path: whether it finds all modules that this process finds, those of a user's too.
        """
        path = _whole_path() if whole_path else _package_path()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(environment or {}), "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the parent, which then stops the whole group
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, request: Any, limit: float | None = None, tell: Callable[[Any], None] = lambda _: None) -> Any:
        """Sends a request and waits for the reply.

        Args:
            request: anything that can be pickled.
            limit: seconds of wall time to wait; None for as long as it takes.
            tell: called with what the process tells meanwhile.

        Raises:
            ServiceEnded: the process ended.
            ServiceTimedOut: it did not reply in time.
        """
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None and replies is not None
        deadline = None if limit is None else time.monotonic() + limit
        try:
            write_frame(requests, request)
            while True:
                if deadline is not None and not _is_ready(replies, deadline):
                    raise ServiceTimedOut
                kind, content = read_frame(replies)
                if kind == REPLY:
                    return content
                tell(content)
        except (BrokenPipeError, EOFError) as error:
            raise ServiceEnded(self._fate()) from error

    def stop(self) -> None:
        """Ends the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()

    def _fate(self) -> str:
        code = self._process.wait(timeout=10)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return f"{how}: {lines[-1][:_LAST_WORDS]}" if lines else how


def _is_ready(stream: IO[bytes], deadline: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(max(0.0, deadline - time.monotonic())))


def _package_path() -> str:
    """`PYTHONPATH` with which a new process finds the package as this one has: installed, or in a checkout."""
    package = _package()
    installed = package in [*site.getsitepackages(), site.getusersitepackages()]
    return os.pathsep.join(filter(None, ["" if installed else package, os.environ.get("PYTHONPATH", "")]))


def _whole_path() -> str:
    entries: Sequence[str] = [_package(), *sys.path, str(Path.cwd())]
    return os.pathsep.join(dict.fromkeys(filter(None, entries)))


def _package() -> str:
    return str(Path(loopmorph.__file__).resolve().parent.parent)
