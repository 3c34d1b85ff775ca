"""Commands for tests of a shell, which start hundreds of them: each is forked from a process that has loaded it.

That process ends with whoever has called `begin`. What runs `client.py SOCKET MODULE ARGUMENTS` runs
`python -m MODULE ARGUMENTS` there, in its own folder and environment, with its own input and output.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import marshal
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

_MOST = 128  # requests that wait until everything is loaded


def begin(loaded: Sequence[str], environment: Mapping[str, str]) -> str:
    """Starts the process, and does not wait for it.

    Args:
        loaded: what it is to load: modules, and as `module:function` what it is to call for what is loaded later.
        environment: variables that it needs for that.

    Returns:
        the socket that `client.py` takes.
    """
    folder = tempfile.mkdtemp()  # which nobody else may enter; its name is short enough for a socket's
    path = os.path.join(folder, "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(_MOST)
        subprocess.Popen(
            [sys.executable, __file__, str(listening.fileno()), folder, *loaded],
            stdin=subprocess.PIPE,  # which hangs up when this process ends
            env={**os.environ, **environment},
            pass_fds=[listening.fileno()],
        )
    return path


class _Server:
    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        self._selector.register(0, selectors.EVENT_READ)
        self._ended, wake = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._ended, selectors.EVENT_READ)
        self._running: dict[int, socket.socket] = {}  # connections by process

    def serve(self) -> tuple[Any, ...] | None:
        """Forks as it is asked; returns a request in each process that it has forked, and None here, in the end."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    return None
                if key.fileobj is self._listening:
                    request = self._fork(self._listening.accept()[0])
                    if request is not None:
                        return request
                elif key.fileobj == self._ended:
                    self._collect()
                else:
                    self._give_up(key.fileobj)

    def _fork(self, connection: socket.socket) -> tuple[Any, ...] | None:
        head, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as stream:
            request: tuple[Any, ...] = marshal.loads(stream.read(int.from_bytes(head, "little")))
        process = os.fork()
        if process == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (*self._running.values(), connection, self._listening):
                each.close()
        for number, each in enumerate(descriptors):
            if process == 0:
                os.dup2(each, number)
            os.close(each)
        if process == 0:
            return request
        self._running[process] = connection
        self._selector.register(connection, selectors.EVENT_READ)
        return None

    def _collect(self) -> None:
        """Tells those whose processes have ended how."""
        os.read(self._ended, 4096)
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                connection = self._running.pop(found[0])
                with contextlib.suppress(OSError):
                    connection.sendall(str(os.waitstatus_to_exitcode(found[1])).encode())
                self._forget(connection)

    def _give_up(self, connection: object) -> None:
        """Ends the process of one who has gone away, after a time limit for instance."""
        for process, its in self._running.items():
            if its is connection:
                os.kill(process, signal.SIGKILL)
                self._selector.unregister(its)

    def _forget(self, connection: socket.socket) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()


def _run(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """What `python -m` does, in a process that has just been forked."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False, buffering=1 if number == 2 else -1)  # noqa: SIM115 - they stay
        for number, mode in enumerate("rww")
    )
    sys.argv = [module, *arguments]
    sys.path[0] = folder
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    listening, folder, *loaded = sys.argv[1:]
    sys.path[0] = os.getcwd()
    for module, _, function in (each.partition(":") for each in loaded):
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()
    gc.freeze()
    request = _Server(socket.socket(fileno=int(listening))).serve()
    if request is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _run(*request)


if __name__ == "__main__":
    main()
