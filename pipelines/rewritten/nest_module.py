"""`NestModule`: the nests of one layer as a PyTorch module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.raising.nest_batch import free_batch, free_rows, with_batch_axis
from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.rewritten.fan_in import fan_ins
from loopmorph.pipelines.rewritten.nest_executor import check_batch, check_supported, execute


class NestModule(nn.Module):
    """Runs all nests of a layer, whatever they compute, with autograd; a *new* operator needs no case of its own.

    Contractions run on slices and strided views, as `conv2d` where they slide a window and else as `torch.einsum`,
    everything else element by element over index grids; only indices with a `floordiv` or `mod` that cannot be resolved
    are gathered. The module is plain data: it can be copied and pickled, and it computes in the dtype and on the device
    of its input.

    The batch may be any where each sample is treated alike (see `loopmorph.passes.raising.nest_batch.free_batch`), or
    where it comes on an axis of its own before those that the nests read.

    Args:
        recipe: what the layer computes.
        parameters: qualified name -> tensor of every parameter that is read, in its present shape; copied.
        prefix: qualified name of the layer's module; the parameters are registered under what follows it.
        trainable: the names of those that are trained; the others become buffers. None: all.
        is_convolution: whether the layer counts as one.

    Attributes:
        recipe: with a batch that may be any, where that is so.
        keeps_leading_axes: whether all axes but the last are the batch, as for `nn.Linear`, whose nests have one for
            them.
        fan_ins: qualified name of each parameter that is a factor of products -> how many are added up (see `fan_ins`).
        fan_in: the largest of these.

    Raises:
        IllegalTransform: an operation without a case in PyTorch (named), or not exactly one output.
        ArgumentError: a parameter is missing, or has another shape.
    """

    def __init__(
        self,
        recipe: Recipe,
        parameters: Mapping[str, torch.Tensor],
        prefix: str = "",
        trainable: frozenset[str] | None = None,
        *,
        is_convolution: bool = False,
    ) -> None:
        super().__init__()
        check_supported(recipe)
        outputs = recipe.numbers("output")
        if len(outputs) != 1:
            raise IllegalTransform(f"layer '{recipe.layer}'", f"it has {len(outputs)} outputs; one is required")
        self.recipe: Recipe = free_batch(recipe)
        self.keeps_leading_axes = False
        self.is_convolution = is_convolution
        self.fan_ins: dict[str, int] = {recipe.buffers[k].name: n for k, n in fan_ins(recipe).items()}
        self.fan_in: int = max(self.fan_ins.values(), default=1)
        self._names: dict[int, str] = {}
        order = list(parameters)
        for number in sorted(recipe.numbers("parameter"), key=lambda k: _position(order, recipe.buffers[k].name)):
            self._register(number, parameters, prefix, trainable)

    def _register(
        self, number: int, parameters: Mapping[str, torch.Tensor], prefix: str, trainable: frozenset[str] | None
    ) -> None:
        buffer = self.recipe.buffers[number]
        if buffer.name not in parameters:
            raise ArgumentError("parameters", f"no tensor for '{buffer.name}'")
        tensor = parameters[buffer.name].detach().clone()
        if tuple(tensor.shape) != buffer.shape:
            raise ArgumentError(
                "parameters", f"'{buffer.name}' has shape {tuple(tensor.shape)}, the nests read {buffer.shape}"
            )
        name = buffer.name.removeprefix(f"{prefix}." if prefix else "").replace(".", "_")
        self._names[number] = name
        if trainable is None or buffer.name in trainable:
            self.register_parameter(name, nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Runs the nests.

        Args:
            inputs: the activations, in the order in which the nests first read them. Axis 0 is the batch; the other
                axes may be grouped otherwise than in the nests, as long as the elements are the same, row-major.

        Raises:
            ArgumentError: another number of inputs, a size that the nests do not read, or a batch that they fix.
        """
        numbers = self.recipe.numbers("input")
        if len(inputs) != len(numbers):
            raise ArgumentError("inputs", f"layer '{self.recipe.layer}' has {len(numbers)} inputs, got {len(inputs)}")
        if self._have_own_axis(inputs):
            return self._run(with_batch_axis(self.recipe), dict(zip(numbers, inputs, strict=True)))
        given: dict[int, torch.Tensor] = {}
        merged = self.keeps_leading_axes and all(len(self.recipe.buffers[number].shape) == 2 for number in numbers)
        for number, x in zip(numbers, inputs, strict=True):
            shape = self.recipe.buffers[number].shape
            if merged:
                x = x.flatten(0, -2) if x.dim() > 1 else x[None]
            check_batch(self.recipe, x.shape[0])
            if math.prod(x.shape[1:]) != math.prod(shape[1:]):
                raise ArgumentError(
                    "inputs",
                    f"layer '{self.recipe.layer}' reads {tuple(shape[1:])} elements a sample, got {tuple(x.shape[1:])}",
                )
            given[number] = x.reshape(x.shape[0], *shape[1:])
        result = self._run(self.recipe, given)
        leading = inputs[0].shape[:-1]  # tokens have a row of the result each; those of a map that is read whole do not
        rows = self.keeps_leading_axes and math.prod(leading) == result.shape[0]
        return result.reshape(*leading, -1) if rows else result

    def _have_own_axis(self, inputs: Sequence[torch.Tensor]) -> bool:
        """Whether the batch, which the nests fix, comes on an axis before those of all inputs."""
        shapes = [self.recipe.buffers[number].shape for number in self.recipe.numbers("input")]
        return self.recipe.batch is None and all(x.shape[1:] == s for x, s in zip(inputs, shapes, strict=True))

    def _run(self, recipe: Recipe, given: dict[int, torch.Tensor]) -> torch.Tensor:
        held = {number: getattr(self, name) for number, name in self._names.items()}
        (result,) = execute(recipe, {**given, **held}).values()
        return result

    @property
    def parameter_names(self) -> dict[str, str]:
        """Name of each parameter or buffer of the module -> its qualified name in the network."""
        return {local: self.recipe.buffers[number].name for number, local in self._names.items()}

    def take_rows(self) -> None:
        """Lets all axes but the last be the batch, as those of `nn.Linear` are."""
        self.keeps_leading_axes = True
        self.recipe = free_rows(self.recipe)

    def reset_parameters(self) -> None:
        """Fresh values as `nn.Conv2d` draws them: uniform within 1/sqrt(fan-in).

        The fan-in is that of the contraction that the parameter belongs to, counted from the nests; parameters that
        are only added (a bias) get the largest.
        """
        with torch.no_grad():
            for local, name in self.parameter_names.items():
                tensor = getattr(self, local)
                if isinstance(tensor, nn.Parameter):
                    bound = 1 / math.sqrt(self.fan_ins.get(name, self.fan_in))
                    tensor.uniform_(-bound, bound)

    def extra_repr(self) -> str:
        """The layer, and what goes in and comes out."""
        shapes = {
            kind: [self.recipe.buffers[k].shape for k in self.recipe.numbers(kind)] for kind in ("input", "output")
        }
        return f"layer={self.recipe.layer!r}, inputs={shapes['input']}, output={shapes['output'][0]}"


def _position(names: Sequence[str], name: str) -> int:
    """Where `name` stands, the end for one that is missing; parameters are registered in the network's own order."""
    return names.index(name) if name in names else len(names)
