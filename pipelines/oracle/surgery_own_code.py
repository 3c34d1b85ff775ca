"""After surgery: does a module's own code (`functional.conv2d(x, self.weight)`) compute what its nests do now?

Code cannot be replaced, so it has to follow from the shapes of the parameters alone. What may differ without any error
are groups, strides and padding, which stand in the code, and everything that is no convolution any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising.raise_nest import (
    Convolution,
    multiplies_parameters,
    raise_convolution,
    raise_linear,
)
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery_check import eval_mode

Pair = tuple[int, int]


@dataclass(frozen=True)
class _Call:
    """One convolution that the model's code computes.

    Attributes:
        weight: where its weight lies in memory.
        stride, padding, dilation, groups: as `torch.nn.functional.conv2d` takes them.
        size: height, width of its input.
    """

    weight: int
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    size: Pair


def check_own_code(program: Network, model: nn.Module, layers: Mapping[str, Sequence[Nest]]) -> None:
    """Runs the model once on the program's example inputs, if there is something to compare.

    Args:
        program: the rewritten program.
        model: the model after surgery; in eval mode it runs.
        layers: the nests of those rewritten layers that the model's own code computes, by name.

    Raises:
        IllegalTransform: the code computes something else than the nests of one of them.
    """
    contractions = {name: nests for name, nests in layers.items() if multiplies_parameters(nests)}
    calls = _convolutions(program, model) if contractions else []
    for name, nests in contractions.items():
        raised = raise_convolution(nests)
        linear = raise_linear(nests)
        if raised is not None:
            _require_same(name, raised, calls, _places(model, raised.weight))
        elif linear is None or linear.in_features != linear.source_features:
            kind = "no convolution or linear layer that its shapes alone determine"
            raise IllegalTransform(f"layer '{name}'", _explained(f"is {kind} any more"))


def _require_same(name: str, raised: Convolution, calls: Sequence[_Call], places: frozenset[int]) -> None:
    own = [call for call in calls if call.weight in places]
    if any(_is_same(call, raised) for call in own):
        return
    if not own:
        raise IllegalTransform(f"layer '{name}'", _explained("was rewritten, and its convolution is not found there"))
    wanted = f"stride {raised.stride}, padding {raised.padding}, dilation {raised.dilation}, {raised.groups} group(s)"
    if raised.channels is not None:
        wanted += f", channels {raised.channels[0]}..{raised.channels[-1]}"
    call = own[0]
    present = f"stride {call.stride}, padding {call.padding}, dilation {call.dilation}, {call.groups} group(s)"
    raise IllegalTransform(f"layer '{name}'", _explained(f"is one of {wanted} now, there of {present}"))


def _explained(what: str) -> str:
    return f"it {what}; it is computed by the model's own code, which stays: use an nn.Conv2d or nn.Linear instead"


def _is_same(call: _Call, raised: Convolution) -> bool:
    (rows, columns) = call.padding
    same = raised.equals(call.stride, call.dilation, ((rows, rows), (columns, columns)))
    return same and raised.groups == call.groups and raised.channels is None and raised.input_size == call.size


def _places(model: nn.Module, name: str) -> frozenset[int]:
    """Where the parameter or buffer of a name lies in memory."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return frozenset(tensor.data_ptr() for own, tensor in named if own == name)


def _convolutions(program: Network, model: nn.Module) -> list[_Call]:
    watch = _Watch()
    with eval_mode(model), torch.no_grad(), watch:
        model(*program.example_inputs, **program.example_kwargs)
    return watch.calls


class _Watch(TorchDispatchMode):
    """Notes the convolutions over two axes that run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default and args[0].dim() == 4 and not args[6]:
            x, weight, _, stride, padding, dilation, _, _, groups = args
            steps = _pair(stride), _pair(padding), _pair(dilation)
            self.calls.append(_Call(weight.data_ptr(), *steps, groups, _pair(x.shape[2:])))
        return func(*args, **(kwargs or {}))


def _pair(value: Sequence[int]) -> Pair:
    return int(value[0]), int(value[-1])
