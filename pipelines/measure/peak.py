"""What this machine can do at most, measured: f32 arithmetic, and bandwidth of memory beyond the caches.

The two are the roofs of a roofline picture (Williams, Waterman, Patterson: Roofline, CACM 2009).
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch_mlir import ir
from torch_mlir.execution_engine import ExecutionEngine
from torch_mlir.passmanager import PassManager

from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.memory import allocate

_FMA_STEPS = 2_000_000  # about 10 ms for one call of the kernel
_SAMPLES = 60
_LARGEST_TRIAD = 512 << 20  # bytes of the three arrays of all threads together
_LARGEST_CACHE = 32 << 20  # bytes
_LOWER = (
    "builtin.module(func.func(lower-affine),convert-scf-to-cf,convert-vector-to-llvm,finalize-memref-to-llvm,"
    "convert-arith-to-llvm,convert-index-to-llvm,convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},"
    "convert-cf-to-llvm,reconcile-unrealized-casts)"
)


@dataclass(frozen=True)
class Peak:
    """The roofs of a machine for a number of threads.

    Attributes:
        threads: how many ran at once.
        gflops: 1e9 f32 operations a second; a fused multiply-add counts as two.
        bandwidth: 1e9 bytes a second between the cores and memory.
    """

    threads: int
    gflops: float
    bandwidth: float

    def roof(self, intensity: float) -> float:
        """The most GFLOP/s that code of this arithmetic intensity (operations a byte of memory traffic) can reach."""
        return min(self.gflops, intensity * self.bandwidth)


@cache
def measure_peak(threads: int = 1) -> Peak:
    """Measures the roofs, once a process for each number of threads; takes about a second.

    Arithmetic is measured with chains of multiply-adds on registers, more of them than a chain's latency times the
    units that work in parallel; bandwidth with the triad `a = b + s * c` on arrays larger than the caches, 12 bytes
    an element (STREAM's count: the read of a line that is about to be overwritten does not count).

    Args:
        threads: threads that run the kernels at once.

    Raises:
        ArgumentError: `threads` is not a positive number.
        CompilationFailed: the kernels cannot be compiled.
    """
    if threads < 1:
        raise ArgumentError("threads", f"expected a positive number of threads, got {threads}")
    gflops, bandwidth = _measure_arithmetic(threads) / 1e9, _measure_bandwidth(threads) / 1e9
    if threads > 1:  # on a busy machine, several threads together may come out slower than one
        one = measure_peak(1)
        gflops, bandwidth = max(gflops, one.gflops), max(bandwidth, one.bandwidth)
    return Peak(threads, gflops, bandwidth)


def fma_kernel(unit: Target, steps: int, chains: int | None = None) -> tuple[str, int]:
    """A function `@kernel(%factors: memref<2 x lanes>, %sums: memref<chains x lanes>)` that only multiplies and adds.

    Args:
        unit: the vector registers.
        steps: iterations of its loop.
        chains: how many sums there are; by default three quarters of the registers, since the factors, and what LLVM
            needs besides, take some too.

    Returns:
        The function as MLIR text, and its number of chains. The f32 operations of a call are
        2 * chains * lanes * steps.
    """
    chains = 3 * unit.registers // 4 if chains is None else chains
    vector, memref = f"vector<{unit.lanes}xf32>", f"memref<{chains}x{unit.lanes}xf32>"
    numbers = range(chains)
    loads = [f"%s{k} = affine.vector_load %sums[{k}, 0] : {memref}, {vector}" for k in numbers]
    steps_text = []
    for k in numbers:
        steps_text.append(f"%p{k} = arith.mulf %a{k}, %x fastmath<contract> : {vector}")
        steps_text.append(f"%n{k} = arith.addf %p{k}, %y fastmath<contract> : {vector}")
    carried = ", ".join(f"%a{k} = %s{k}" for k in numbers)
    types = ", ".join([vector] * chains)
    stores = [f"affine.vector_store %r#{k}, %sums[{k}, 0] : {memref}, {vector}" for k in numbers]
    lines = [
        f"func.func @kernel(%factors: memref<2x{unit.lanes}xf32>, %sums: {memref}) {{",
        f"%x = affine.vector_load %factors[0, 0] : memref<2x{unit.lanes}xf32>, {vector}",
        f"%y = affine.vector_load %factors[1, 0] : memref<2x{unit.lanes}xf32>, {vector}",
        *loads,
        f"%r:{chains} = affine.for %i = 0 to {steps} iter_args({carried}) -> ({types}) {{",
        *steps_text,
        f"affine.yield {', '.join(f'%n{k}' for k in numbers)} : {types}",
        "}",
        *stores,
        "return }",
    ]
    return "\n".join(lines), chains


def triad_kernel(unit: Target, elements: int) -> str:
    """A function `@kernel(%a, %b, %c: memref<elements>)` that computes `a = b + 0.5 * c`, as MLIR text.

    Args:
        unit: the vector registers.
        elements: f32 numbers in each array, a multiple of the lanes.
    """
    vector, memref = f"vector<{unit.lanes}xf32>", f"memref<{elements}xf32>"
    return f"""
func.func @kernel(%a: {memref}, %b: {memref}, %c: {memref}) {{
  %s = arith.constant dense<0.5> : {vector}
  affine.for %i = 0 to {elements} step {unit.lanes} {{
    %x = affine.vector_load %b[%i] : {memref}, {vector}
    %y = affine.vector_load %c[%i] : {memref}, {vector}
    %p = arith.mulf %y, %s fastmath<contract> : {vector}
    %z = arith.addf %x, %p fastmath<contract> : {vector}
    affine.vector_store %z, %a[%i] : {memref}, {vector}
  }}
  return
}}"""


class Kernel:
    """A compiled `@kernel` whose arguments are float32 arrays; other Python threads go on while it runs."""

    def __init__(self, text: str) -> None:
        """Compiles MLIR text.

        Raises:
            CompilationFailed: it cannot be lowered.
        """
        try:
            with ir.Context(), ir.Location.unknown():
                module = ir.Module.parse(text)
                PassManager.parse(_LOWER).run(module.operation)
                self._engine = ExecutionEngine(module, opt_level=3, shared_libs=[])  # owns the code
        except (ir.MLIRError, RuntimeError) as error:
            raise CompilationFailed(f"cannot compile a kernel: {str(error).splitlines()[0]}") from error
        self._code = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._engine.raw_lookup("kernel"))

    def bind(self, *arrays: np.ndarray) -> Callable[[], None]:
        """A call on these arrays, which are written in place."""
        values = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        pointers = [ctypes.addressof(values) + ctypes.sizeof(ctypes.c_void_p) * k for k in range(len(arrays))]
        slots = (ctypes.c_void_p * len(arrays))(*pointers)
        kept = (arrays, values)

        def call() -> None:
            assert kept  # the memory lives as long as the call
            self._code(slots)

        return call


def _measure_arithmetic(threads: int) -> float:
    unit = native_target()
    text, chains = fma_kernel(unit, _FMA_STEPS)
    kernel = Kernel(text)
    calls = []
    for _ in range(threads):
        factors, sums = array(2 * unit.lanes), array(chains * unit.lanes)
        factors[:] = 0.5  # the sums tend to 1: neither denormal nor infinite
        calls.append(kernel.bind(factors, sums))
    return 2 * chains * unit.lanes * _FMA_STEPS * threads / best_seconds(calls)


def _measure_bandwidth(threads: int) -> float:
    unit = native_target()
    total = min(_LARGEST_TRIAD, max(192 << 20, 12 * largest_cache()))
    elements = total // 12 // threads // unit.lanes * unit.lanes
    kernel = Kernel(triad_kernel(unit, elements))
    calls = [kernel.bind(*(array(elements) for _ in range(3))) for _ in range(threads)]
    return 12 * elements * threads / best_seconds(calls)


def best_seconds(calls: Sequence[Callable[[], None]], samples: int = _SAMPLES) -> float:
    """The shortest time from the first call's start to the last one's end, each in its own thread, begun together."""
    gate = threading.Barrier(len(calls))
    spans: list[list[tuple[float, float]]] = [[] for _ in calls]

    def work(call: Callable[[], None], mine: list[tuple[float, float]]) -> None:
        call()  # the first touch of memory and code
        for _ in range(samples):
            gate.wait()
            started = time.perf_counter()
            call()
            mine.append((started, time.perf_counter()))

    workers = [threading.Thread(target=work, args=pair) for pair in zip(calls, spans, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rounds = zip(*spans, strict=True)
    return min(max(end for _, end in each) - min(start for start, _ in each) for each in rounds)


def array(elements: int) -> np.ndarray:
    """That many float32 ones, in memory of their own."""
    array = allocate(4 * elements).view(np.float32)
    array[:] = 1.0
    return array


def largest_cache() -> int:
    """Bytes of this computer's largest cache, 32 MiB where the system does not say."""
    return native_target().l3_bytes or _LARGEST_CACHE
