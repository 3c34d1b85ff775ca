"""Which of Dynamo's graphs can become compiled code, and what is known of their inputs and outputs beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.supported import DTYPES

_STATIC = "_dynamo_static_input_type"  # Dynamo's mark on the parameters and buffers among a graph's inputs


@dataclass(frozen=True)
class Output:
    """One output of a graph.

    Attributes:
        stride: its strides in eager PyTorch, in elements; None for what is no tensor.
        constant: what is returned there, where it is no tensor.
    """

    stride: tuple[int, ...] | None
    constant: Any = None

    def arrange(self, tensors: Iterator[torch.Tensor]) -> Any:
        """The constant, or the next tensor, with the strides that the code after the graph may count on."""
        if self.stride is None:
            return self.constant
        tensor = next(tensors)
        if tensor.stride() == self.stride:
            return tensor
        return torch.empty_strided(tensor.shape, self.stride, dtype=tensor.dtype).copy_(tensor)


@dataclass(frozen=True)
class Scalar:
    """A number that the graph takes as a tensor and asks for its value only.

    Attributes:
        value: the number.
    """

    value: float | int | bool

    def item(self) -> float | int | bool:
        """As of the tensor."""
        return self.value


_PLAIN = (int, float, bool, str, type(None), Scalar)


def with_scalars(graph: fx.GraphModule, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The inputs, with a `Scalar` for each tensor of which the graph uses the value as a number and nothing else."""
    placeholders = graph.graph.find_nodes(op="placeholder")
    pairs = zip(placeholders, inputs, strict=True)
    return tuple(Scalar(x.item()) if _is_number(node) and isinstance(x, torch.Tensor) else x for node, x in pairs)


def _is_number(node: fx.Node) -> bool:
    return bool(node.users) and all(user.op == "call_method" and user.target == "item" for user in node.users)


