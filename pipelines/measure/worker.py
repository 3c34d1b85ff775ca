"""A subprocess that compiles, runs and times modules, so that a crash or a hang of one costs that one alone."""

from __future__ import annotations

import dataclasses
import threading
from types import TracebackType

from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.measure.worker_protocol import Reply, RunJob, TimeJob
from loopmorph.pipelines.support.service import Service, ServiceEnded, ServiceTimedOut

MAIN = "loopmorph.pipelines.measure.worker_main"
_START_LIMIT = 60.0  # seconds in which a fresh worker has to be ready
_PATIENCE = 60.0  # seconds for any job
_SLOWEST = 2000  # characters of modules that are compiled in a second, on a computer that has much else to do


def patience(job: RunJob | TimeJob) -> float:
    """The seconds after which a job does not come to its end any more: a large network takes long to compile."""
    modules = [job.module] if isinstance(job, RunJob) else job.modules
    budget = job.budget if isinstance(job, TimeJob) else 0.0
    return _PATIENCE + budget + sum(map(len, modules)) / _SLOWEST


class Worker:
    """A worker process, started with the first job and again after each one that killed it; a context manager.

    One job at a time; calls from several threads wait for each other. The worker ends with its parent.
    """

    def __init__(self, *, threads: int = 1, target: Target | None = None, memory_limit: int | None = None) -> None:
        """Args:
            threads: number of threads of compiled code, for jobs that do not say it, and `OMP_NUM_THREADS`.
            target: the processor that code is generated for, for jobs that do not say it; this computer by default.
            memory_limit: bytes of address space that it may use; None for no limit.

        Raises:
            ArgumentError: a count that is not positive.
        """
        for name, value in (("threads", threads), ("memory_limit", memory_limit)):
            if value is not None and value < 1:
                raise ArgumentError(name, f"expected a positive number, got {value}")
        self.threads = threads
        self.target = resolve_target(target)
        self._memory_limit = memory_limit
        self._lock = threading.Lock()
        self._service: Service | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: RunJob | TimeJob, *, limit: float | None = None) -> Reply:
        """Has one job done.

        Args:
            job: what to do.
            limit: seconds of wall time after which the worker is killed; its start does not count. None for what is
                enough for modules of such a length (see `patience`).

        Raises:
            ArgumentError: a limit that is not positive.
            CompilationFailed: the module cannot be compiled, or the worker crashed, ran out of memory or out of time.
        """
        limit = patience(job) if limit is None else limit
        if not 0 < limit < float("inf"):
            raise ArgumentError("limit", f"expected a positive number of seconds, got {limit}")
        threads, target = job.threads or self.threads, job.target or str(self.target)
        job = dataclasses.replace(job, threads=threads, target=target)
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
        return self._service.pid if self._service is not None else None

    def close(self) -> None:
        """Ends the worker process; a later job starts another."""
        with self._lock:
            self._stop()

    def _exchange(self, job: RunJob | TimeJob, limit: float) -> Reply:
        what = "compiling and running a module" if isinstance(job, RunJob) else "compiling and timing modules"
        try:
            if self._service is None:
                self._service = self._started()
            return self._service.ask((job, limit), limit)
        except ServiceTimedOut:
            raise CompilationFailed(f"worker killed after its time limit of {limit:g} s while {what}") from None
        except ServiceEnded as error:
            raise CompilationFailed(f"worker {str(error).removeprefix('was ')} while {what}") from error

    def _started(self) -> Service:
        environment = {"OMP_NUM_THREADS": str(self.threads)}
        service = Service(MAIN, str(self._memory_limit or 0), environment=environment, forked=True)
        try:
            service.ask((None, _START_LIMIT), _START_LIMIT)
        except ServiceTimedOut:
            service.stop()
            raise CompilationFailed(f"worker does not start within {_START_LIMIT:g} s") from None
        except BaseException:
            service.stop()
            raise
        return service

    def _stop(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            service.stop()
