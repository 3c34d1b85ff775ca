"""Each layer of a compiled program, timed alone, so that a slow one shows."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable
from dataclasses import replace

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.nest import Nest, functions, nests
from loopmorph.pipelines.bench_result import LayerRow
from loopmorph.pipelines.program import Layer, Program
from loopmorph.pipelines.worker import Worker
from loopmorph.pipelines.worker_protocol import TimeJob

_ROUNDS = 20
_BUDGET = 0.5  # seconds of samples for a layer
_LIMIT = 120.0  # seconds after which a layer's compilation and timing is given up


def time_layers(
    program: Program, peak_gflops: float, worker: Worker, progress: Callable[[int, int], None]
) -> tuple[LayerRow, ...]:
    """Times the layers that are contractions or other reductions (pooling, means).

    Layers that compute element by element are left out: they run as part of others' nests.

    Args:
        program: the program that was compiled.
        peak_gflops: 1e9 f32 operations a second that the machine can do.
        worker: compiles and times.
        progress: called with the number of layers done and of all.

    Returns:
        One row a layer, in program order. Layers with the same code are timed once.
    """
    module = program.module.operation
    reducing = {nest.layer for nest in nests(module) if nest.role == marks.MAIN and _reduces(nest)}
    layers = [layer for layer in program.layers if layer.name in reducing]
    known: dict[str, LayerRow] = {}
    rows = []
    for done, layer in enumerate(layers):
        progress(done, len(layers))
        rows.append(_time_layer(module, layer, peak_gflops, worker, known))
    progress(len(layers), len(layers))
    return tuple(rows)


def _time_layer(
    module: ir.Operation, layer: Layer, peak_gflops: float, worker: Worker, known: dict[str, LayerRow]
) -> LayerRow:
    row = LayerRow(layer.name, dict(layer.extents), layer.macs, 0)
    try:
        alone = extract_layer(module, layer.name)
        text = str(alone)
        row = replace(row, bytes=_traffic(alone))
        key = _without_names(text)
        if key in known:
            same = known[key]
            return replace(same, name=layer.name, same_as=same.name)
        seconds = statistics.median(worker.run(TimeJob((text,), _ROUNDS, budget=_BUDGET), limit=_LIMIT).seconds[0])
    except (ArgumentError, CompilationFailed) as error:
        return replace(row, note=str(error))
    gflops = 2 * layer.macs / seconds / 1e9 if layer.macs else None
    share = gflops / peak_gflops if gflops is not None else None
    known[key] = replace(row, ms=seconds * 1e3, gflops=gflops, share_of_peak=share)
    return known[key]


def _reduces(nest: Nest) -> bool:
    """Whether the nest accumulates into what it stores."""
    stored = [store.memref for store in nest.stores]
    return any(load.memref in stored for load in nest.loads)


def _traffic(module: ir.Module) -> int:
    """Bytes of all memrefs that go in and out."""
    (function,) = functions(module.operation)
    return sum(_nbytes(argument.type) for argument in function.entry_block.arguments)


def _nbytes(type_: ir.MemRefType) -> int:
    bits = int(re.sub(r"\D", "", str(type_.element_type)))
    return math.prod(type_.shape) * math.ceil(bits / 8)


def _without_names(text: str) -> str:
    return re.sub(r'morph\.\w+ = "[^"]*"', "", text)
