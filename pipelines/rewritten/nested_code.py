"""`NestedCode`: a module whose own code is computed by its nests, while the layers in it stay modules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.raising.nest_batch import with_batch_axis
from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.rewritten.nest_executor import Machine, check_supported

CONSTANT = "constant_"  # what the names of tensors begin with that the module itself did not hold


@dataclass(frozen=True)
class ModuleCall:
    """A call of one of the layers.

    Attributes:
        after: how many statements of the recipe come before it.
        layer: the layer's name within the module.
        inputs: the buffers that it is given.
        output: the buffer that its result is.
    """

    after: int
    layer: str
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class Ports:
    """What a module is given and gives.

    Attributes:
        arguments: for each input of the recipe which of the tensors that the module is called with it is.
        shape: of the result, with axis 0 as the batch of the example inputs.
    """

    arguments: tuple[int, ...]
    shape: tuple[int, ...]


class NestedCode(nn.Module):
    """A module that holds what another one does, and computes what that one's nests do, with autograd.

    It is for code that fixes shapes that a transformation changes: the heads that `reshape(n, t, 3, heads, -1)` names.
    Convolutions and linear layers in it stay modules of their own, so that they can be trained, fitted and replaced;
    all else runs as its nests (see `NestModule`), as at inference: without dropout.

    Args:
        recipe: the statements of all but the called layers.
        calls: the calls of layers, in order.
        ports: what is given and comes out.
        parameters: name of a parameter in the recipe -> its name within the module.
    """

    def __init__(
        self, recipe: Recipe, calls: Sequence[ModuleCall], ports: Ports, parameters: Mapping[str, str]
    ) -> None:
        super().__init__()
        check_supported(recipe)
        self.recipe = recipe
        self.calls = tuple(calls)
        self.ports = ports
        self.names = dict(parameters)
        self._batched = with_batch_axis(recipe, frozenset(call.output for call in calls))

    def take(self, module: nn.Module) -> None:
        """Holds what another module holds, under the same names."""
        for name, tensor in module._parameters.items():
            self.register_parameter(name, tensor)
        for name, buffer in module._buffers.items():
            self.register_buffer(name, buffer, persistent=name not in module._non_persistent_buffers_set)
        for name, child in module._modules.items():
            self.add_module(name, child)
        self.train(module.training)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Runs the nests and the layers; takes the arguments that the module's own code did.

        Raises:
            ArgumentError: sizes that the nests do not read.
        """
        machine = self._machine([x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)])
        done = 0
        for call in self.calls:
            machine.run(range(done, call.after))
            done = call.after
            given = [machine.memory(k) for k in call.inputs]
            machine.give({call.output: self.get_submodule(call.layer)(*given)})
        machine.run(range(done, len(self.recipe.statements)))
        (output,) = self.recipe.numbers("output")
        return machine.memory(output).reshape(-1, *self.ports.shape[1:])

    def _machine(self, tensors: Sequence[torch.Tensor]) -> Machine:
        """What runs the statements, with all that is given in its place."""
        numbers, counts = self.recipe.numbers("input"), []
        given: dict[int, torch.Tensor] = {}
        for number, position in zip(numbers, self.ports.arguments, strict=True):
            shape = self.recipe.buffers[number].shape
            size = tensors[position].numel() if position < len(tensors) else 0
            if not size or size % math.prod(shape):
                had = "nothing" if position >= len(tensors) else f"{tuple(tensors[position].shape)}"
                raise ArgumentError("inputs", f"'{self.recipe.layer}' reads {shape} a sample or batch, got {had}")
            given[number] = tensors[position].reshape(-1, *shape)
            counts.append(given[number].shape[0])
        count = max(counts)
        given = {k: x if x.shape[0] == count else x.expand(count, *x.shape[1:]) for k, x in given.items()}
        like = next(x for x in given.values() if x.is_floating_point())
        held = {
            k: self._held(self.names[buffer.name])
            for k, buffer in enumerate(self.recipe.buffers)
            if buffer.kind == "parameter"
        }
        machine = Machine(self._batched, count, like)
        machine.give({**given, **held})
        return machine

    def _held(self, name: str) -> torch.Tensor:
        path, _, local = name.rpartition(".")
        tensor = getattr(self.get_submodule(path), local)
        assert isinstance(tensor, torch.Tensor)
        return tensor

    def extra_repr(self) -> str:
        """The module's name, and its layers."""
        return f"code={self.recipe.layer!r}, layers={[call.layer for call in self.calls]}"
