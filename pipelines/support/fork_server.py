"""Processes forked from one that has loaded what they need: the side of whoever asks for them.

What a judge or a worker loads takes seconds, which each would spend anew. The other side is `fork_server_main.py`:
one server for each module, which no request runs in, so that nothing that a request does can harm it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from loopmorph.pipelines.support.frames import is_ready, read_frame, write_frame

_MAIN = "loopmorph.pipelines.support.fork_server_main"
_MOST = 4  # servers; of more, the one that was asked for least recently ends as soon as nobody uses it
# Variables that nothing reads while it is loaded: processes may differ in them. Where modules are is said to each.
_READ_LATE = ("LOOPMORPH_", "PYTEST_CURRENT_TEST", "PYTHONPATH")
_PATIENCE = 0.001  # seconds between two looks whether a process has ended


class NotForked(Exception):
    """The server cannot be had, or threads run in it; the process has to be started afresh."""


class Forked:
    """A process, as far as it is used like one of `subprocess.Popen`. It is there once `wait_for_start` returns."""

    def __init__(self, connection: socket.socket, stdin: int, stdout: int) -> None:
        """Args:
        connection: to the server, for this process alone; once it is closed, the process is killed.
        stdin: the end of a pipe that writes to it.
        stdout: the end of a pipe that reads from it.
        """
        self.stdin: IO[bytes] = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] = os.fdopen(stdout, "rb")
        self._connection = connection
        self._stream = connection.makefile("rwb")
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        self.wait_for_start(None)
        assert self._pid is not None
        return self._pid

    def say(self, message: object) -> None:
        """Tells the server something about this process."""
        write_frame(self._stream, message)

    def wait_for_start(self, deadline: float | None) -> None:
        """Waits until the process is there.

        Args:
            deadline: of `time.monotonic`; None for as long as it takes.

        Raises:
            NotForked: it will not be there.
            TimeoutError: it is not there in time.
        """
        if self._pid is not None:
            return
        if deadline is not None and not is_ready(self._connection.fileno(), deadline):
            raise TimeoutError
        try:
            self._pid = read_frame(self._stream)
        except (OSError, EOFError) as error:
            raise NotForked("the server has ended") from error
        if self._pid is None:
            raise NotForked("threads run in the server")

    def wait(self, timeout: float) -> int:
        """The exit code, negative for a signal.

        Raises:
            TimeoutError: the process does not end within so many seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                self.say("exit code?")
                code: int | None = read_frame(self._stream)
            except (OSError, EOFError):  # the server has ended, and with it all that it has forked
                return -signal.SIGKILL
            if code is not None:
                return code
            time.sleep(_PATIENCE)
        raise TimeoutError

    def close(self) -> None:
        """Kills the process, if it has not ended, and all that it has started; more often does nothing."""
        if self._connection.fileno() < 0:
            return
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            self.wait(10)
        for each in (self.stdin, self.stdout, self._stream, self._connection):
            with contextlib.suppress(OSError):  # what was not sent
                each.close()


class _Server:
    def __init__(self, module: str, path: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._owner = os.getpid()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MAIN, module],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a module that cannot be loaded is started afresh, and says why
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )

    def ask(self, descriptors: Sequence[int]) -> None:
        """Sends a request's descriptors. One message, so that processes that were forked from this one may ask, too."""
        socket.send_fds(self._control, [b"."], descriptors)

    def forget(self) -> None:
        """Ends the server once nobody uses it."""
        self._control.close()

    def end(self) -> None:
        """Ends it now, and all that it has forked."""
        self._control.close()
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait()


_servers: dict[object, _Server] = {}  # the one that was asked for last comes last
_forgotten: list[_Server] = []
_lock = threading.Lock()


def begin(module: str, path: str) -> None:
    """Starts the server of a module, unless it is there, and does not wait for it.

    Args:
        module: what `fork` takes.
        path: the `PYTHONPATH` with which it is found.
    """
    with _lock:
        _server(module, path)


def fork(module: str, arguments: Sequence[str], path: str, environment: Mapping[str, str], errors: int) -> Forked:
    """Has a process forked that runs a module's `main`.

    Args:
        module: where the `main` is. What its `preload`, if there is one, loads is loaded once, too.
        arguments: of the command line.
        path: the `PYTHONPATH` of the process.
        environment: all variables of the process. Those in which it differs from this one are set when the module is
            loaded.
        errors: the descriptor of the file that is its standard error.

    Raises:
        NotForked: the server cannot be had.
    """
    ours, theirs = socket.socketpair()
    (their_input, stdin), (stdout, their_output) = os.pipe(), os.pipe()
    forked = Forked(ours, stdin, stdout)
    descriptors = [theirs.detach(), their_input, their_output]
    try:
        descriptors += [os.open(".", os.O_PATH), os.pidfd_open(os.getpid())]
        _ask(module, path, [*descriptors, errors])
        forked.say((list(arguments), dict(environment), path))
    except (OSError, AttributeError) as error:  # a system without these, or a server that has ended
        forked.close()
        raise NotForked(str(error)) from error
    finally:
        for each in descriptors:
            os.close(each)
    return forked


def _ask(module: str, path: str, descriptors: Sequence[int]) -> None:
    with _lock:
        try:
            _server(module, path).ask(descriptors)
        except OSError:  # it has ended
            _forgotten.append(_servers.pop(_key(module)))
            _server(module, path).ask(descriptors)


def _server(module: str, path: str) -> _Server:
    key = _key(module)
    server = _servers.pop(key, None) or _Server(module, path)
    _servers[key] = server
    while len(_servers) > _MOST:
        oldest = _servers.pop(next(iter(_servers)))
        oldest.forget()
        _forgotten.append(oldest)
    return server


def _key(module: str) -> object:
    """What processes of one server have in common: all that counts while modules are loaded, and what is inherited."""
    variables = frozenset(item for item in os.environ.items() if not item[0].startswith(_READ_LATE))
    kinds = sorted(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
    return module, variables, frozenset(os.sched_getaffinity(0)), tuple(map(resource.getrlimit, kinds))


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


@atexit.register
def _end() -> None:
    for server in (*_servers.values(), *_forgotten):
        server.end()


os.register_at_fork(after_in_child=_after_fork)
