"""Repair: the rewritten network with weights that are fitted, layer by layer, to the trained original.

Both networks run side by side on the same unlabelled images, one layer at a time (`Lockstep`). A rewritten layer, and
every one after it that is linear in its parameters, is fitted to what the original's gives, on what the repaired ones
before it hand to it (`fit_layer`); BatchNorm's statistics follow those of its input. Nothing is trained,
and no label is needed.

The source of the idea: layer-wise reconstruction as in He et al., "Channel Pruning for Accelerating Very Deep Neural
Networks" (ICCV 2017), and Frantar and Alistarh, "Optimal Brain Compression" (NeurIPS 2022); here for whatever nests a
transformation leaves.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.repair.repair_work import LayerRepair, RepairWork
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.support.devices import resolve_device
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.progress import Progress, silent

_LIVE = 8  # activations of the largest size that both networks and a fit hold together

NetworkT = TypeVar("NetworkT", bound=Network)


@dataclass(frozen=True)
class Repair(Generic[NetworkT]):
    """A repaired network.

    Attributes:
        program: the network with its new values.
        layers: what was done to each layer, in the order in which they run.
        images: how many images it was fitted to; fewer than given where their activations would take too much memory.
    """

    program: NetworkT
    layers: tuple[LayerRepair, ...]
    images: int


def repair(
    original: Network,
    program: NetworkT,
    batches: torch.Tensor | Iterable[Any],
    settings: FitSettings | None = None,
    *,
    device: torch.device | str | None = None,
    progress: Progress = silent,
) -> Repair[NetworkT]:
    """Fits the weights of a rewritten network to the original it came from.

    Args:
        original: the network as imported, trained.
        program: what transformations made of it.
        batches: its inputs, without labels: a tensor (N, ...), or an iterable of tensors or of tuples of tensors (one
            for each positional input; pairs of images and integer labels as a DataLoader gives them count as images).
        settings: how layers are fitted.
        device: where to compute; None takes a CUDA device when there is one.
        progress: called with "repair", the layers that are done and all.

    Returns:
        The network, its loops and shapes as they were, with what was done to it. A network that no neural
        transformation changed comes back with the values that it had.

    Raises:
        ArgumentError: no images, or ones that the network does not take.
        IllegalTransform: the network's own code cannot run with the new shapes.
    """
    settings = settings or FitSettings()
    inputs = gathered(original, batches, _most(original, settings.memory))
    if not any(step.kind == "neural" for step in program.history):
        return Repair(program, (), inputs[0].shape[0])
    place = resolve_device(device)
    source, model = (
        switch_to_inference(each).to(place) for each in (copy.deepcopy(original.model), to_module(program))
    )
    examples = [x.to(place) for x in original.example_inputs]
    work = RepairWork.prepared(original, program, (source, model), examples, settings, progress)
    work.run(tuple(x.to(place) for x in inputs))
    values = {name: value.to(program.parameters[name]) for name, value in work.values.items()}
    return Repair(program.with_values(values), tuple(work.done), inputs[0].shape[0])


def gathered(
    network: Network, batches: torch.Tensor | Iterable[Any], most: int | None = None
) -> tuple[torch.Tensor, ...]:
    """The batches as one batch of each positional input.

    Args:
        network: what takes them.
        batches: see `repair`.
        most: how many rows are taken; what comes after them is not asked for. None for all.

    Raises:
        ArgumentError: none, or of other shapes or types than the network takes.
    """
    examples = network.example_inputs
    if network.example_kwargs or not all(isinstance(x, torch.Tensor) for x in examples):
        reason = "it takes keywords, nested inputs or constants; repair hands it tensors by position alone"
        raise ArgumentError("model", reason)
    if not isinstance(batches, torch.Tensor | Iterable):
        kind = type(batches).__name__
        raise ArgumentError("batches", f"{kind} was given; a tensor or an iterable of batches is expected")
    rows: list[tuple[torch.Tensor, ...]] = []
    count = 0
    for batch in [batches] if isinstance(batches, torch.Tensor) else batches:
        alone = isinstance(batch, torch.Tensor) or not isinstance(batch, Sequence)
        row = (batch,) if alone else tuple(batch)[: len(examples)]
        _check_batch(examples, row)
        rows.append(tuple(x if most is None else x[: most - count] for x in row))
        count += row[0].shape[0]
        if most is not None and count >= most:
            break
    if not count:
        raise ArgumentError("batches", "there are no images; at least one is needed")
    return tuple(torch.cat(column) for column in zip(*rows, strict=True))


def _most(network: Network, memory: int) -> int:
    """How many images' activations fit: of the largest buffer of one, `_LIVE` are there at the same time."""
    memrefs = {a.memref: ir.MemRefType(a.memref.type) for nest in network.nests for a in nest.accesses}
    sizes = [math.prod(t.shape) for m, t in memrefs.items() if marks.parameter_name(m) is None and t.rank]
    batch = network.example_inputs[0].shape[0] if network.example_inputs else 1
    return max(1, memory * batch // (max(sizes, default=1) * 4 * _LIVE))


def _check_batch(examples: Sequence[torch.Tensor], row: Sequence[Any]) -> None:
    wanted = ", ".join(f"(N, {', '.join(map(str, x.shape[1:]))}) {x.dtype}" for x in examples)
    given = ", ".join(f"{tuple(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__ for x in row)
    fits = len(row) == len(examples) and all(
        isinstance(x, torch.Tensor) and x.shape[1:] == e.shape[1:] and x.dtype == e.dtype
        for x, e in zip(row, examples, strict=True)
    )
    if not fits:
        raise ArgumentError("batches", f"{given or 'nothing'} was given; {wanted.replace('torch.', '')} is expected")
