"""`torch.compile(model, backend="loopmorph")`: Dynamo's graphs as compiled loop nests, for inference on the CPU.

A graph that cannot be compiled runs in eager PyTorch, with one `FallbackWarning` that says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from loopmorph.passes.errors import ArgumentError, CompilationFailed, IllegalTransform, ImportRefused, LoopmorphWarning
from loopmorph.pipelines.codegen.dynamo_graph import Output, describe_outputs, static_inputs
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.ingress.affine import import_network
from loopmorph.pipelines.support.agreement import largest_error

Compiled = Callable[..., Sequence[torch.Tensor]]
_OPTIONS = ("threads",)
_LARGEST_ERROR = 1e-3  # relative to the largest output, for the check of a graph's first call
_MOST_REBUILDS = 8


class FallbackWarning(LoopmorphWarning):
    """A graph runs in eager PyTorch; the text says why."""


def loopmorph(
    graph: fx.GraphModule, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None
) -> Compiled:
    """The backend that `torch.compile(..., backend="loopmorph")` finds through its entry point.

    Parameters and buffers are compiled in; when one has been assigned or changed in place since the last call (seen by
    its address and version, hence not where it is changed behind PyTorch's back, through `.data`), the code is built
    again. The first call's outputs are compared with eager PyTorch's.

    Args:
        graph: a graph that Dynamo captured.
        example_inputs: what it will be called with first: parameters, buffers, inputs, sizes.
        options: `torch.compile`'s `options`; `threads` is the number of threads of the code, 1 by default.

    Returns:
        A function of the graph's inputs: compiled code, or the graph itself, after a `FallbackWarning`.

    Raises:
        ArgumentError: an option that does not exist.
    """
    threads = _threads(options or {})
    try:
        return _CompiledGraph(graph, tuple(example_inputs), threads)
    except (ImportRefused, IllegalTransform, CompilationFailed) as error:
        _warn(graph, str(error))
        return graph.forward


class _CompiledGraph:
    """Machine code for one graph, built again when the parameters change."""

    def __init__(self, graph: fx.GraphModule, example_inputs: tuple[Any, ...], threads: int) -> None:
        self._graph, self._threads = graph, threads
        static = static_inputs(graph, example_inputs)
        self._static = tuple(sorted(static))
        self._dynamic = tuple(k for k in range(len(example_inputs)) if k not in static)
        self._outputs: tuple[Output, ...] = describe_outputs(graph, example_inputs)
        self._closed = _Closed(graph, {static[k]: (k, example_inputs[k]) for k in self._static})
        self._owned = tuple(graph.parameters()) + tuple(graph.buffers())
        self._states = self._present(example_inputs)
        inputs = tuple(example_inputs[k].detach() for k in self._dynamic)
        self._executable = Executable(import_network(self._closed, inputs), threads)
        self._checked = False
        self._rebuilds = 0
        self._fallen_back = False

    def __call__(self, *arguments: Any) -> Sequence[torch.Tensor]:
        if self._fallen_back or (self._present(arguments) != self._states and not self._rebuild(arguments)):
            return self._graph(*arguments)
        result = self._executable(*(arguments[k] for k in self._dynamic))
        outputs = [output.arrange(t) for output, t in zip(self._outputs, _tuple(result), strict=True)]
        if not self._checked:
            return self._check(outputs, arguments)
        return outputs

    def _present(self, arguments: Sequence[Any]) -> list[tuple[int, object]]:
        """Address and version of each tensor that was compiled in."""
        tensors = (*(arguments[k] for k in self._static), *self._owned)
        # An inference tensor's changes are not counted: an object that equals no other says "changed" each time.
        return [(t.data_ptr(), object() if t.is_inference() else t._version) for t in tensors]

    def _rebuild(self, arguments: Sequence[Any]) -> bool:
        """Compiles the present parameters in; gives up where they change all the time."""
        if self._rebuilds == _MOST_REBUILDS:
            self._fall_back(f"its parameters changed {_MOST_REBUILDS + 1} times")
            return False
        self._rebuilds += 1
        self._states = self._present(arguments)
        self._closed.update(arguments)
        program = self._executable.program
        current = dict(self._closed.named_tensors())
        self._executable = Executable(replace(program, imported={**program.imported, **current}), self._threads)
        return True

    def _check(self, outputs: list[torch.Tensor], arguments: Sequence[Any]) -> Sequence[torch.Tensor]:
        expected = _tuple(self._graph(*arguments))
        error = largest_error(outputs, expected)
        if error <= _LARGEST_ERROR:
            self._checked = True
            return outputs
        self._fall_back(f"the compiled code's result is wrong, by {error:.1e} of the largest value")
        return expected

    def _fall_back(self, reason: str) -> None:
        self._fallen_back = True
        _warn(self._graph, reason)


class _Closed(nn.Module):
    """A graph whose static inputs are parameters, so that only the true inputs are left.

    In training mode or not, each module in the graph keeps its own; the mode of this one says "inference".
    """

    def __init__(self, graph: fx.GraphModule, static: Mapping[str, tuple[int, torch.Tensor]]) -> None:
        super().__init__()
        self.graph_module = graph
        self._positions = {position: name for name, (position, _) in static.items()}
        for name, (_, tensor) in static.items():
            self.register_buffer(name, tensor.detach())
        self.training = False

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        remaining = iter(inputs)
        total = len(inputs) + len(self._positions)
        arguments = (
            getattr(self, self._positions[k]) if k in self._positions else next(remaining) for k in range(total)
        )
        return tuple(self.graph_module(*arguments))

    def update(self, arguments: Sequence[Any]) -> None:
        """Takes the static inputs of a later call."""
        for position, name in self._positions.items():
            setattr(self, name, arguments[position].detach())

    def named_tensors(self) -> list[tuple[str, torch.Tensor]]:
        """Every parameter and buffer by its qualified name."""
        return [(n, t.detach()) for n, t in (*self.named_parameters(), *self.named_buffers())]


def _threads(options: Mapping[str, Any]) -> int:
    for name in options:
        if name not in _OPTIONS:
            raise ArgumentError("options", f"unknown option '{name}'; known are: {', '.join(_OPTIONS)}")
    return options.get("threads", 1)


def _tuple(result: Any) -> tuple[torch.Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _warn(graph: fx.GraphModule, reason: str) -> None:
    operations = sum(node.op.startswith("call") for node in graph.graph.nodes)
    text = f"loopmorph: a graph of {operations} operations runs in eager PyTorch: {reason}"
    warnings.warn(text, FallbackWarning, stacklevel=3)
