"""A subprocess that compiles, runs and times modules, so that a crash or a hang of one costs that one alone."""

from __future__ import annotations

import dataclasses
import os
import selectors
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import loopmorph
from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.pipelines.measure.worker_protocol import Reply, RunJob, TimeJob, frame, read_frame

_MAIN = "loopmorph.pipelines.measure.worker_main"
_START_LIMIT = 60.0  # seconds in which a fresh worker has to be ready


class Worker:
    """A worker process, started with the first job and again after each one that killed it; a context manager.

    One job at a time; calls from several threads wait for each other. The worker ends with its parent.
    """

    def __init__(self, *, threads: int = 1, memory_limit: int | None = None) -> None:
        """Args:
            threads: number of threads of compiled code, for jobs that do not say it, and `OMP_NUM_THREADS`.
            memory_limit: bytes of address space that it may use; None for no limit.

        Raises:
            ArgumentError: a count that is not positive.
        """
        for name, value in (("threads", threads), ("memory_limit", memory_limit)):
            if value is not None and value < 1:
                raise ArgumentError(name, f"expected a positive number, got {value}")
        self.threads = threads
        self._memory_limit = memory_limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: RunJob | TimeJob, *, limit: float = 60.0) -> Reply:
        """Has one job done.

        Args:
            job: what to do.
            limit: seconds of wall time after which the worker is killed; its start does not count.

        Raises:
            ArgumentError: a limit that is not positive.
            CompilationFailed: the module cannot be compiled, or the worker crashed, ran out of memory or out of time.
        """
        if not 0 < limit < float("inf"):
            raise ArgumentError("limit", f"expected a positive number of seconds, got {limit}")
        if job.threads is None:
            job = dataclasses.replace(job, threads=self.threads)
        with self._lock:
            try:
                reply = self._exchange(job, limit)
            except BaseException:  # an interrupted exchange would leave half a message in the pipe
                self._stop()
                raise
        if reply.error:
            raise CompilationFailed(reply.error)
        return reply

    @property
    def pid(self) -> int | None:
        """The process id, None while no process runs."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """Ends the worker process; a later job starts another."""
        with self._lock:
            self._stop()

    def _exchange(self, job: RunJob | TimeJob, limit: float) -> Reply:
        if self._process is None:
            self._start()
        what = "compiling and running a module" if isinstance(job, RunJob) else "compiling and timing modules"
        return self._ask(job, limit, what)

    def _ask(self, job: RunJob | TimeJob | None, limit: float, what: str) -> Reply:
        assert self._process is not None
        process = self._process
        requests, replies = process.stdin, process.stdout
        assert requests is not None and replies is not None
        deadline = time.monotonic() + limit
        try:
            requests.write(frame((job, limit)))
            requests.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(replies, selectors.EVENT_READ)
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise CompilationFailed(f"worker killed after its time limit of {limit:g} s while {what}")
            return read_frame(replies)
        except (BrokenPipeError, EOFError) as error:
            raise CompilationFailed(f"worker {self._fate(process)} while {what}{self._last_words()}") from error

    def _start(self) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.threads), PYTHONPATH=_python_path())
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MAIN, str(self._memory_limit or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which then closes the worker
        )
        self._ask(None, _START_LIMIT, "starting")

    def _stop(self) -> None:
        process, self._process = self._process, None
        errors, self._errors = self._errors, None
        if process is not None:
            process.kill()
            process.communicate()
        if errors is not None:
            errors.close()

    def _fate(self, process: subprocess.Popen[bytes]) -> str:
        code = process.wait(timeout=10)
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def _last_words(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1]}" if lines else ""


def _python_path() -> str:
    """`PYTHONPATH` with which a new process finds the package as this one has: installed, or in a checkout."""
    package = str(Path(loopmorph.__file__).resolve().parent.parent)
    installed = package in [*site.getsitepackages(), site.getusersitepackages()]
    return os.pathsep.join(filter(None, ["" if installed else package, os.environ.get("PYTHONPATH", "")]))
