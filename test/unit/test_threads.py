"""The pool of threads: right results in many calls, from several threads, after a fork, and its end."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import pytest
from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.codegen.jit import compile_module
from loopmorph.pipelines.codegen.threads import ThreadPool, check_threads, shared_pool, stop_pools
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import RunJob, TimeJob

N = 37
STEPS = 6
# Each step reads what another thread wrote in the step before: y = x + STEPS + 1, turned round an odd number of times.
TEXT = (
    f"func.func @main(%x: memref<{N}xf32> {{morph.input = 0}}, %y: memref<{N}xf32> {{morph.output = 0}}) {{\n"
    "%one = arith.constant 1.0 : f32\n"
    + "".join(f"%t{k} = memref.alloc() : memref<{N}xf32>\n" for k in range(STEPS))
    + "".join(
        f"""affine.for %i = 0 to {N} {{
          %0 = affine.load {source}[{N - 1} - %i] : memref<{N}xf32>
          %1 = arith.addf %0, %one : f32
          affine.store %1, {target}[%i] : memref<{N}xf32>
        }}
        """
        for source, target in [
            ("%x", "%t0"),
            *((f"%t{k}", f"%t{k + 1}") for k in range(STEPS - 1)),
            (f"%t{STEPS - 1}", "%y"),
        ]
    )
    + "return }"
)


class Kernel:
    """The compiled program with its memory."""

    def __init__(self, threads: int) -> None:
        with ir.Context(), ir.Location.unknown():
            self.compiled = compile_module(ir.Module.parse(TEXT), native_target(), threads)
        self.x, self.y = (np.zeros(N, dtype=np.float32) for _ in range(2))
        self.scratch = np.zeros(1 << 14, dtype=np.uint8)
        memory = {"input": self.x, "output": self.y, "scratch": self.scratch}
        self.compiled.prepare()
        for position, argument in enumerate(self.compiled.run.arguments):
            self.compiled.run.bind(position, memory[argument.role].ctypes.data)

    def right(self, start: int) -> bool:
        """One call with new numbers, and whether it computed what it should."""
        self.x[:] = np.arange(start, start + N)
        self.y[:] = -1
        self.compiled.run()
        return np.array_equal(self.y, self.x[::-1] + STEPS + 1)


@pytest.fixture(scope="module", params=[2, 3, 4])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return Kernel(request.param)


def test_many_calls(kernel: Kernel) -> None:
    assert all(kernel.right(k) for k in range(500))


def test_workers_sleep_and_wake(kernel: Kernel) -> None:
    pause = threading.Event()
    for k in range(20):
        pause.wait(0.002)
        assert kernel.right(k)


def test_two_python_threads_at_once() -> None:
    kernels = [Kernel(2), Kernel(2), Kernel(3)]
    wrong: list[int] = []
    workers = [
        threading.Thread(target=lambda k=k: wrong.extend(n for n in range(300) if not k.right(n))) for k in kernels
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _in_child(kernel: Kernel, results: multiprocessing.SimpleQueue) -> None:
    results.put(all(kernel.right(k) for k in range(50)))


def test_a_fork_in_the_middle(kernel: Kernel) -> None:
    assert kernel.right(1)
    context = multiprocessing.get_context("fork")
    stop, other = threading.Event(), Kernel(2)

    def call() -> None:
        while not stop.is_set():
            other.right(3)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for _ in range(3):
            results = context.SimpleQueue()
            child = context.Process(target=_in_child, args=(kernel, results))
            child.start()
            child.join(60)
            assert child.exitcode == 0 and results.get()
            assert kernel.right(2)
    finally:
        stop.set()
        caller.join()


def test_stopped_pools_start_again(kernel: Kernel) -> None:
    for k in range(5):
        assert kernel.right(k)
        stop_pools()
        assert not [t for t in threading.enumerate() if t.name.startswith("loopmorph-")]
    assert kernel.right(7)


def test_the_interpreter_ends() -> None:
    """With workers that sleep or still look for work, and one executable that is never freed."""
    code = """
import numpy as np, sys
sys.path.insert(0, sys.argv[1])
import test_threads
kernel = test_threads.Kernel(3)
assert all(kernel.right(k) for k in range(10))
print("done")
"""
    folder = __file__.rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=60, cwd=f"{folder}/../.."
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_pools_are_shared() -> None:
    assert shared_pool(2) is shared_pool(2)
    assert shared_pool(2) is not shared_pool(3)


def test_the_worker_process_uses_threads() -> None:
    x = np.arange(N, dtype=np.float32)
    with Worker(threads=2) as worker:
        for threads in (None, 1, 3):
            (y,) = worker.run(RunJob(TEXT, {}, [x], threads=threads)).outputs
            np.testing.assert_array_equal(y, x[::-1] + STEPS + 1)
        (samples,) = worker.run(TimeJob([TEXT], rounds=2)).seconds
        assert len(samples) == 2 and min(samples) > 0


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_wrong_counts(threads: object) -> None:
    with pytest.raises(ArgumentError, match="argument 'threads': expected a positive number of threads, got"):
        check_threads(threads)  # type: ignore[arg-type]


def test_too_many_threads_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"argument 'threads': expected at most \d+, 4 for each of .* got 100000"):
        check_threads(100_000)
    with pytest.raises(ArgumentError, match="a pool has at least 2 threads, got 1"):
        ThreadPool(1)
