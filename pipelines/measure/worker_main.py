"""The worker's side of `loopmorph.pipelines.measure.worker`: compiles, runs and times modules until its input ends.

Started as `python -m loopmorph.pipelines.measure.worker_main`. It imports no torch, so that it starts fast. Requests
are pairs of job and time limit.
"""

from __future__ import annotations

import math
import resource
import signal
import statistics
import sys
import time
from functools import lru_cache
from typing import get_args

import numpy as np
from torch_mlir import ir

from loopmorph.passes.errors import LoopmorphError
from loopmorph.passes.target.detect import resolve_target
from loopmorph.pipelines.codegen.jit import compile_module
from loopmorph.pipelines.codegen.memory import allocate_for
from loopmorph.pipelines.codegen.native import NativeCode, NativeFunction
from loopmorph.pipelines.codegen.signature import Role
from loopmorph.pipelines.measure.eviction import Eviction
from loopmorph.pipelines.measure.worker_protocol import Reply, RunJob, TimeJob
from loopmorph.pipelines.support.serving import Tell, serve

SMALLEST_SAMPLE = 1e-3  # seconds; a shorter kernel is called several times for one sample
_WARM_UP = 2
_REMEMBERED = 64  # compiled modules: one and the same is compared with many
# Seconds after a job's limit when the alarm, whose default action needs no Python, ends a worker without a parent.
_GRACE = 5
Memory = dict[tuple[str, str | int], np.ndarray]


def perform(job: RunJob | TimeJob | None) -> Reply:
    """Does one job; what loopmorph raises on purpose, and a lack of memory, become part of the reply."""
    if job is None:  # only to know that the worker is there
        return Reply()
    try:
        if isinstance(job, RunJob):
            return Reply(outputs=_run(job))
        return Reply(seconds=_time(job))
    except LoopmorphError as error:
        return Reply(error=str(error))
    except ir.MLIRError as error:
        return Reply(error=f"the module does not parse: {str(error).splitlines()[0]}")
    except MemoryError:
        return Reply(error="out of memory")


def _compile(text: str | bytes, job: RunJob | TimeJob) -> NativeCode:
    return _compiled(text, job.target, job.threads or 1)


@lru_cache(maxsize=_REMEMBERED)
def _compiled(text: str | bytes, target: str | None, threads: int) -> NativeCode:
    context = ir.Context()
    context.allow_unregistered_dialects = True
    with context, ir.Location.unknown():
        return compile_module(ir.Module.parse(text), resolve_target(target), threads)


def _run(job: RunJob) -> list[np.ndarray]:
    compiled = _compile(job.module, job)
    memory = _bind(compiled)
    given: Memory = {("param", name): array for name, array in job.parameters.items()}
    given.update((("input", position), array) for position, array in enumerate(job.inputs))
    for (role, key), content in memory.items():
        if (role, key) in given:
            _fill(content, given[role, key])
        elif role in ("param", "input"):
            raise LoopmorphError(f"nothing was given for the module's {role} '{key}'")
    compiled.prepare()
    compiled.run()
    outputs = sorted((int(a.key), a) for a in compiled.run.arguments if a.role == "output")
    return [memory["output", key].view(argument.dtype).reshape(argument.shape) for key, argument in outputs]


def _time(job: TimeJob) -> list[list[float]]:
    """Seconds per call: for each module one sample a round, the modules taking turns within a round."""
    compiled = [_compile(text, job) for text in job.modules]
    random = np.random.default_rng(0)
    kept = []
    for module in compiled:
        memory = _bind(module)
        _randomise(module, memory, random)
        kept.append(memory)
        module.prepare()
    evict = Eviction(job.cold, job.threads or 1) if job.cold else None
    deadline = time.perf_counter() + job.budget
    calls = [1 if evict else _calls_per_sample(module.run) for module in compiled]
    samples: list[list[float]] = [[] for _ in compiled]
    for done in range(job.rounds):
        for module, memory, count, seconds in zip(compiled, kept, calls, samples, strict=True):
            if evict:
                evict(keep=[array for (role, _), array in memory.items() if role not in ("param", "packed")])
            seconds.append(_sample(module.run, count))
        if time.perf_counter() > deadline and done >= job.least_rounds - 1:
            break
    return samples


def _calls_per_sample(function: NativeFunction) -> int:
    """Warms up, and chooses a batch long enough for the clock."""
    once = statistics.median(_sample(function, 1) for _ in range(_WARM_UP))
    return max(1, round(SMALLEST_SAMPLE / max(once, 1e-7)))


def _sample(function: NativeFunction, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - started) / calls


def _bind(compiled: NativeCode) -> Memory:
    functions = (compiled.prepare, compiled.run)
    memory: Memory = {**allocate_for([f.arguments for f in functions], get_args(Role))}
    for function in functions:
        for position, argument in enumerate(function.arguments):
            function.bind(position, memory[argument.role, argument.key].ctypes.data)
    return memory


def _fill(target: np.ndarray, array: np.ndarray) -> None:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if data.nbytes != target.nbytes:
        raise LoopmorphError(f"an array of {data.nbytes} bytes where the module takes {target.nbytes}")
    target[:] = data


def _randomise(compiled: NativeCode, memory: Memory, random: np.random.Generator) -> None:
    """Fills parameters and inputs with numbers around 1: positive, so that variances have roots, and no denormals.

    The scratch, in which a layer cut out of its network finds its inputs, is filled with f32 ones.
    """
    for function in (compiled.prepare, compiled.run):
        for argument in function.arguments:
            if argument.role == "scratch":
                memory[argument.role, argument.key].view(np.float32)[:] = 1
            if argument.role in ("input", "param") and argument.dtype.startswith("float"):
                values = random.uniform(0.5, 1.5, size=argument.shape).astype(argument.dtype)
                _fill(memory[argument.role, argument.key], values)
            elif argument.role in ("input", "param"):
                memory[argument.role, argument.key][:] = 0


def _limit_memory(limit: int) -> None:
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _handle(request: tuple[RunJob | TimeJob | None, float], _tell: Tell) -> Reply:
    job, limit = request
    signal.alarm(math.ceil(limit) + _GRACE)
    try:
        return perform(job)
    finally:
        signal.alarm(0)


def main() -> None:
    """Serves jobs until the input ends; the one argument is the limit of address space in bytes, 0 for none."""
    _limit_memory(int(sys.argv[1]))
    serve(_handle)


if __name__ == "__main__":
    main()
