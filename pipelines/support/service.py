"""A process that does what it is asked, so that a crash or a hang of it costs one request: the parent's side.

The other side is `serve` in `serving.py`.
"""

from __future__ import annotations

import contextlib
import os
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
from loopmorph.pipelines.support.fork_server import Forked, NotForked, fork
from loopmorph.pipelines.support.frames import REPLY, is_ready, read_frame, write_frame

_LAST_WORDS = 200  # characters
Process = subprocess.Popen[bytes] | Forked


class ServiceEnded(Exception):
    """The process ended instead of replying; the message says how: `was killed by SIGSEGV: its last line`."""


class ServiceTimedOut(Exception):
    """The process did not reply in time; it has to be stopped."""


class Service:
    """A running process. It ends with its parent, or when it is stopped."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        whole_path: bool = False,
        forked: bool = False,
    ) -> None:
        """Starts `python -m MODULE ARGUMENTS`, and does not wait for it.

        Args:
            module: a module whose main calls `serve`.
            arguments: of the command line.
            environment: variables to set.
            whole_path: whether it finds all modules that this process finds, those of a user's too.
            forked: whether it is forked, where that is possible, from a process that has loaded the module already, and
                with other values of these variables.
        """
        self._module, self._arguments, self._path = module, arguments, _whole_path() if whole_path else package_path()
        self._environment = {**os.environ, **(environment or {}), "PYTHONPATH": self._path}
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = self._forked() if forked else self._fresh()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._there(None).pid

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
        deadline = None if limit is None else time.monotonic() + limit
        process = self._there(deadline)
        requests, replies = process.stdin, process.stdout
        assert requests is not None and replies is not None
        try:
            write_frame(requests, request)
            while True:
                if deadline is not None and not is_ready(replies.fileno(), deadline):
                    raise ServiceTimedOut
                kind, content = read_frame(replies)
                if kind == REPLY:
                    return content
                tell(content)
        except (BrokenPipeError, EOFError) as error:
            raise ServiceEnded(self._fate()) from error

    def stop(self) -> None:
        """Ends the process and all that it has started."""
        if isinstance(self._process, Forked):
            self._process.close()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
        self._errors.close()

    def _forked(self) -> Process:
        try:
            return fork(self._module, self._arguments, self._path, self._environment, self._errors.fileno())
        except NotForked:
            return self._fresh()

    def _fresh(self) -> Process:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", self._module, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for the parent, which then stops the whole group
        )

    def _there(self, deadline: float | None) -> Process:
        """The process; a fresh one where none could be forked.

        Raises:
            ServiceTimedOut: it is not there in time.
        """
        if isinstance(self._process, Forked):
            try:
                self._process.wait_for_start(deadline)
            except NotForked:
                self._process.close()
                self._process = self._fresh()
            except TimeoutError:
                raise ServiceTimedOut from None
        return self._process

    def _fate(self) -> str:
        code = self._process.wait(timeout=10)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return f"{how}: {lines[-1][:_LAST_WORDS]}" if lines else how


def package_path() -> str:
    """`PYTHONPATH` with which a new process finds the package as this one has: installed, or in a checkout."""
    package = _package()
    installed = package in [*site.getsitepackages(), site.getusersitepackages()]
    return os.pathsep.join(filter(None, ["" if installed else package, os.environ.get("PYTHONPATH", "")]))


def _whole_path() -> str:
    entries: Sequence[str] = [_package(), *sys.path, str(Path.cwd())]
    return os.pathsep.join(dict.fromkeys(filter(None, entries)))


def _package() -> str:
    return str(Path(loopmorph.__file__).resolve().parent.parent)