def has_sizes(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> bool:
    """Whether a graph is for inputs of several sizes: it takes numbers, or tensors with extents that are symbols."""
    if not all(isinstance(example, torch.Tensor) for example in example_inputs):
        return True
    if any(_is_number(node) for node in graph.graph.find_nodes(op="placeholder")):
        return True
    values = [node.meta.get("example_value") for node in graph.graph.find_nodes(op="placeholder")]
    shapes = [value.shape for value in values if isinstance(value, torch.Tensor)]
    return any(isinstance(extent, torch.SymInt) for shape in shapes for extent in shape)


def static_inputs(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> dict[int, str]:
    """Finds the graph's inputs that are parameters and buffers of modules.

    Returns:
        Position -> a name that is valid for a module's attribute, as near to the qualified name as can be.

    Raises:
        ImportRefused: an input that compiled code cannot take: no tensor and no number, another dtype or device, one
            that needs grad.
    """
    placeholders = graph.graph.find_nodes(op="placeholder")
    static: dict[int, str] = {}
    for position, (node, example) in enumerate(zip(placeholders, example_inputs, strict=True)):
        _check_input(node, example)
        if not isinstance(example, torch.Tensor):
            continue
        marked = node.meta.get("tensor_dict", {}).get(_STATIC)
        if isinstance(example, torch.nn.Parameter) or marked:
            _check_countable(f"input '{node.name}'", example)
            static[position] = f"p{position}_{_short_name(node.name)}"
    for name, tensor in (*graph.named_parameters(), *graph.named_buffers()):
        _check_tensor(f"'{name}'", tensor)
        _check_countable(f"'{name}'", tensor)
    if torch.is_autocast_enabled("cpu"):
        raise ImportRefused("autocast is on; its types are not compiled")
    return static


def describe_outputs(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> tuple[Output, ...]:
    """Runs the graph on tensors without values.

    Returns:
        What the graph's outputs look like.

    Raises:
        ImportRefused: an operation that changes an input or parameter, draws random numbers, or updates statistics; an
            output that is no tensor, or shares memory with an input or with another output.
    """
    for node in graph.graph.nodes:
        if node.target is torch._C._set_grad_enabled and node.args[0] is True:
            raise ImportRefused(f"'{node.name}' switches gradients on; only inference is compiled")
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    inputs = [_without_values(mode, x) for x in example_inputs]
    tensors = [x for x in inputs if isinstance(x, torch.Tensor)]
    watch = _Watch([*tensors, *graph.parameters(), *graph.buffers()])
    with mode, torch.no_grad(), watch:
        outputs = graph(*inputs)
    if not isinstance(outputs, tuple | list):
        outputs = (outputs,)
    known = set(watch.memory)
    for position, output in enumerate(outputs):
        if isinstance(output, _PLAIN):
            continue
        if not isinstance(output, torch.Tensor):
            raise ImportRefused(f"output {position} is a {type(output).__name__}; only tensors are compiled")
        memory = _memory(output)
        if memory in known:
            raise ImportRefused(f"output {position} shares memory with an input or another output")
        known.add(memory)
    return tuple(Output(tuple(o.stride())) if isinstance(o, torch.Tensor) else Output(None, o) for o in outputs)


def _without_values(mode: FakeTensorMode, value: Any) -> Any:
    return mode.from_tensor(value.detach(), static_shapes=True) if isinstance(value, torch.Tensor) else value


def _is_random(operation: Any, values: Mapping[str, Any]) -> bool:
    """Whether an operation draws random numbers with these arguments; dropout that drops nothing draws none."""
    if torch.Tag.nondeterministic_seeded not in operation.tags or values.get("train") is False:
        return False
    defaults = {each.name: each.default_value for each in operation._schema.arguments}
    return values.get("dropout_p", defaults.get("dropout_p")) != 0


class _Watch(TorchDispatchMode):
    """Sees each operation that PyTorch runs, and refuses those with effects beyond their results."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._kept = inputs  # memory of tensors that are gone could be known by the same address
        self.memory = frozenset(_memory(tensor) for tensor in inputs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values = {**dict(zip((a.name for a in func._schema.arguments), args, strict=False)), **(kwargs or {})}
        if _is_random(func, values):
            raise ImportRefused(f"'{func}' draws random numbers; only deterministic inference is compiled")
        training = values.get("training") or values.get("train")
        if training and "batch_norm" in str(func) and values.get("running_mean") is not None:
            raise ImportRefused(f"'{func}' updates running statistics; only inference is compiled")
        for argument in func._schema.arguments:
            value = values.get(argument.name)
            written = value if isinstance(value, list | tuple) else [value]
            if argument.is_write and any(isinstance(t, torch.Tensor) and _memory(t) in self.memory for t in written):
                raise ImportRefused(f"'{func}' changes an input or a parameter in place")
        return func(*args, **(kwargs or {}))


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _check_input(node: fx.Node, example: Any) -> None:
    if isinstance(example, torch.Tensor):
        _check_tensor(f"input '{node.name}'", example)
    elif not isinstance(example, _PLAIN):
        raise ImportRefused(f"input '{node.name}' is a {type(example).__name__}")


def _check_tensor(what: str, tensor: torch.Tensor) -> None:
    if tensor.dtype not in DTYPES:
        raise ImportRefused(f"{what} is {tensor.dtype}, which is not compiled")
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        raise ImportRefused(
            f"{what} is a {tensor.layout} tensor on {tensor.device}; only dense CPU tensors are compiled"
        )
    if torch.is_grad_enabled() and tensor.requires_grad:
        raise ImportRefused(f"{what} requires grad; only inference is compiled, under torch.no_grad()")


def _check_countable(what: str, tensor: torch.Tensor) -> None:
    if tensor.is_inference():
        raise ImportRefused(f"{what} was made in inference mode, where PyTorch does not count its changes")


def _short_name(name: str) -> str:
    """`l_self_modules_conv1_parameters_weight_` -> `conv1_weight`."""
    return re.sub(r"_(modules|parameters|buffers)(?=_)", "", name).strip("_").removeprefix("l_self_")
