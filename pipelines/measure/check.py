"""Compiled code against PyTorch: one layer of a network, alone, and the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import WrongResult
from loopmorph.passes.nest import functions
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import RunJob
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import raise_layer, to_module
from loopmorph.pipelines.rewritten.nest_executor import check_supported, execute
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.support.agreement import require_close


class Checker(Protocol):
    """Compares compiled code with PyTorch."""

    def layer(self, network: Network, name: str) -> float:
        """The relative error of one layer on random inputs (see `check_layer`, also for what it raises)."""
        ...

    def network(self, network: Network) -> float:
        """The relative error of the whole network (see `check_network`, also for what it raises)."""
        ...


@dataclass(frozen=True)
class WorkerChecker:
    """Compiles and runs in a worker process.

    Attributes:
        worker: compiles and runs.
        seed: of the inputs.
    """

    worker: Worker
    seed: int = 0

    def layer(self, network: Network, name: str) -> float:
        return check_layer(network, name, self.worker, seed=self.seed)

    def network(self, network: Network) -> float:
        return check_network(network, self.worker)


def check_layer(program: Network, name: str, worker: Worker, *, seed: int = 0, limit: float | None = None) -> float:
    """The relative error of a layer's compiled code, on random inputs.

    Args:
        program: the program.
        name: the layer's qualified name.
        worker: compiles and runs.
        seed: of the inputs.
        limit: seconds after which the worker is killed; None as `Worker.run` has it.

    Raises:
        ArgumentError: no such layer.
        IllegalTransform: no module can stand for the layer.
        CompilationFailed: it cannot be compiled, crashes or hangs.
        WrongResult: it differs from PyTorch.
    """
    layer = program.layer_module(name)
    generator = torch.Generator().manual_seed(seed)
    parameters, shapes = _interface(layer)
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    module = raise_layer(program, name).eval()
    with torch.no_grad():
        expected = _of_nests(program, name, inputs) if _takes_others(module, inputs) else module(*inputs)
    values = {key: program.parameters[key].numpy(force=True) for key in parameters}
    reply = worker.run(RunJob(str(layer), values, [x.numpy() for x in inputs]), limit=limit)
    return require_close(torch.from_numpy(reply.outputs[0]), expected, f"layer '{name}'")


def _interface(layer: ir.Module) -> tuple[list[str], list[list[int]]]:
    """The parameters that an extracted layer reads, and the shapes of its inputs, by position."""
    (function,) = functions(layer.operation)
    marked = list(zip(function.entry_block.arguments, marks.argument_marks(function), strict=True))
    parameters = [ir.StringAttr(m[marks.PARAM]).value for _, m in marked if marks.PARAM in m]
    return parameters, [list(ir.MemRefType(argument.type).shape) for argument, m in marked if marks.INPUT in m]


def _takes_others(module: nn.Module, inputs: Sequence[torch.Tensor]) -> bool:
    """Whether the module takes something else than the nests read: a linear layer is handed rows of a map, of tokens
    or heads, which its nests read where they are; and those of several activations have a batch of their own each."""
    return isinstance(module, NestModule) or (isinstance(module, nn.Linear) and inputs[0].dim() != 2)


def _of_nests(program: Network, name: str, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """What the nests of a layer make of their inputs, in PyTorch."""
    with program.module.context:
        recipe = extract(program.nests_by_layer[name]).recipe
    check_supported(recipe)
    given = dict(zip(recipe.numbers("input"), inputs, strict=True))
    given.update({k: program.parameters[recipe.buffers[k].name].detach() for k in recipe.numbers("parameter")})
    (result,) = execute(recipe, given).values()
    return result


def check_network(network: Network, worker: Worker) -> float:
    """The relative error of a compiled network, the largest of its outputs', on its example inputs.

    It is compared with the module that stands for it, whose outputs may nest.

    Raises:
        CompilationFailed: it cannot be compiled, crashes or hangs.
        WrongResult: it differs from PyTorch.
    """
    with torch.no_grad():
        expected = network.results(to_module(network).eval()(*network.example_inputs, **network.example_kwargs))
    parameters = {name: tensor.numpy(force=True) for name, tensor in network.parameters.items()}
    inputs = [x.numpy(force=True) for x in network.example_tensors]
    reply = worker.run(RunJob(str(network.module), parameters, inputs))
    if len(reply.outputs) != len(expected):
        raise WrongResult(f"the rewritten network: {len(reply.outputs)} outputs compiled, PyTorch's {len(expected)}")
    pairs = list(zip(map(torch.from_numpy, reply.outputs), expected, strict=True))
    names = [f"output {k} of " if len(pairs) > 1 else "" for k in range(len(pairs))]
    return max(require_close(*pair, f"{name}the rewritten network") for name, pair in zip(names, pairs, strict=True))
