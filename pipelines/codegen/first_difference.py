"""Which layer of compiled code is the first to differ from PyTorch: each layer's result becomes an output."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.building.arguments import add_argument
from loopmorph.passes.nest import functions, nests
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.ingress.importer import core_operations
from loopmorph.pipelines.network import Network, copy_module
from loopmorph.pipelines.support.agreement import Agreement
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.probes import Probe


def first_difference(executable: Executable, reference: nn.Module, probe: Probe, rule: Agreement) -> str | None:
    """Compiles the network once more, with the result of each layer as an output.

    Args:
        executable: code that computes something else than `reference`.
        reference: the module that it stands for.
        probe: the inputs.
        rule: when two results agree.

    Returns:
        The first layer whose result is not PyTorch's, in program order: a module's qualified name, or `module|node` for
        an operation of a module's own forward. None where all results are PyTorch's once they are outputs.
    """
    program = executable.program
    tapped, layers = _with_outputs(program)
    code = Executable(tapped, executable.threads, executable.target)
    results = tapped.results(code(*(x.cpu() for x in probe.tensors)))
    expected = _results(program, reference, probe)
    for layer, position in layers.items():
        value = expected.get(layer, expected.get(layer.rpartition("|")[2]))
        result = results[position]
        if value is None or value.numel() != result.numel() or value.dtype != result.dtype:
            continue  # it is computed in another form here
        if rule.disagreement(result.flatten(), value.flatten()) is not None:
            return layer
    return None


def _with_outputs(program: Network) -> tuple[Network, dict[str, int]]:
    """The program with one output more for each layer whose result is a buffer; the layer -> its output's position."""
    module = copy_module(program.module)
    (function,) = functions(module.operation)
    own = marks.argument_marks(function)
    count = sum(marks.OUTPUT in each for each in own)
    last = {nest.layer: nest.stores[-1].memref for nest in nests(module.operation) if nest.stores}
    writers = {buffer: layer for layer, buffer in last.items()}  # of several layers that share a buffer, the last
    layers: dict[str, int] = {}
    with module.context:
        for buffer, layer in writers.items():
            if isinstance(buffer, ir.BlockArgument):
                attributes = marks.memref_marks(buffer)
                if marks.OUTPUT in attributes:
                    layers[layer] = ir.IntegerAttr(attributes[marks.OUTPUT]).value
            elif buffer.owner.name == "memref.alloc":
                number = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), count)
                allocation = buffer.owner
                buffer.replace_all_uses_with(add_argument(function, buffer.type, {marks.OUTPUT: number}))
                allocation.erase()
                layers[layer] = count
                count += 1
    tensors = program.example_tensors
    tapped = dataclasses.replace(program, module=module, structure=None, example_inputs=tensors, example_kwargs={})
    return tapped, layers


def _results(program: Network, reference: nn.Module, probe: Probe) -> dict[str, torch.Tensor]:
    """Layer -> its result in PyTorch: modules' by hooks, other operations', by their node, from the graph."""
    args, kwargs = program.arguments(probe.tensors)
    graph, values = core_operations(reference, args, kwargs)
    recorder = _Recorder(fx.GraphModule(nn.Module(), graph))
    recorder.run(*values)
    found = recorder.found
    calls: Counter[str] = Counter()

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            repeated = f"@{calls[name]}" if calls[name] else ""
            calls[name] += 1
            if isinstance(output, torch.Tensor):
                found[f"{name}{repeated}"] = output.detach().cpu().clone()

        return hook

    with hooked(module.register_forward_hook(note(name)) for name, module in reference.named_modules() if name):
        reference(*args, **kwargs)
    return found


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the value of each node.

    Attributes:
        found: name of a node -> its value.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Also notes the value."""
        value = super().run_node(n)
        if n.op == "call_function" and isinstance(value, torch.Tensor):
            self.found[n.name] = value.detach().cpu().clone()
        return value
