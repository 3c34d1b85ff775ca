"""The worker process: what it computes, and that a crash or a hang costs one job only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import loopmorph
from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.pipelines.measure.worker import Worker, patience
from loopmorph.pipelines.measure.worker_protocol import RunJob, TimeJob

DOUBLE = """
func.func @main(%w: memref<8xf32> {morph.param = "w"}, %x: memref<8xf32> {morph.input = 0},
                %y: memref<8xf32> {morph.output = 0}) {
  affine.for %i = 0 to 8 {
    %0 = affine.load %x[%i] : memref<8xf32>
    %1 = affine.load %w[%i] : memref<8xf32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %y[%i] : memref<8xf32>
  }
  return
}
"""
# Stores far outside of the memref: nothing checks the indices of compiled code.
SEGFAULT = DOUBLE.replace(
    "affine.store %2, %y[%i]", "%far = arith.constant 100000000000 : index\n memref.store %2, %y[%far]"
)
# 2 ** 60 iterations, each of which depends on the one before.
ENDLESS = """
func.func @main(%x: memref<1xf32> {morph.input = 0}, %y: memref<1xf32> {morph.output = 0}) {
  affine.for %i = 0 to 1152921504606846976 {
    %0 = affine.load %y[0] : memref<1xf32>
    %1 = math.sin %0 : f32
    affine.store %1, %y[0] : memref<1xf32>
  }
  return
}
"""
W, X = np.arange(8, dtype=np.float32), np.full(8, 2, dtype=np.float32)
GOOD = RunJob(DOUBLE, {"w": W}, [X])


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def check_alive(worker: Worker) -> None:
    (y,) = worker.run(GOOD).outputs
    np.testing.assert_array_equal(y, W * X)


def test_runs_a_module(worker: Worker) -> None:
    check_alive(worker)


def test_crash_fails_its_job_only(worker: Worker) -> None:
    with pytest.raises(CompilationFailed, match="worker killed by SIGSEGV while compiling and running a module"):
        worker.run(RunJob(SEGFAULT, {"w": W}, [X]))
    check_alive(worker)


def test_hang_fails_its_job_only(worker: Worker) -> None:
    with pytest.raises(CompilationFailed, match="worker killed after its time limit of 2 s"):
        worker.run(RunJob(ENDLESS, {}, [X[:1]]), limit=2)
    check_alive(worker)


@pytest.mark.parametrize(
    ("module", "match"),
    [
        ("func.func @main(", "does not parse"),
        ("func.func @other() { return }", "needs a function @main"),
        (DOUBLE.replace("%1 = affine.load", '"test.unknown"() : () -> ()\n %1 = affine.load'), "'test.unknown'"),
        (DOUBLE.replace("{morph.input = 0}", ""), "cannot be passed"),
    ],
)
def test_bad_modules_are_reported_without_a_crash(worker: Worker, module: str, match: str) -> None:
    with pytest.raises(CompilationFailed, match=match):
        worker.run(RunJob(module, {"w": W}, [X]))
    check_alive(worker)


def test_arrays_of_a_wrong_size_are_refused(worker: Worker) -> None:
    with pytest.raises(CompilationFailed, match="an array of 16 bytes where the module takes 32"):
        worker.run(RunJob(DOUBLE, {"w": W}, [X[:4]]))


def test_a_parameter_that_is_not_given_is_refused(worker: Worker) -> None:
    with pytest.raises(CompilationFailed, match="nothing was given for the module's param 'w'"):
        worker.run(RunJob(DOUBLE, {"v": W}, [X]))


def test_lack_of_memory_fails_its_job_only() -> None:
    huge = DOUBLE.replace("func.func @main(", "func.func @main(%big: memref<40000000000xf32> {morph.input = 1}, ")
    huge = huge.replace(
        "%1 = affine.load %w[%i]",
        "%z = affine.load %big[%i] : memref<40000000000xf32>\n"
        "affine.store %z, %y[%i] : memref<8xf32>\n %1 = affine.load %w[%i]",
    )
    with Worker(memory_limit=16 * 2**30) as worker:
        with pytest.raises(CompilationFailed, match="out of memory"):
            worker.run(RunJob(huge, {"w": W}, [X]))
        check_alive(worker)


def test_times_modules_in_turns(worker: Worker) -> None:
    seconds = worker.run(TimeJob([DOUBLE, DOUBLE.replace("mulf", "addf")], rounds=5)).seconds
    assert [len(samples) for samples in seconds] == [5, 5]
    assert all(sample > 0 for samples in seconds for sample in samples)


@pytest.mark.parametrize("threads", [1, 2])
def test_cold_samples_are_single_calls(worker: Worker, threads: int) -> None:
    (warm,), (cold,) = (
        worker.run(TimeJob([DOUBLE], rounds=3, cold=cold, threads=threads)).seconds for cold in (0, 1 << 20)
    )
    assert len(cold) == len(warm) == 3
    assert all(sample > 0 for sample in cold)


def test_a_spent_budget_ends_the_rounds(worker: Worker) -> None:
    seconds = worker.run(TimeJob([DOUBLE], rounds=1000, least_rounds=2, budget=0)).seconds
    assert [len(samples) for samples in seconds] == [2]


def test_a_large_network_is_given_more_time() -> None:
    alone, *larger = (patience(job) for job in (GOOD, RunJob(GOOD.module + " " * 10**6, {}, []), TimeJob([DOUBLE] * 2)))
    assert 60 < alone < 62 and larger[0] > 300
    assert patience(TimeJob([DOUBLE], budget=100)) > alone + 90 and larger[1] > alone


def test_wrong_arguments(worker: Worker) -> None:
    with pytest.raises(ArgumentError, match="'limit': expected a positive number of seconds, got 0"):
        worker.run(GOOD, limit=0)
    with pytest.raises(ArgumentError, match="'rounds': expected a positive number, got 0"):
        TimeJob([DOUBLE], rounds=0)
    with pytest.raises(ArgumentError, match="'threads': expected a positive number, got 0"):
        Worker(threads=0)


def test_the_worker_imports_no_torch() -> None:
    code = "import sys, loopmorph.pipelines.measure.worker_main; sys.exit('torch' in sys.modules)"
    package = Path(loopmorph.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=package, check=False).returncode == 0


def test_the_worker_ends_with_its_parent() -> None:
    code = (
        "import os, sys, numpy\n"
        "from loopmorph.pipelines.measure.worker import Worker\n"
        "from loopmorph.pipelines.measure.worker_protocol import RunJob\n"
        f"worker = Worker(); worker.run(RunJob({DOUBLE!r}, {{'w': numpy.zeros(8, 'f')}}, [numpy.zeros(8, 'f')]))\n"
        "print(worker.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    package = Path(loopmorph.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert _ends(int(done.stdout))


def test_a_worker_at_work_ends_with_its_parent() -> None:
    code = (
        "import threading, time, numpy, os\n"
        "from loopmorph.pipelines.measure.worker import Worker\n"
        "from loopmorph.pipelines.measure.worker_protocol import RunJob\n"
        "x = numpy.zeros(8, 'f'); worker = Worker()\n"
        f"worker.run(RunJob({DOUBLE!r}, {{'w': x}}, [x]))\n"
        f"endless = RunJob({ENDLESS!r}, {{}}, [x[:1]])\n"
        "threading.Thread(target=worker.run, args=[endless], daemon=True).start()\n"
        "time.sleep(1); print(worker.pid, flush=True); os.kill(os.getpid(), 15)\n"
    )
    package = Path(loopmorph.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert _ends(int(done.stdout))


def test_close_ends_the_worker() -> None:
    worker = Worker()
    worker.run(GOOD)
    pid = worker.pid
    assert pid is not None
    worker.close()
    assert worker.pid is None
    assert _ends(pid)


def _ends(pid: int) -> bool:
    for _ in range(200):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # ended; nobody has collected it
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False
