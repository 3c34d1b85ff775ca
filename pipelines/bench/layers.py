"""Each layer of a compiled program, timed within the network, so that a slow one shows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.lowering.print_slow_code import SlowNest, slow_nests
from loopmorph.passes.lowering.to_llvm import plan_functions
from loopmorph.passes.nest import Nest, functions, nests
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.bench.result import LayerRow, SlowRow
from loopmorph.pipelines.measure.profile import profile
from loopmorph.pipelines.network import Network, copy_module
from loopmorph.pipelines.support.collection import paused_collection

_FUSED = "it is computed in the nests of other layers"


def time_layers(
    program: Network,
    threads: int,
    peak_gflops: float,
    progress: Callable[[int, int], None],
    *,
    target: Target | None = None,
    calls: int = 40,
) -> tuple[LayerRow, ...]:
    """Times the layers that are contractions or other reductions (pooling, means) within the network.

    Layers that compute element by element are among them where they have nests of their own, and do not run in others'.

    Args:
        program: the program that was compiled.
        threads: number of threads.
        peak_gflops: 1e9 f32 operations a second that the machine can do with them.
        progress: called with the number of layers done and of all.
        target: the processor that it was compiled for; this computer by default.
        calls: how many calls of the network count.

    Returns:
        One row a layer, in program order.

    Raises:
        CompilationFailed: an operation that cannot be lowered.
    """
    module = program.module.operation
    reducing = {nest.layer for nest in nests(module) if nest.role == marks.MAIN and _reduces(nest)}
    progress(0, len(reducing))
    seconds = profile(program, threads, target, calls=calls).seconds
    layers = [layer for layer in program.layers if layer.name in reducing or layer.name in seconds]
    first: dict[str, str] = {}  # code without names -> the first layer with it
    rows = []
    for done, layer in enumerate(layers, start=1):
        row = _described(program, LayerRow(layer.name, dict(layer.extents), layer.macs, 0), first)
        rows.append(_timed(row, seconds.get(layer.name), peak_gflops))
        progress(done, len(layers))
    return tuple(rows)


def explain_slow(
    program: Network, threads: int, target: Target | None, layers: Sequence[LayerRow], total_ms: float
) -> tuple[SlowRow, ...]:
    """The nests of the compiled program that could run faster, with the time of their layers; the slowest layers first.

    Args:
        program: the program that was compiled.
        threads: number of threads.
        target: the processor that it was compiled for; this computer by default.
        layers: its layers, timed.
        total_ms: milliseconds of a call.
    """
    processor = resolve_target(target)
    module = copy_module(program.module)
    with paused_collection():
        plan_functions(module, processor, threads)
    times = {row.name: row.ms for row in layers}
    found = [
        _explained(slow, times.get(slow.layer), total_ms) for slow in slow_nests(module.operation, processor.lanes)
    ]
    return tuple(sorted(found, key=lambda row: -(row.ms or 0.0)))


def _explained(slow: SlowNest, ms: float | None, total_ms: float) -> SlowRow:
    share = None if ms is None else ms / total_ms
    return SlowRow(slow.layer, slow.role, dict(slow.extents), slow.work, slow.reasons, ms, share)


def _described(program: Network, row: LayerRow, first: dict[str, str]) -> LayerRow:
    """The row with what is known of the layer without timing it."""
    try:
        alone = program.layer_module(row.name)
    except ArgumentError:  # nests in several functions, or sums that others write to as well
        return row
    (function,) = functions(alone.operation)
    name = first.setdefault(_without_names(str(function)), row.name)
    return replace(row, bytes=_traffic(function), same_as=name if name != row.name else None)


def _timed(row: LayerRow, seconds: float | None, peak_gflops: float) -> LayerRow:
    if seconds is None:
        return replace(row, note=_FUSED)
    gflops = 2 * row.macs / seconds / 1e9 if row.macs else None
    share = gflops / peak_gflops if gflops is not None else None
    return replace(row, ms=seconds * 1e3, gflops=gflops, share_of_peak=share)


def _reduces(nest: Nest) -> bool:
    """Whether the nest accumulates into what it stores."""
    stored = [store.memref for store in nest.stores]
    return any(load.memref in stored for load in nest.loads)


def _traffic(function: func.FuncOp) -> int:
    """Bytes of all memrefs that go in and out."""
    return sum(_nbytes(argument.type) for argument in function.entry_block.arguments)


def _nbytes(type_: ir.MemRefType) -> int:
    bits = int(re.sub(r"\D", "", str(type_.element_type)))
    return math.prod(type_.shape) * math.ceil(bits / 8)


def _without_names(text: str) -> str:
    return re.sub(r'morph\.\w+ = "[^"]*"', "", text)
