"""What the channels of a network's dimensions are worth to what reads them: what its bottlenecks choose by.

The readers are found through coupling analysis in the network as imported, whose own activations judge (see
`channel_choice`); which of those channels a rewritten network still has, and in which order, its weights tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.dimension_names import find_loop
from loopmorph.passes.analysis.roles import is_grid, is_reduction
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.channel_choice import Elimination, channel_losses
from loopmorph.pipelines.oracle.read_moments import ReadMoments, read_moments
from loopmorph.pipelines.oracle.saliency import Reader, axis_readers
from loopmorph.pipelines.oracle.score_features import feature_losses
from loopmorph.pipelines.support.progress import Progress, silent

Dimension = tuple[str, str]  # a layer and its iterator
Losses = Mapping[Dimension, np.ndarray]
KnownLosses = dict[tuple[str, str, int], np.ndarray | None]  # by layer, iterator and factor; None where there are none


@dataclass(eq=False)
class _Pending:
    """A dimension some of whose readers have been seen."""

    extent: int
    kept: int
    awaited: dict[str, Reader]
    seen: list[Elimination] = field(default_factory=list)


def losses_by_dimension(
    original: Network,
    steps: Sequence[Bottleneck],
    inputs: Sequence[torch.Tensor],
    tell: Progress = silent,
    known: KnownLosses | None = None,
) -> dict[Dimension, np.ndarray]:
    """For the dimensions that bottlenecks shrink what each channel's going would lose (see `channel_losses`).

    Args:
        original: the network as imported.
        steps: bottlenecks, legal there or after other steps.
        inputs: the network's inputs, as a batch of any size.
        tell: told of each layer that is looked at.
        known: what was found of the same network and inputs before; what is found now is added.

    Returns:
        (layer, iterator) -> float64, (extent,). A dimension is left out if it does not pick channels, if the original
        does not admit the step, or if not all that reads it is a linear layer by itself (see `read_moments`); features
        of queries and keys, which are multiplied with each other, are judged by the scores (see `score_features`).

    Raises:
        ArgumentError: the network fails on the inputs.
    """
    known = {} if known is None else known
    by_dimension = {(step.layer, step.iter): step for step in steps}
    new = {dimension: step for dimension, step in by_dimension.items() if _key(step) not in known}
    if new:
        found = _losses_of(original, list(new.values()), inputs, tell)
        known.update({_key(step): found.get(dimension) for dimension, step in new.items()})
    each = {dimension: known[_key(step)] for dimension, step in by_dimension.items()}
    return {dimension: losses for dimension, losses in each.items() if losses is not None}


def _key(step: Bottleneck) -> tuple[str, str, int]:
    return step.layer, step.iter, step.factor


def _losses_of(
    original: Network, steps: Sequence[Bottleneck], inputs: Sequence[torch.Tensor], tell: Progress
) -> dict[Dimension, np.ndarray]:
    pending = {(step.layer, step.iter): found for step in steps if (found := _pending(original, step)) is not None}
    wanted = {name for each in pending.values() for name in each.awaited}
    losses = feature_losses(original, [step for step in steps if (step.layer, step.iter) not in pending], inputs)
    for moments in read_moments(original, wanted, inputs, tell):
        for dimension, each in pending.items():
            reader = each.awaited.get(moments.parameter)
            parts = None if reader is None else _parts(moments, reader)
            if parts is not None:
                del each.awaited[moments.parameter]
                each.seen += parts
                if not each.awaited:
                    losses[dimension] = channel_losses(each.seen, each.extent, each.kept)
                    each.seen = []
    return losses


def present_losses(program: Network, step: Bottleneck, losses: Losses) -> np.ndarray | None:
    """The losses of the channels that a bottleneck chooses from, in the order that they have by now.

    Args:
        program: the network before the step.
        step: the bottleneck.
        losses: of the original's dimensions.

    Returns:
        float64, (extent of the iterator,); None where they are not known, or no parameter tells which are left.
    """
    known = losses.get((step.layer, step.iter))
    if known is not None and _extent(program, step) == len(known):
        return known
    for name, axis in [] if known is None else indexed_axes(program, step.layer, step.iter):
        present = inherited_indices(program, name, axis)
        if known is not None and present is not None and present.max() < len(known):
            return known[present]
    return None


def _extent(program: Network, step: Bottleneck) -> int | None:
    operation = program.module.operation
    with operation.context:
        return find_loop(operation, step.layer, step.iter)[1].extent


def indexed_axes(program: Network, layer: str, iterator: str) -> list[tuple[str, int]]:
    """The axes of parameters that an iterator of a layer, and nothing else, indexes: name and number.

    Raises:
        ArgumentError: no such layer or iterator.
    """
    operation = program.module.operation
    with operation.context:
        nest, loop = find_loop(operation, layer, iterator)
        position = loop.position
        return [
            (name, axis)
            for access in nest.accesses
            if (name := marks.parameter_name(access.memref)) is not None
            for axis, expr in enumerate(access.exprs)
            if used_dims(expr) == {position}
        ]


def inherited_indices(program: Network, name: str, axis: int) -> np.ndarray | None:
    """Which index of the imported parameter each index of a parameter's axis inherits from, int64.

    None where that is not the same for all elements, or the parameter is a new one.
    """
    source = program.sources[name]
    if source is None:
        return None
    shape = program.imported[source].shape
    if axis >= len(shape):
        return None
    labels = torch.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))]).expand(shape)
    present = program.inherit_from(name, labels)
    found = present.movedim(axis, 0).flatten(1) if axis < present.dim() else present[:0]
    return found[:, 0].numpy() if found.numel() and bool((found == found[:, :1]).all()) else None


def _pending(original: Network, step: Bottleneck) -> _Pending | None:
    operation = original.module.operation
    try:
        with operation.context:
            nest, loop = find_loop(operation, step.layer, step.iter)
            if is_reduction(nest, loop.position) or is_grid(nest, loop):
                return None
        readers, extent = axis_readers(original, step)
    except (ArgumentError, IllegalTransform):  # an address that other steps make, or an extent that they do
        return None
    awaited = {reader.name: reader for reader in readers}
    return _Pending(extent, extent // step.factor, awaited) if awaited else None


def _parts(moments: ReadMoments, reader: Reader) -> list[Elimination] | None:
    """A reader's independent blocks, each with its channels; None where those cannot be told."""
    blocks = len(moments.gram)
    if len(reader.channels) not in (1, blocks):
        return None
    found = []
    for block in range(blocks):
        row = reader.channels[block if len(reader.channels) > 1 else 0]
        channels = row[moments.index[reader.axis][block, :, 0]]
        part = Elimination.of(moments.gram[block], moments.weight[block], channels)
        if part is not None:
            found.append(part)
    return found
