"""How well signals rank networks by the accuracy that training gives them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are first used

from loopmorph.pipelines.bench.signal_rows import SignalRow

SIZE = "macs"  # the signal by which networks are of a class
_LEAST = 3  # networks in a class that counts


@dataclass(frozen=True)
class Rank:
    """What one signal's ranking is worth.

    Attributes:
        signal: its name.
        overall: Spearman's rank correlation with the accuracy over all networks; NaN where either is constant.
        error: its standard error, `(1 - r^2) sqrt((1 + r^2 / 2) / (n - 3))` (Bonett and Wright 2000).
        within: mean over the classes of networks of equal MACs of the correlation within the class, weighted by the
            class's size; a signal that is constant in a class counts as 0 there. NaN where there is no class.
        partial: Spearman's partial correlation given MACs: what the signal tells beyond them where no two networks are
            of one class. NaN where either is a function of MACs.
        without: networks for which the signal has no finite value; they count as the worst, and as alike.
    """

    signal: str
    overall: float
    error: float
    within: float
    partial: float
    without: int


@dataclass(frozen=True)
class RankTable:
    """The ranks of several signals over the same networks.

    Attributes:
        ranks: one for each signal.
        networks: how many there are.
        classes: how many classes of networks of equal MACs count: those of 3 and more whose accuracies differ.
        in_classes: how many networks are in them.
    """

    ranks: tuple[Rank, ...]
    networks: int
    classes: int
    in_classes: int


def rank_table(rows: Iterable[SignalRow], signals: Sequence[str]) -> RankTable:
    """Ranks networks by signals.

    Args:
        rows: the networks; those that lack the score of one of the signals, or of `SIZE`, are left out.
        signals: the names of the signals to rank by; larger values are taken to be better.
    """
    needed = {*signals, SIZE}
    chosen = [row for row in rows if needed <= row.scores.keys()]
    accuracies = np.array([row.accuracy for row in chosen])
    classes = _classes(chosen, accuracies)
    sizes = np.array([row.scores[SIZE].value for row in chosen])
    ranks = tuple(_rank(name, chosen, accuracies, sizes, classes) for name in signals)
    return RankTable(ranks, len(chosen), len(classes), sum(len(members) for members in classes))


def _classes(rows: Sequence[SignalRow], accuracies: np.ndarray) -> list[list[int]]:
    found: dict[float, list[int]] = {}
    for position, row in enumerate(rows):
        found.setdefault(row.scores[SIZE].value, []).append(position)
    return [members for members in found.values() if len(members) >= _LEAST and np.ptp(accuracies[members]) > 0]


def _rank(
    name: str,
    rows: Sequence[SignalRow],
    accuracies: np.ndarray,
    macs: np.ndarray,
    classes: Sequence[Sequence[int]],
) -> Rank:
    values = np.array([row.scores[name].value for row in rows])
    finite = np.isfinite(values)
    values = np.where(finite, values, -np.inf)
    overall = _spearman(values, accuracies)
    inside = [_spearman(values[members], accuracies[members]) for members in map(list, classes)]
    sizes = [len(members) for members in classes]
    within = float(np.average(np.nan_to_num(inside), weights=sizes)) if sizes else math.nan
    partial = _partial(values, accuracies, macs)
    return Rank(name, overall, _standard_error(overall, len(rows)), within, partial, int((~finite).sum()))


def _partial(values: np.ndarray, accuracies: np.ndarray, macs: np.ndarray) -> float:
    """`(r_va - r_vm r_am) / sqrt((1 - r_vm^2) (1 - r_am^2))`, of rank correlations."""
    own, size, rest = _spearman(values, accuracies), _spearman(values, macs), _spearman(accuracies, macs)
    if math.isnan(size) or math.isnan(rest):
        return own
    left = (1 - size**2) * (1 - rest**2)
    return (own - size * rest) / math.sqrt(left) if left > 1e-12 else math.nan


def _spearman(values: np.ndarray, accuracies: np.ndarray) -> float:
    """NaN where either is constant, or there are fewer than two."""
    if len(values) < 2 or (values == values[0]).all() or (accuracies == accuracies[0]).all():
        return math.nan
    return float(scipy.stats.spearmanr(values, accuracies).statistic)


def _standard_error(correlation: float, count: int) -> float:
    if count <= 3:
        return math.nan
    return (1 - correlation**2) * math.sqrt((1 + correlation**2 / 2) / (count - 3))
