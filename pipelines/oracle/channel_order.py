"""Which channels go together: orders of the channels of grouped layers, chosen from Gram matrices alone.

A layer whose inputs and outputs are cut into groups of neighbours says the less of what it said the more its outputs
need inputs of other groups. In another order of its channels (see `loopmorph.passes.neural.permute`) other channels are
neighbours, and the error that least-squares repair leaves is known beforehand for each order (see `grouped_error`).

A dimension may be that of several layers: inside a residual block of what one convolution writes and the next one
reads, along the blocks of what all of them add to. Its order is chosen for all of them at once, one dimension after the
other: exactly, as an assignment with capacities, where all layers only write it; else by exchanges of channels between
groups, proposed by what each channel adds to each group and judged by the error, on the principal features of each
channel's taps where all taps are too many. They begin where assignments of one dimension after the other end which make
the energy great that stays within groups (see `channel_search`). The sum that comes out is never greater than before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.oracle.channel_search import Cut, Grouping, descend, starts
from loopmorph.pipelines.oracle.grouped_error import Moments, diagonal_blocks, float64, principal_moments
from loopmorph.pipelines.support.progress import Progress, silent

FEATURES = 512  # of all channels of a layer together, on which exchanges are judged
_ASYMMETRY = 1e-5  # of the greatest moment: float32 sums in another order differ by less


@dataclass(frozen=True, eq=False)
class GroupedLayer:
    """A linear layer that is to be grouped.

    Attributes:
        gram: E[u u^T] of what the layer reads at a point, (channels * taps, channels * taps), the taps of a channel
            side by side; symmetric and positive semi-definite, singular or not. float64, or float32 to take half the
            memory.
        weight: (outputs, channels, ...taps), as of a dense convolution or linear layer.
        groups: into how many its channels are cut.
        inputs: the name of the dimension of its input channels.
        outputs: the name of the dimension of its output channels.
        importance: the factor of its relative error in the sum that is made small.
    """

    gram: np.ndarray
    weight: np.ndarray
    groups: int
    inputs: str
    outputs: str
    importance: float = 1.0


@dataclass(frozen=True)
class ChannelOrders:
    """The chosen orders, and what they are worth.

    Attributes:
        orders: of each dimension the old index of each new one, as `morph-permute` takes it.
        before: of each layer the error in the present order, relative to the mean square of its outputs.
        after: the same in the chosen orders.
    """

    orders: Mapping[str, tuple[int, ...]]
    before: tuple[float, ...]
    after: tuple[float, ...]


def order_channels(
    layers: Sequence[GroupedLayer], fixed: Collection[str] = (), tell: Progress = silent
) -> ChannelOrders:
    """Orders of all dimensions that make the sum of the layers' relative errors, times their importance, small.

    Args:
        layers: the layers; those that name the same dimension share its order.
        fixed: dimensions that keep their order, since others than these layers are tied to them.
        tell: told of each dimension that is done.

    Raises:
        ArgumentError: no layers; a Gram matrix that does not fit its weight, is not symmetric and positive
            semi-definite, or holds values that are not finite; groups that do not divide the channels; layers that give
            a dimension different extents; an importance that is not positive; a fixed dimension that no layer has.
    """
    extents = _checked(layers, fixed)
    try:
        return _ordered(layers, extents, fixed, tell)
    except np.linalg.LinAlgError as error:
        raise ArgumentError("gram", "one of them is not positive semi-definite, so that it holds no moments") from error


def _ordered(
    layers: Sequence[GroupedLayer], extents: Mapping[str, int], fixed: Collection[str], tell: Progress
) -> ChannelOrders:
    exact = [Moments.of(layer.gram, float64(layer.weight)) for layer in layers]
    cuts = [Cut(layer.groups, layer.inputs, layer.outputs, layer.importance) for layer in layers]
    blocks = {n: math.lcm(*(cut.groups for cut in cuts if n in (cut.inputs, cut.outputs))) for n in extents}
    present = {name: np.arange(extent) * blocks[name] // extent for name, extent in extents.items()}
    judged = Grouping(cuts, exact, blocks)
    before = judged.errors(present)
    search = Grouping(cuts, [_judged_moments(m, layer) for m, layer in zip(exact, layers, strict=True)], blocks)
    free = [name for name in extents if name not in fixed and blocks[name] > 1]
    free.sort(key=lambda name: sum(name in (cut.inputs, cut.outputs) for cut in cuts))
    energies = [_energy(layer, moments) for layer, moments in zip(layers, exact, strict=True)]
    found = [descend(search, begin, free, tell) for begin in starts(search, energies, present, free)]
    labels = min(found, key=lambda each: search.total(search.errors(each)))
    for name in free:
        if judged.only_written(name):
            labels = judged.assigned(labels, name)
    after = judged.errors(labels)
    if judged.total(after) >= judged.total(before):
        labels, after = present, before
    orders = {name: tuple(np.argsort(label, kind="stable").tolist()) for name, label in labels.items()}
    return ChannelOrders(orders, tuple(before), tuple(after))


def _energy(layer: GroupedLayer, moments: Moments) -> np.ndarray:
    """The share of each channel in the mean square of each output, as if channels had nothing in common: (outputs,
    channels) float64, 1 together but for what they have in common.
    """
    blocks = float64(layer.weight).reshape(*layer.weight.shape[:2], -1)
    own = float64(diagonal_blocks(moments.gram, moments.taps))
    found = np.einsum("oct,oct->oc", np.einsum("ocs,cst->oct", blocks, own, optimize=True), blocks)
    return found / moments.power if moments.power > 0 else found


def _judged_moments(exact: Moments, layer: GroupedLayer) -> Moments:
    """The moments on which exchanges are judged: exact ones where they are few."""
    channels = layer.weight.shape[1]
    kept = max(1, FEATURES // channels)
    return exact if kept >= exact.taps else principal_moments(exact, float64(layer.weight), kept)


def _checked(layers: Sequence[GroupedLayer], fixed: Collection[str]) -> dict[str, int]:
    """The extents of the dimensions, in the order of their first layers.

    Raises:
        ArgumentError: as `order_channels`.
    """
    if not layers:
        raise ArgumentError("layers", "expected at least one")
    extents: dict[str, int] = {}
    for number, layer in enumerate(layers):
        where = f"layer {number}"
        shape, gram = np.shape(layer.weight), np.shape(layer.gram)
        if len(shape) < 2 or 0 in shape:
            raise ArgumentError("weight", f"of {where}: expected (outputs, channels, ...taps), got the shape {shape}")
        reads = math.prod(shape[1:])
        if gram != (reads, reads):
            raise ArgumentError("gram", f"of {where}: expected the shape {(reads, reads)} of its weight, got {gram}")
        for argument, values in (("gram", layer.gram), ("weight", layer.weight)):
            if not np.isfinite(values).all():
                raise ArgumentError(argument, f"of {where}: it holds values that are not finite")
        if np.abs(layer.gram - layer.gram.T).max() > _ASYMMETRY * np.abs(layer.gram).max():
            raise ArgumentError("gram", f"of {where}: it is not symmetric")
        if not 0 < layer.importance < math.inf:
            raise ArgumentError("importance", f"of {where}: expected a positive number, got {layer.importance}")
        if layer.groups < 1 or shape[0] % layer.groups or shape[1] % layer.groups:
            wanted = f"expected a divisor of its {shape[0]} outputs and {shape[1]} channels"
            raise ArgumentError("groups", f"of {where}: {wanted}, got {layer.groups}")
        for name, extent in ((layer.inputs, shape[1]), (layer.outputs, shape[0])):
            if extents.setdefault(name, extent) != extent:
                raise ArgumentError("layers", f"dimension '{name}' has {extents[name]} channels, in {where} {extent}")
    for name in fixed:
        if name not in extents:
            raise ArgumentError("fixed", f"no layer has a dimension '{name}'; they have {', '.join(extents)}")
    return extents
