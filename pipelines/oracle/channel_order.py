"""Which channels go together: orders of the channels of grouped layers, chosen from Gram matrices alone.

A layer whose inputs and outputs are cut into groups of neighbours says the less of what it said the more its outputs
need inputs of other groups. In another order of its channels (see `loopmorph.passes.neural.permute`) other channels are
neighbours, and the error that least-squares repair leaves is known beforehand for each order (see `grouped_error`).

A dimension may be that of several layers: inside a residual block of what one convolution writes and the next one
reads, along the blocks of what all of them add to. Its order is chosen for all of them at once, one dimension after the
other: exactly, as an assignment with capacities, where all layers only write it; else by exchanges of channels between
groups, proposed by what each channel adds to each group and judged by the error, on the principal features of each
channel's taps where all taps are too many. The sum that comes out is never greater than before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.oracle.grouped_error import Moments, principal_moments
from loopmorph.pipelines.support.progress import Progress, silent

FEATURES = 512  # of all channels of a layer together, on which exchanges are judged
SWEEPS = 8  # over all dimensions, at most
_ASYMMETRY = 1e-5  # of the greatest moment: float32 sums in another order differ by less
_MOST_STARTS = 32
_STARTED_CHANNELS = 256  # of all starts together
_LEAST_GAIN = 1e-3  # of the error, for another sweep
_SINGLE_TRIALS = 48  # exchanges of one pair that may fail before a dimension is given up; fewer where channels are many


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
    exact = [Moments.of(layer.gram, _float64(layer.weight)) for layer in layers]
    blocks = {n: math.lcm(*(layer.groups for layer in layers if n in (layer.inputs, layer.outputs))) for n in extents}
    start = {name: np.arange(extent) * blocks[name] // extent for name, extent in extents.items()}
    judged = _Grouping(layers, exact, blocks)
    before = judged.errors(start)
    search = _Grouping(layers, [_judged_moments(m, layer) for m, layer in zip(exact, layers, strict=True)], blocks)
    free = [name for name, extent in extents.items() if name not in fixed and blocks[name] > 1]
    found = [_descend(search, begin, free, tell) for begin in _starts(start, free)]
    labels = min(found, key=lambda each: search.total(search.errors(each)))
    for name in free:
        if judged.only_written(name):
            labels = judged.assigned(labels, name)
    after = judged.errors(labels)
    if judged.total(after) >= judged.total(before):
        labels, after = start, before
    orders = {name: tuple(np.argsort(label, kind="stable").tolist()) for name, label in labels.items()}
    return ChannelOrders(orders, tuple(before), tuple(after))


_Labels = dict[str, np.ndarray]  # of each dimension the block that each channel is in


@dataclass(eq=False)
class _Grouping:
    """The layers, and what groups of their channels explain.

    A dimension is cut into as many blocks as the finest of its layers needs; a layer with fewer groups takes several
    blocks together.
    """

    layers: Sequence[GroupedLayer]
    moments: Sequence[Moments]
    blocks: Mapping[str, int]
    known: dict[tuple[int, bytes], np.ndarray] = field(default_factory=dict)

    def errors(self, labels: _Labels) -> list[float]:
        """The relative error of each layer."""
        return [self._error(k, labels) for k in range(len(self.layers))]

    def total(self, errors: Sequence[float]) -> float:
        return sum(layer.importance * error for layer, error in zip(self.layers, errors, strict=True))

    def error_along(self, labels: _Labels, name: str) -> float:
        """The weighted errors of the layers that have a dimension."""
        return sum(self.layers[k].importance * self._error(k, labels) for k in self._with(name))

    def only_written(self, name: str) -> bool:
        return all(layer.inputs != name for layer in self.layers)

    def written_with(self, name: str) -> list[str]:
        """The dimensions that layers write which read a given one, and no others."""
        outputs = dict.fromkeys(layer.outputs for layer in self.layers if layer.inputs == name)
        return [o for o in outputs if all(layer.inputs == name for layer in self.layers if layer.outputs == o)]

    def assigned(self, labels: _Labels, name: str) -> _Labels:
        """The best blocks for the channels of a dimension that the layers only write."""
        capacity = len(labels[name]) // self.blocks[name]
        values = np.repeat(self.values(labels, name), capacity, axis=1)
        _, columns = linear_sum_assignment(values, maximize=True)
        return {**labels, name: columns // capacity}

    def values(self, labels: _Labels, name: str) -> np.ndarray:
        """What each channel of a dimension adds to the weighted explained shares in each block: (channels, blocks)."""
        found = np.zeros((len(labels[name]), self.blocks[name]))
        for k in self._with(name):
            layer, moments = self.layers[k], self.moments[k]
            share = layer.importance / moments.power if moments.power > 0 else 0.0
            per_block = self.blocks[name] // layer.groups
            for group, (channels, outputs) in enumerate(self._groups(k, labels)):
                span = slice(group * per_block, (group + 1) * per_block)
                if layer.outputs == name:
                    found[:, span] += share * self._explained(k, channels)[:, None]
                if layer.inputs == name:
                    found[:, span] += share * moments.marginals(channels, outputs)[:, None]
        return found

    def _with(self, name: str) -> list[int]:
        return [k for k, layer in enumerate(self.layers) if name in (layer.inputs, layer.outputs) and layer.groups > 1]

    def _error(self, k: int, labels: _Labels) -> float:
        power = self.moments[k].power
        if power <= 0:
            return 0.0
        found = sum(float(self._explained(k, channels)[outputs].sum()) for channels, outputs in self._groups(k, labels))
        return max(0.0, 1 - found / power)

    def _groups(self, k: int, labels: _Labels) -> list[tuple[np.ndarray, np.ndarray]]:
        """Input channels and output channels of each group of a layer."""
        layer = self.layers[k]
        sides = [labels[name] * layer.groups // self.blocks[name] for name in (layer.inputs, layer.outputs)]
        return [(np.flatnonzero(sides[0] == g), np.flatnonzero(sides[1] == g)) for g in range(layer.groups)]

    def _explained(self, k: int, channels: np.ndarray) -> np.ndarray:
        key = (k, channels.tobytes())
        if key not in self.known:
            self.known[key] = self.moments[k].explained(channels)
        return self.known[key]


def _starts(present: _Labels, free: Sequence[str]) -> list[_Labels]:
    """The present order and some random ones: the fewer channels there are, the more the end depends on the start."""
    generator = np.random.default_rng(0)
    count = min(
        _MOST_STARTS, _STARTED_CHANNELS // max((len(present[name]) for name in free), default=_STARTED_CHANNELS)
    )
    shuffled = [{name: generator.permutation(present[name]) for name in free} for _ in range(count - 1)]
    return [present, *({**present, **each} for each in shuffled)]


@dataclass(frozen=True)
class _Side:
    """A dimension whose channels are exchanged, and the free ones that its layers alone write: they follow at once."""

    name: str
    followers: tuple[str, ...]


def _descend(grouping: _Grouping, start: _Labels, free: Sequence[str], tell: Progress) -> _Labels:
    """Sweeps over the free dimensions until the error stays."""
    written = [name for name in free if grouping.only_written(name)]
    labels, error = dict(start), grouping.total(grouping.errors(start))
    for sweep in range(SWEEPS):
        for k, name in enumerate(free):
            tell(f"order of channels, sweep {sweep + 1}", k, len(free))
            if name in written:
                labels = grouping.assigned(labels, name)
            else:
                followers = tuple(other for other in grouping.written_with(name) if other in written)
                labels = _exchanged(grouping, labels, _Side(name, followers))
        last, error = error, grouping.total(grouping.errors(labels))
        if last - error <= _LEAST_GAIN * last:
            break
    return labels


def _exchanged(grouping: _Grouping, labels: _Labels, side: _Side) -> _Labels:
    """The labels after exchanges of channels of a dimension, many at once as long as that helps."""
    size = len(labels[side.name])
    error = grouping.error_along(labels, side.name)
    batch, trials = size, max(4, _SINGLE_TRIALS * 64 // max(64, size))
    while True:
        pairs = _exchanges(grouping.values(labels, side.name), labels[side.name])
        better = False
        while batch > 1 and not better:
            chosen = _disjoint(pairs, batch)
            better, labels, error = _tried(grouping, labels, side, chosen, error)
            batch = min(2 * batch, size) if better else min(len(chosen), batch) // 2
        for pair in () if better else pairs[:trials]:
            better, labels, error = _tried(grouping, labels, side, pair[None], error)
            if better:
                batch = 2
                break
        if not better:
            return labels


_Trial = tuple[bool, _Labels, float]


def _tried(grouping: _Grouping, labels: _Labels, side: _Side, pairs: np.ndarray, error: float) -> _Trial:
    """Exchanges pairs of channels; whether that was better, and what holds now."""
    own = labels[side.name].copy()
    own[pairs] = own[pairs[:, ::-1]]
    trial = {**labels, side.name: own}
    for other in side.followers:
        trial = grouping.assigned(trial, other)
    found = grouping.error_along(trial, side.name)
    return (True, trial, found) if len(pairs) and found < error * (1 - 1e-9) else (False, labels, error)


def _exchanges(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The pairs of channels of different blocks whose exchange promises most, the best first: int, (pairs, 2)."""
    found, gains = [], []
    blocks = values.shape[1]
    moved = values - values[np.arange(len(label)), label][:, None]
    members = [np.flatnonzero(label == block) for block in range(blocks)]
    for p in range(blocks):
        for q in range(p + 1, blocks):
            gain = np.add.outer(moved[members[p], q], moved[members[q], p])
            best = np.argsort(-gain, axis=None, kind="stable")[: len(label)]
            rows, columns = np.unravel_index(best, gain.shape)
            found.append(np.stack([members[p][rows], members[q][columns]], axis=1))
            gains.append(gain[rows, columns])
    return np.concatenate(found)[np.argsort(-np.concatenate(gains), kind="stable")]


def _disjoint(pairs: np.ndarray, count: int) -> np.ndarray:
    """The first `count` pairs that have no channel in common with one before."""
    used: set[int] = set()
    chosen = []
    for a, b in pairs.tolist():
        if a not in used and b not in used:
            used.update((a, b))
            chosen.append((a, b))
            if len(chosen) == count:
                break
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def _judged_moments(exact: Moments, layer: GroupedLayer) -> Moments:
    """The moments on which exchanges are judged: exact ones where they are few."""
    channels = layer.weight.shape[1]
    kept = max(1, FEATURES // channels)
    return exact if kept >= exact.taps else principal_moments(exact, _float64(layer.weight), kept)


def _float64(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


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
