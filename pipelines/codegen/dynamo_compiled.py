"""Machine code for one of Dynamo's graphs: at one size, or at each size that it is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from loopmorph.passes.errors import CompilationFailed, IllegalTransform, ImportRefused, WrongResult
from loopmorph.pipelines.codegen.check import check_executable
from loopmorph.pipelines.codegen.dynamo_graph import Output, describe_outputs, static_inputs, with_scalars
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.codegen.weights import Weights
from loopmorph.pipelines.ingress.affine import import_network

REFUSALS = (ImportRefused, IllegalTransform, CompilationFailed, WrongResult)
_MOST_REBUILDS = 8

FallBack = Callable[[str], None]  # is told the reason why eager PyTorch goes on


@dataclass(frozen=True)
class Settings:
    """What `torch.compile`'s `options` say.

    Attributes:
        threads: number of threads of the code.
        check: whether the code is compared with PyTorch once it is built.
        sizes: for how many sizes of its inputs a graph is compiled.
    """

    threads: int = 1
    check: bool = True
    sizes: int = 8


class CompiledGraph:
    """Machine code for a graph at one size, built again when the parameters change."""

    def __init__(self, graph: fx.GraphModule, inputs: tuple[Any, ...], settings: Settings, fall_back: FallBack) -> None:
        """Compiles the graph.

        Args:
            graph: a graph that Dynamo captured.
            inputs: parameters, buffers, inputs and sizes, of the size to be compiled.
            settings: how.
            fall_back: is told when eager PyTorch has to take over later.

        Raises:
            ImportRefused, IllegalTransform, CompilationFailed: it cannot be compiled.
            WrongResult: the code computes something else.
        """
        self._graph, self._settings, self._tell = graph, settings, fall_back
        static = static_inputs(graph, inputs)
        self._static = tuple(sorted(static))
        constants = {k: x for k, x in enumerate(inputs) if not isinstance(x, torch.Tensor)}
        self._dynamic = tuple(k for k in range(len(inputs)) if k not in static and k not in constants)
        self._outputs: tuple[Output, ...] = describe_outputs(graph, inputs)
        self._closed = _Closed(graph, {static[k]: (k, inputs[k]) for k in self._static}, constants)
        self._owned = tuple(graph.parameters()) + tuple(graph.buffers())
        self._weights = Weights(self._compiled_in(inputs))
        examples = tuple(inputs[k].detach() for k in self._dynamic)
        self._executable = self._checked(Executable(import_network(self._closed, examples), settings.threads))
        self._rebuilds = 0
        self._fallen_back = False

    def __call__(self, *arguments: Any) -> Sequence[Any]:
        """The graph's outputs."""
        changed = not self._fallen_back and self._weights.changed(self._compiled_in(arguments))
        if self._fallen_back or (changed and not self._rebuild(arguments)):
            return self._graph(*arguments)
        results = iter(self._executable(*(arguments[k] for k in self._dynamic)))
        return [output.arrange(results) for output in self._outputs]

    def _compiled_in(self, arguments: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        return (*(arguments[k] for k in self._static), *self._owned)

    def _rebuild(self, arguments: Sequence[Any]) -> bool:
        """Compiles the present parameters in; gives up where they change all the time."""
        if self._rebuilds == _MOST_REBUILDS:
            self._fallen_back = True
            self._tell(f"its parameters changed {_MOST_REBUILDS + 1} times")
            return False
        self._rebuilds += 1
        self._weights = Weights(self._compiled_in(arguments))
        self._closed.update(arguments)
        program = self._executable.program
        current = dict(self._closed.named_tensors())
        program = replace(program, imported={**program.imported, **current})
        try:
            # The code is the same that was compared before, with other values.
            self._executable = Executable(program, self._settings.threads)
        except REFUSALS as error:
            self._fallen_back = True
            self._tell(str(error))
            return False
        return True

    def _checked(self, executable: Executable) -> Executable:
        if self._settings.check:
            check_executable(executable, self._closed)
        return executable


class EachSize:
    """A graph of inputs of any size: machine code for each size that it is called with, up to a number of them."""

    def __init__(self, graph: fx.GraphModule, settings: Settings, fall_back: FallBack) -> None:
        self._graph, self._settings, self._tell = graph, settings, fall_back
        self._known: dict[tuple[Any, ...], Callable[..., Sequence[Any]]] = {}
        self._told = False

    def __call__(self, *arguments: Any) -> Sequence[Any]:
        """The graph's outputs."""
        inputs = with_scalars(self._graph, arguments)
        key = tuple(tuple(x.shape) if isinstance(x, torch.Tensor) else (type(x), x) for x in inputs)
        code = self._known.get(key)
        if code is None:
            code = self._compile(key, inputs)
        return code(*arguments)

    def _compile(self, key: tuple[Any, ...], inputs: tuple[Any, ...]) -> Callable[..., Sequence[Any]]:
        if len(self._known) == self._settings.sizes:
            self._tell_once(f"it is called with more than {self._settings.sizes} sizes (options={{'sizes': N}})")
            return self._graph
        code: Callable[..., Sequence[Any]] = self._graph
        try:
            code = CompiledGraph(self._graph, inputs, self._settings, self._tell)
        except REFUSALS as error:
            self._tell_once(str(error))
        self._known[key] = code
        return code

    def _tell_once(self, reason: str) -> None:
        if not self._told:
            self._told = True
            self._tell(reason)


class _Closed(nn.Module):
    """A graph whose static inputs are buffers and whose sizes are constants, so that only the true inputs are left.

    In training mode or not, each module in the graph keeps its own; the mode of this one says "inference".
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        static: Mapping[str, tuple[int, torch.Tensor]],
        constants: Mapping[int, Any],
    ) -> None:
        super().__init__()
        self.graph_module = graph
        self._positions = {position: name for name, (position, _) in static.items()}
        self._constants = dict(constants)
        for name, (_, tensor) in static.items():
            self.register_buffer(name, tensor.detach())
        self.training = False

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The tensors among the graph's outputs."""
        remaining = iter(inputs)
        total = len(inputs) + len(self._positions) + len(self._constants)
        result = self.graph_module(*(self._argument(k, remaining) for k in range(total)))
        outputs = result if isinstance(result, tuple | list) else (result,)
        return tuple(output for output in outputs if isinstance(output, torch.Tensor))

    def _argument(self, position: int, remaining: Any) -> Any:
        if position in self._positions:
            return getattr(self, self._positions[position])
        return self._constants[position] if position in self._constants else next(remaining)

    def update(self, arguments: Sequence[Any]) -> None:
        """Takes the static inputs of a later call."""
        for position, name in self._positions.items():
            setattr(self, name, arguments[position].detach())

    def named_tensors(self) -> list[tuple[str, torch.Tensor]]:
        """Every parameter and buffer by its qualified name."""
        return [(n, t.detach()) for n, t in (*self.named_parameters(), *self.named_buffers())]
