"""A process that loads a module once and forks processes that run it (see `fork_server.py`).

Started as `python -m loopmorph.pipelines.support.fork_server_main MODULE`; its standard input is a socket. Each message
there brings the descriptors of one request: a connection, which then says the rest; standard input and output; the
working folder; the process that asks; and the standard error. It ends once nobody can ask any more and all that it has
forked have ended.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from io import BufferedRWPair

from loopmorph.pipelines.support import serving
from loopmorph.pipelines.support.frames import read_frame, write_frame

_DESCRIPTORS = 6
_PATIENCE = 10.0  # seconds for whoever has begun a request to say the rest
_THREADS_END = 0.1  # seconds until threads that were joined before a fork have left the system's list, too


@dataclass
class _Child:
    """What the server knows of a process that it has forked."""

    pid: int
    connection: socket.socket
    stream: BufferedRWPair

    def reply(self) -> bool:
        """Answers one question for the exit code; whether there may be more.

        The process is collected only after the last one: until then nobody else gets its id.
        """
        try:
            read_frame(self.stream)
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            write_frame(self.stream, None if ended is None else _exit_code(ended))
        except (EOFError, OSError):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.close()
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        self.connection.close()


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control: socket.socket | None = control
        self._children: dict[int, _Child] = {}  # by the descriptor of the connection

    def serve(self) -> bool:
        """Forks as it is asked; returns True in each process that it has forked, and False here, in the end."""
        while self._control is not None or self._children:
            poller = select.poll()
            for descriptor in [*self._children, *([] if self._control is None else [self._control.fileno()])]:
                poller.register(descriptor, select.POLLIN)
            for descriptor, _ in poller.poll():
                if descriptor in self._children:
                    if not self._children[descriptor].reply():
                        del self._children[descriptor]
                elif self._fork():
                    return True
        return False

    def _fork(self) -> bool:
        control = self._control
        assert control is not None
        _, descriptors, _, _ = socket.recv_fds(control, 1, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not descriptors:
            control.close()
            self._control = None
            return False
        try:
            return self._perform(control, descriptors)
        finally:
            for each in descriptors[1:]:
                os.close(each)

    def _perform(self, control: socket.socket, descriptors: list[int]) -> bool:
        connection = socket.socket(fileno=descriptors[0])
        connection.settimeout(_PATIENCE)
        stream = connection.makefile("rwb")
        try:
            arguments, environment, path = read_frame(stream)
        except (EOFError, OSError):
            connection.close()
            return False
        pid = os.fork()
        if pid == 0:
            for each in (*self._children.values(), _Child(0, connection, stream)):
                each.close()
            control.close()
            _become(descriptors, arguments, environment, path)
            return True
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._children[connection.fileno()] = _Child(pid, connection, stream)
        alone = _is_alone()
        if not alone:
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            write_frame(stream, pid if alone else None)
        return False


def main() -> None:
    """Loads the module, forks until nobody asks any more, and runs the module's `main` in each forked process."""
    module = importlib.import_module(sys.argv[1])
    getattr(module, "preload", lambda: None)()
    gc.collect()
    gc.freeze()  # a collection of garbage in a forked process would copy what it looks at
    if _Server(socket.socket(fileno=os.dup(0))).serve():
        module.main()


def _become(descriptors: list[int], arguments: list[str], environment: dict[str, str], path: str) -> None:
    """Makes a process that has just been forked what a fresh one would be."""
    _, stdin, stdout, folder, client, errors = descriptors
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    for number, each in enumerate((stdin, stdout, errors)):
        os.dup2(each, number)
    os.fchdir(folder)
    serving.watch(os.dup(client))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    sys.path[:] = dict.fromkeys([*filter(None, path.split(os.pathsep)), *sys.path])
    importlib.invalidate_caches()


def _is_alone() -> bool:
    """Whether this process has one thread, right after a fork; a lock that another has held would be held for ever.

    Libraries whose threads can be forked (OpenBLAS) end them before a fork.
    """
    deadline = time.monotonic() + _THREADS_END
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > deadline:
            return False
        time.sleep(_THREADS_END / 100)
    return True


def _exit_code(ended: os.waitid_result) -> int:
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


if __name__ == "__main__":
    main()
