"""Which channels matter: how much the outputs change when the readers of a channel stop reading it.

Scale all weights with which channel i is read by a gate a; at a = 1 the derivative d_i of the outputs says, to first
order, how they change as the channel goes. Its square is the channel's saliency, as in Molchanov et al., "Pruning
Convolutional Neural Networks for Resource Efficient Inference" (ICLR 2017), there with the loss for the outputs. It is
exactly 0 for a channel that is always 0 or that nobody uses. No labels are needed, and the ties (residual additions,
concatenations, flattening) need no case of their own: the channel is one index of a class of tied dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from loopmorph.passes import marks
from loopmorph.passes.analysis.coupling.class_indices import class_indices
from loopmorph.passes.analysis.coupling.coupling import Coupling
from loopmorph.passes.analysis.coupling.merging import summed_axes
from loopmorph.passes.analysis.dimension_names import find_loop
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.rewritten.nest_module import NestModule

SAMPLES = 16  # of the batch: the order of the channels settles early
PROBES = 8


@dataclass(frozen=True)
class Reader:
    """One axis of a parameter along which channels are read; row r, column i of `channels`: a channel, -1 for none."""

    name: str
    axis: int
    channels: np.ndarray


def saliency(program: Network, step: Bottleneck, inputs: Sequence[torch.Tensor], seed: int = 0) -> np.ndarray:
    """The saliency of every index of the iterator that a bottleneck is about to shrink.

    |d_i|^2, summed over samples and outputs, is estimated without bias by projecting the outputs on random directions.

    Args:
        program: the network before the step.
        step: it has to be legal there.
        inputs: the network's inputs; of the first axis of each `SAMPLES` are used.
        seed: of the directions.

    Returns:
        float64, (extent of the iterator,).

    Raises:
        IllegalTransform: the network's own code cannot run with the present shapes, or a parameter is read both along
            the dimension and across it.
    """
    readers, extent = axis_readers(program, step)
    model = to_module(program).eval()
    tensors = _tensors(program, model, [reader.name for reader in readers])
    used = [reader for reader in readers if reader.name in tensors]
    leaves = list({id(tensor): tensor for tensor, _ in (tensors[reader.name] for reader in used)}.values())
    if not leaves:
        return np.zeros(extent)
    for tensor in leaves:
        tensor.requires_grad_(True)
    outputs = [y for y in tree_leaves(model(*(x[:SAMPLES] for x in inputs))) if _is_real(y)]
    generator = torch.Generator().manual_seed(seed)
    found = np.zeros(extent)
    for probe in range(PROBES):
        directions = [torch.randn(y.shape, generator=generator).to(y) for y in outputs]
        again = probe < PROBES - 1
        gradients = torch.autograd.grad(outputs, leaves, directions, retain_graph=again, allow_unused=True)
        slopes = dict(zip(map(id, leaves), gradients, strict=True))
        derivative = np.zeros(extent)
        for reader in used:
            tensor, positions = tensors[reader.name]
            slope = slopes[id(tensor)]
            if slope is not None:
                product = (tensor.detach() * slope).double()
                part = product if positions is None else product.flatten()[positions]
                _add_channels(derivative, part, reader)
        found += derivative**2 / PROBES
    return found


def axis_readers(program: Network, step: Bottleneck) -> tuple[list[Reader], int]:
    """The parameters with which the dimension that a bottleneck shrinks is read, and the iterator's extent.

    Raises:
        IllegalTransform: the step is not legal; a parameter is read both along the dimension and across it.
    """
    operation = program.module.operation
    with operation.context:
        nest, loop = find_loop(operation, step.layer, step.iter)
        coupling = Coupling(operation)
        plan = coupling.shrink(nest, loop, step.factor)
        summed = summed_axes(coupling, plan)
        channels = class_indices(coupling, plan, nest, loop)
        names = {key: marks.parameter_name(key[0]) for key in channels if key in summed}
    readers = [Reader(name, key[1], channels[key]) for key, name in names.items() if name is not None]
    return readers, loop.extent or 0


def _tensors(
    program: Network, model: nn.Module, names: Sequence[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    """Name of each parameter -> the tensor of the module that holds it and, for a piece, where it lies in there."""
    held = dict(_held(model))
    found: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
    for name in names:
        source = program.sources[name]
        if name in held:
            found[name] = held[name], None
        elif source in held and name in program.origins:
            found[name] = held[source], program.origins[name]
    return {name: pair for name, pair in found.items() if _is_real(pair[0])}


def _held(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in model.named_modules():
        if isinstance(module, NestModule):
            yield from ((name, getattr(module, local)) for local, name in module.parameter_names.items())
        else:
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            yield from ((f"{path}.{local}" if path else local, tensor) for local, tensor in own)


def _add_channels(derivative: np.ndarray, part: torch.Tensor, reader: Reader) -> None:
    """Adds up `part` over all axes but the one along which channels are read, for each channel."""
    others = [axis for axis in range(part.dim()) if axis != reader.axis]
    along = (part.sum(others) if others else part).numpy(force=True)
    for row in reader.channels:
        np.add.at(derivative, row[row >= 0], along[row >= 0])


def _is_real(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
