"""A pool of threads that execute compiled code together, with little cost for each call.

The calling thread is thread 0; the others, the workers, spend their lives in compiled code, without Python's lock. A
worker looks for a new job for some 50 microseconds after each one and then sleeps in the kernel.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from torch_mlir import ir
from torch_mlir.execution_engine import ExecutionEngine

from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.spmd import runtime
from loopmorph.passes.target.detect import native_target

# How long a thread waits before it offers its core to other work, and how often a worker then does so before it sleeps.
# Two threads that share a core have to let each other run; an offer that nobody takes up costs 0.3 microseconds.
SPIN_SECONDS = 5e-6
IDLE_OFFERS = 100
THREADS_PER_CORE = 4  # more than this many are refused
ALIGNMENT = 128
_STOP_SECONDS = 5.0  # how long the end of the interpreter waits for a worker
SPINS_TIMED = 2000


@dataclass(frozen=True)
class _Runtime:
    """The compiled functions of `runtime.pool_text`.

    Attributes:
        engine: owns the code.
        spins_per_second: how often a waiting thread looks at memory.
    """

    engine: ExecutionEngine
    dispatch: Callable[[int], None]
    work: Callable[[int, int, int], None]
    spins_per_second: float


class ThreadPool:
    """Threads that execute one compiled function at a time; see `shared_pool`.

    The workers start with the first call, and again in a child process after a fork. Calls from several threads are
    safe; they run one after the other.
    """

    def __init__(self, threads: int) -> None:
        """Args:
            threads: number of threads, the calling one included; at least 2.

        Raises:
            ArgumentError: fewer, or a computer on which this does not work.
        """
        if threads < 2:
            raise ArgumentError("threads", f"a pool has at least 2 threads, got {threads}")
        _require_teams()
        self.threads = threads
        self.reset()

    def reset(self) -> None:
        """Forgets the workers, which do not exist in a process that has just been forked."""
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._memory = (ctypes.c_char * (runtime.STATE_BYTES + ALIGNMENT))()
        self._state = -(-ctypes.addressof(self._memory) // ALIGNMENT) * ALIGNMENT
        self._code = self._field(runtime.CODE)
        self._arguments = self._field(runtime.ARGUMENTS)
        self._stride = self._field(runtime.STRIDE)

    def run(self, code: int, arguments: int, stride: int, team: ctypes.c_int64) -> None:
        """Calls a compiled function on all threads and returns when all have returned.

        Args:
            code: address of a function of an array of pointers to its arguments.
            arguments: address of thread 0's array.
            stride: bytes from one thread's array to the next one's.
            team: the argument in which the function expects the address of the state for barriers.

        Raises:
            CompilationFailed: the workers cannot be started.
        """
        with self._lock:
            functions = _runtime()
            if not self._workers:
                self._start(functions)
            team.value = self._state
            self._set_job(code, arguments, stride)
            functions.dispatch(self._state)

    def stop(self) -> None:
        """Ends the workers; a later call starts others."""
        with self._lock:
            if self._workers:
                self._end(_runtime())

    def _start(self, functions: _Runtime) -> None:
        self._field(runtime.THREADS).value = self.threads
        crowded = self.threads > len(os.sched_getaffinity(0))
        spins = 1 if crowded else max(1, round(SPIN_SECONDS * functions.spins_per_second))
        self._field(runtime.WAIT_SPINS).value = spins
        self._field(runtime.IDLE_OFFERS).value = IDLE_OFFERS
        generation = ctypes.c_int32.from_address(self._state + runtime.GENERATION).value
        try:
            for number in range(1, self.threads):
                life = (self._state, number, generation)
                worker = threading.Thread(target=functions.work, args=life, name=f"loopmorph-{number}", daemon=True)
                worker.start()
                self._workers.append(worker)
        except RuntimeError as error:
            self._end(functions)
            raise CompilationFailed(f"cannot start {self.threads} threads: {error}") from error

    def _end(self, functions: _Runtime) -> None:
        self._set_job(0, 0, 0)
        functions.dispatch(self._state)
        for worker in self._workers:
            worker.join(_STOP_SECONDS)
        self._workers = []

    def _set_job(self, code: int, arguments: int, stride: int) -> None:
        self._code.value = code
        self._arguments.value = arguments
        self._stride.value = stride

    def _field(self, place: int) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self._state + place)


def check_threads(threads: int) -> None:
    """Raises:
    ArgumentError: a number of threads that generated code cannot run on.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ArgumentError("threads", f"expected a positive number of threads, got {threads!r}")
    cores = native_target().cores
    if threads > THREADS_PER_CORE * cores:
        limit = f"at most {THREADS_PER_CORE * cores}, {THREADS_PER_CORE} for each of this computer's {cores} cores"
        raise ArgumentError("threads", f"expected {limit}, got {threads}")
    if threads > 1:
        _require_teams()


def _require_teams() -> None:
    """Raises:
    ArgumentError: compiled threads cannot wait for each other on this computer.
    """
    if platform.system() != "Linux":
        raise ArgumentError("threads", "several threads need Linux on x86-64 or AArch64; 1 works everywhere")


def shared_pool(threads: int) -> ThreadPool:
    """The process's pool of that many threads, made with the first call.

    Raises:
        ArgumentError: fewer than 2 threads, or a computer on which this does not work.
    """
    with _pools_lock:
        if threads not in _pools:
            _pools[threads] = ThreadPool(threads)
        return _pools[threads]


def stop_pools() -> None:
    """Ends the workers of all pools; later calls start others."""
    for pool in list(_pools.values()):
        pool.stop()


@cache
def _runtime() -> _Runtime:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(runtime.pool_text(native_target().arch))
        engine = ExecutionEngine(module, opt_level=2, shared_libs=[])
    lookup = {
        name: engine.raw_lookup(runtime.PREFIX.removeprefix("_mlir_") + name)
        for name in (runtime.DISPATCH, runtime.WORK, runtime.SPIN)
    }
    missing = [name for name, address in lookup.items() if not address]
    if missing:
        raise CompilationFailed(f"LLVM has no code for the thread pool's {', '.join(missing)}")
    spin = ctypes.CFUNCTYPE(None, ctypes.c_int64)(lookup[runtime.SPIN])
    times = []
    for _ in range(5):
        started = time.perf_counter()
        spin(SPINS_TIMED)
        times.append(time.perf_counter() - started)
    return _Runtime(
        engine,
        ctypes.CFUNCTYPE(None, ctypes.c_int64)(lookup[runtime.DISPATCH]),
        ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32)(lookup[runtime.WORK]),
        SPINS_TIMED / min(times),
    )


def _after_fork() -> None:
    global _pools_lock
    _pools_lock = threading.Lock()
    for pool in _pools.values():
        pool.reset()


_pools: dict[int, ThreadPool] = {}
_pools_lock = threading.Lock()
os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop_pools)
