"""A module that runs a list of PyTorch's operators: a block of an exported network, as data.

Unlike an `fx.GraphModule` it holds no code: it is copied and pickled like any module, and `torch.export` sees its
layers by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils._pytree import tree_map_only

_MODES = ("train", "training")  # arguments by which an operator carries the mode of the export


@dataclass(frozen=True)
class _Value:
    """Stands for what an earlier step gave."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: of its result.
        kind: "get_attr", "call_module" or "call_function", as nodes of `fx` have it.
        target: the path of an attribute or module; a function; the name of an operator below `torch.ops`.
        args, kwargs: with `_Value` where a result goes.
    """

    name: str
    kind: str
    target: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @cached_property
    def function(self) -> Callable[..., Any]:
        """What a "call_function" calls."""
        return attrgetter(self.target)(torch.ops) if isinstance(self.target, str) else self.target

    @property
    def carries_mode(self) -> bool:
        """Whether it is an operator that has train or eval mode among its arguments."""
        if self.kind != "call_function" or not isinstance(self.function, OpOverload):
            return False
        return any(argument.name in _MODES for argument in self.function._schema.arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "function"}


class ExportedBlock(nn.Module):
    """Runs the operations of a graph; modules, parameters and buffers are its own.

    Attributes:
        steps: the operations, in order.
    """

    def __init__(
        self, owner: nn.Module, graph: fx.Graph, nested: Callable[[Any], Any] = lambda results: results
    ) -> None:
        """Args:
        owner: whose parameters, buffers and modules the graph reads; they become the block's.
        graph: of operators, modules and attributes.
        nested: makes the block's output of the graph's.
        """
        super().__init__()
        adopt(self, owner)
        nodes = list(graph.nodes)
        self._inputs = tuple(node.name for node in nodes if node.op == "placeholder")
        self.steps = tuple(map(_step, (node for node in nodes if node.op not in ("placeholder", "output"))))
        self._results = _data(nested(next(node for node in nodes if node.op == "output").args[0]))

    def forward(self, *args: Any) -> Any:
        """Runs the steps."""
        values = dict(zip(self._inputs, args, strict=True))

        def present(structure: Any) -> Any:
            return tree_map_only(_Value, lambda value: values[value.name], structure)

        for step in self.steps:
            if step.kind == "get_attr":
                values[step.name] = attrgetter(str(step.target))(self)
                continue
            function = self.get_submodule(str(step.target)) if step.kind == "call_module" else step.function
            values[step.name] = function(*present(step.args), **present(dict(step.kwargs)))
        return present(self._results)


def adopt(module: nn.Module, owner: nn.Module) -> None:
    """Gives a module the parameters, buffers and modules of another one; constants become buffers, too."""
    for mine, theirs in zip(_tables(module), _tables(owner), strict=True):
        mine.update(theirs)
    for name, value in vars(owner).items():
        if isinstance(value, torch.Tensor):
            module.register_buffer(name, value, persistent=False)


def _tables(module: nn.Module) -> tuple[dict[str, Any], ...]:
    return module._parameters, module._buffers, module._modules


def _step(node: fx.Node) -> Step:
    return Step(node.name, node.op, _target(node.target), _data(node.args), _data(node.kwargs))


def _target(target: Any) -> str | Callable[..., Any]:
    """An operator by its name, since operators are not pickled."""
    if isinstance(target, OpOverload):
        return str(target)
    return f"higher_order.{target.name()}" if isinstance(target, HigherOrderOperator) else target


def _data(structure: Any) -> Any:
    """Lists, tuples and dictionaries of `fx`, whose own classes are immutable, as plain ones without nodes."""
    if isinstance(structure, fx.Node):
        return _Value(structure.name)
    if isinstance(structure, list):
        return [_data(each) for each in structure]
    if isinstance(structure, tuple):
        return tuple(_data(each) for each in structure)
    if isinstance(structure, dict):
        return {key: _data(value) for key, value in structure.items()}
    return structure
