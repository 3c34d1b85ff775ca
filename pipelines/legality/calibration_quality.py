"""How good a calibration is on networks that it was not fitted to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when they are first used

from loopmorph.pipelines.legality.loss_model import FOLDS, ChosenFit, Floats, choose_fit

SIZE = "compression"  # the signal that says how much smaller a network is: what equal MACs are told by


@dataclass(frozen=True)
class Quality:
    """What a calibration is worth: each network predicted by a calibration that was made without it.

    With more than `FOLDS` networks they are left out in so many parts instead of one by one; the signals are chosen
    anew each time. A figure is None where it is not defined (a constant, nothing rejected, no `compression`).

    Attributes:
        networks: how many.
        level: that of the intervals.
        limit: points of accuracy, for the figures on rejection.
        spearman: rank correlation of predicted and measured loss.
        spearman_equal_macs: the partial rank correlation at equal MACs: of what is left of both ranks when a straight
            line in the rank of the MACs is taken off.
        error: mean absolute error of the expected loss, in points.
        median_error: its median.
        coverage: share of networks whose loss is in the interval.
        width: median width of the intervals, in points.
        beyond: networks whose signals are beyond those of all others; their intervals have no upper end.
        rejected: networks that are expected to lose more than the limit.
        precision: share of these that do.
        accepted: networks whose interval ends below the limit.
        accepted_wrongly: those of them that lose more than the limit.
    """

    networks: int
    level: float
    limit: float
    spearman: float | None
    spearman_equal_macs: float | None
    error: float
    median_error: float
    coverage: float
    width: float
    beyond: int
    rejected: int
    precision: float | None
    accepted: int
    accepted_wrongly: int


def assess(signals: Mapping[str, Floats], losses: Floats, used: Sequence[str], level: float, limit: float) -> Quality:
    """The quality of what `choose_fit` makes of n networks, at least 3.

    Args:
        signals: name -> (n,) values.
        losses: (n,) in points.
        used: the signals that may predict.
        level: of the intervals, between 0 and 1.
        limit: points of accuracy.
    """
    expected, low, high, beyond = _left_out({name: signals[name] for name in used}, losses, level)
    rejected, accepted, bad = expected > limit, high < limit, losses > limit
    return Quality(
        networks=len(losses),
        level=level,
        limit=limit,
        spearman=_correlation(scipy.stats.rankdata(expected), scipy.stats.rankdata(losses)),
        spearman_equal_macs=_at_equal(signals[SIZE], expected, losses) if SIZE in signals else None,
        error=float(np.abs(expected - losses).mean()),
        median_error=float(np.median(np.abs(expected - losses))),
        coverage=float(((low <= losses) & (losses <= high)).mean()),
        width=float(np.median(high - low)),
        beyond=int(beyond.sum()),
        rejected=int(rejected.sum()),
        precision=float(bad[rejected].mean()) if rejected.any() else None,
        accepted=int(accepted.sum()),
        accepted_wrongly=int((accepted & bad).sum()),
    )


def _left_out(
    signals: Mapping[str, Floats], losses: Floats, level: float
) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """The expected loss of each network, both ends of its interval, and whether it is beyond the others."""
    count = len(losses)
    expected, low, high = np.empty(count), np.empty(count), np.empty(count)
    beyond = np.zeros(count, dtype=bool)
    folds = np.arange(count) % min(count, FOLDS)
    for fold in range(int(folds.max()) + 1):
        rest = folds != fold
        chosen = choose_fit({name: values[rest] for name, values in signals.items()}, losses[rest])
        for index in np.flatnonzero(~rest):
            own = _row(chosen, signals, int(index))
            expected[index], beyond[index] = chosen.fit.expected(own), chosen.fit.is_beyond(own)
            low[index], high[index] = chosen.fit.interval(own, level)
    return expected, low, high, beyond


def _row(chosen: ChosenFit, signals: Mapping[str, Floats], index: int) -> Floats:
    return np.array([signals[name][index] for name in chosen.names])


def _at_equal(size: Floats, expected: Floats, losses: Floats) -> float | None:
    line = np.stack([np.ones(len(size)), scipy.stats.rankdata(size)], axis=1)
    ranks = np.stack([scipy.stats.rankdata(expected), scipy.stats.rankdata(losses)], axis=1)
    rest = ranks - line @ np.linalg.lstsq(line, ranks, rcond=None)[0]
    return _correlation(rest[:, 0], rest[:, 1])


def _correlation(a: Floats, b: Floats) -> float | None:
    """Pearson's correlation; that of ranks is Spearman's. None where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 1e-9 else None
