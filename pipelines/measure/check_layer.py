"""One layer of a program, compiled alone, against the module that stands for it in PyTorch."""

from __future__ import annotations

import torch
from torch import nn
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.nest import functions
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import RunJob
from loopmorph.pipelines.oracle.surgery import raise_layer
from loopmorph.pipelines.program import Program

TOLERANCE = 1e-4  # largest difference from PyTorch that is accepted, as a share of the largest output


def check_layer(program: Program, name: str, worker: Worker, *, seed: int = 0, limit: float = 60.0) -> float:
    """The relative error of a layer's compiled code, on random inputs.

    Args:
        program: the program.
        name: the layer's qualified name.
        worker: compiles and runs.
        seed: of the inputs.
        limit: seconds after which the worker is killed.

    Raises:
        ArgumentError: no such layer.
        IllegalTransform: no module can stand for the layer.
        CompilationFailed: it cannot be compiled, crashes, hangs, or differs from PyTorch.
    """
    layer = extract_layer(program.module.operation, name)
    generator = torch.Generator().manual_seed(seed)
    parameters, shapes = _interface(layer)
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    module = raise_layer(program, name).eval()
    with torch.no_grad():
        expected = module(*(_as_taken(module, x) for x in inputs))
    values = {key: program.parameters[key].numpy(force=True) for key in parameters}
    reply = worker.run(RunJob(str(layer), values, [x.numpy() for x in inputs]), limit=limit)
    return require_close(torch.from_numpy(reply.outputs[0]), expected, f"layer '{name}'")


def _interface(layer: ir.Module) -> tuple[list[str], list[list[int]]]:
    """The parameters that an extracted layer reads, and the shapes of its inputs, by position."""
    (function,) = functions(layer.operation)
    marked = list(zip(function.entry_block.arguments, marks.argument_marks(function), strict=True))
    parameters = [ir.StringAttr(m[marks.PARAM]).value for _, m in marked if marks.PARAM in m]
    return parameters, [list(ir.MemRefType(argument.type).shape) for argument, m in marked if marks.INPUT in m]


def _as_taken(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the module takes: a linear layer may read (a part of) a map (N, C, H, W) that the network flattens."""
    if not isinstance(module, nn.Linear) or x.dim() == 2:
        return x
    return x.flatten(1) if x.shape[-1] < module.in_features or x[0].numel() == module.in_features else x


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference, as a share of the largest absolute value expected."""
    return float((result - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def require_close(result: torch.Tensor, expected: torch.Tensor, where: str) -> float:
    """The relative error.

    Raises:
        CompilationFailed: shapes differ, or the error exceeds `TOLERANCE`.
    """
    if result.shape != expected.shape:
        raise CompilationFailed(f"{where}: compiled shape {tuple(result.shape)}, PyTorch's {tuple(expected.shape)}")
    error = relative_error(result, expected)
    if not error <= TOLERANCE:
        raise CompilationFailed(f"{where}: compiled code differs from PyTorch by {error:.1e} of the largest output")
    return error
