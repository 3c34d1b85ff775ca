"""The search behind `channel_order`: which block each channel of each dimension belongs to.

A dimension is cut into as many blocks as the finest of its layers needs; a layer with fewer groups takes several blocks
together. Labels say of each channel of each dimension which block it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy  # its parts are loaded when they are first used

from loopmorph.pipelines.oracle.grouped_error import Moments
from loopmorph.pipelines.support.progress import Progress

SWEEPS = 8  # over all dimensions, at most
_RANDOM_STARTS = 8
_ASSIGNMENTS = 12  # sweeps of assignments from a random start, at most
_MOST_STARTS = 32
_STARTED_CHANNELS = 128  # of all starts together but the first
_LEAST_GAIN = 1e-3  # of the error, for another sweep
_PAIRS = 4  # proposed exchanges for each channel, of all blocks together
_SINGLE_TRIALS = 48  # exchanges of one pair that may fail before a dimension is given up; fewer where channels are many

Labels = dict[str, np.ndarray]  # of each dimension the block that each channel is in


@dataclass(frozen=True)
class Cut:
    """A layer that is cut into groups: how many, the dimensions of its channels, and the factor of its error."""

    groups: int
    inputs: str
    outputs: str
    importance: float


@dataclass(eq=False)
class Grouping:
    """Layers, and what groups of their channels explain.

    Attributes:
        cuts: the layers.
        moments: of each, what it reads and computes.
        blocks: into how many each dimension is cut.
        known: what has been asked for before.
    """

    cuts: Sequence[Cut]
    moments: Sequence[Moments]
    blocks: Mapping[str, int]
    known: dict[tuple[int, bytes, bytes], float] = field(default_factory=dict)

    def errors(self, labels: Labels) -> list[float]:
        """The relative error of each layer."""
        return [self._error(k, labels) for k in range(len(self.cuts))]

    def total(self, errors: Sequence[float]) -> float:
        """The weighted sum of all layers' errors."""
        return sum(cut.importance * error for cut, error in zip(self.cuts, errors, strict=True))

    def error_along(self, labels: Labels, name: str) -> float:
        """The weighted errors of the layers that have a dimension."""
        return sum(self.cuts[k].importance * self._error(k, labels) for k in self.along(name))

    def along(self, name: str) -> list[int]:
        """The layers that are grouped along a dimension."""
        return [k for k, cut in enumerate(self.cuts) if name in (cut.inputs, cut.outputs) and cut.groups > 1]

    def only_written(self, name: str) -> bool:
        """Whether no layer reads a dimension."""
        return all(cut.inputs != name for cut in self.cuts)

    def written_with(self, name: str) -> list[str]:
        """The dimensions that layers write which read a given one, and no others."""
        outputs = dict.fromkeys(cut.outputs for cut in self.cuts if cut.inputs == name)
        return [o for o in outputs if all(cut.inputs == name for cut in self.cuts if cut.outputs == o)]

    def assigned(self, labels: Labels, name: str) -> Labels:
        """The best blocks for the channels of a dimension that the layers only write."""
        return {**labels, name: assignment(self.values(labels, name))}

    def values(self, labels: Labels, name: str) -> np.ndarray:
        """What each channel of a dimension adds to the weighted explained shares in each block: (channels, blocks)."""
        found = np.zeros((len(labels[name]), self.blocks[name]))
        for k in self.along(name):
            cut, moments = self.cuts[k], self.moments[k]
            share = cut.importance / moments.power if moments.power > 0 else 0.0
            channels, outputs = self._groups(k, labels)
            per_block = self.blocks[name] // cut.groups
            if cut.outputs == name:
                found += share * np.repeat(moments.explained(channels), per_block, axis=0).T
            if cut.inputs == name:
                found += share * np.repeat(moments.marginals(channels, outputs), per_block, axis=0).T
        return found

    def members(self, k: int, labels: Labels, name: str) -> np.ndarray:
        """The channels of a dimension in each group of a layer: (groups, channels of each), ascending."""
        groups = labels[name] * self.cuts[k].groups // self.blocks[name]
        return np.argsort(groups, kind="stable").reshape(self.cuts[k].groups, -1)

    def _groups(self, k: int, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
        """Input channels and output channels of each group of a layer."""
        return self.members(k, labels, self.cuts[k].inputs), self.members(k, labels, self.cuts[k].outputs)

    def _error(self, k: int, labels: Labels) -> float:
        power = self.moments[k].power
        if power <= 0:
            return 0.0
        channels, outputs = self._groups(k, labels)
        keys = [(k, c.tobytes(), o.tobytes()) for c, o in zip(channels, outputs, strict=True)]
        new = [g for g, key in enumerate(keys) if key not in self.known]
        if new:
            found = self.moments[k].explained_of(channels[new], outputs[new]).sum(1)
            self.known.update(zip([keys[g] for g in new], found.tolist(), strict=True))
        return max(0.0, 1 - sum(self.known[key] for key in keys) / power)


def assignment(values: np.ndarray) -> np.ndarray:
    """The block of each channel, equally many in each, with which the sum of the values (channels, blocks) is greatest.

    An assignment problem with capacities; Kuhn, "The Hungarian method for the assignment problem" (1955).
    """
    capacity = len(values) // values.shape[1]
    _, columns = scipy.optimize.linear_sum_assignment(np.repeat(values, capacity, axis=1), maximize=True)
    return np.asarray(columns // capacity)


def starts(grouping: Grouping, energies: Sequence[np.ndarray], present: Labels, free: Sequence[str]) -> list[Labels]:
    """Where a search begins: the best that is found from random orders by the energies alone; where there are few
    channels, so that the end depends on the start, the present order and random ones as well.

    Args:
        grouping: the layers.
        energies: of each layer the share of each channel in each output, (outputs, channels).
        present: the present order.
        free: the dimensions whose order may change.
    """
    if not free:
        return [present]
    generator = np.random.default_rng(0)

    def shuffled() -> Labels:
        return {**present, **{name: generator.permutation(present[name]) for name in free}}

    count = min(_MOST_STARTS, _STARTED_CHANNELS // max(len(present[name]) for name in free))
    ascended = [_ascended(grouping, energies, shuffled(), free) for _ in range(_RANDOM_STARTS)]
    best = min(ascended, key=lambda each: grouping.total(grouping.errors(each)))
    return [best, *[present, *(shuffled() for _ in range(count))][:count]]


def _ascended(grouping: Grouping, energies: Sequence[np.ndarray], labels: Labels, free: Sequence[str]) -> Labels:
    """The labels after assignments of one dimension after the other, by what energy stays within blocks."""
    last = -np.inf
    for _ in range(_ASSIGNMENTS):
        total = 0.0
        for name in free:
            values = _kept_energy(grouping, energies, labels, name)
            labels = {**labels, name: assignment(values)}
            total += float(values[np.arange(len(values)), labels[name]].sum())
        if total <= last * (1 + _LEAST_GAIN):
            break
        last = total
    return labels


def _kept_energy(grouping: Grouping, energies: Sequence[np.ndarray], labels: Labels, name: str) -> np.ndarray:
    """The weighted energy that stays within groups for each channel in each block: (channels, blocks)."""
    found = np.zeros((len(labels[name]), grouping.blocks[name]))
    for k in grouping.along(name):
        cut = grouping.cuts[k]
        per_block = grouping.blocks[name] // cut.groups
        sides = ((cut.outputs, cut.inputs, energies[k]), (cut.inputs, cut.outputs, energies[k].T))
        for own, other, energy in sides:
            if own == name:
                kept = energy[:, grouping.members(k, labels, other)].sum(2)
                found += cut.importance * np.repeat(kept, per_block, axis=1)
    return found


@dataclass(frozen=True)
class _Side:
    """A dimension whose channels are exchanged, and the free ones that its layers alone write: they follow at once."""

    name: str
    followers: tuple[str, ...]


def descend(grouping: Grouping, start: Labels, free: Sequence[str], tell: Progress) -> Labels:
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


def _exchanged(grouping: Grouping, labels: Labels, side: _Side) -> Labels:
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


_Trial = tuple[bool, Labels, float]


def _tried(grouping: Grouping, labels: Labels, side: _Side, pairs: np.ndarray, error: float) -> _Trial:
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
    return np.concatenate(found)[np.argsort(-np.concatenate(gains), kind="stable")[: _PAIRS * len(label)]]


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
