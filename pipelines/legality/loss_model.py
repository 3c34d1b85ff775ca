"""The loss of accuracy after fine-tuning, predicted from what is measured before it: a monotone curve, and an interval.

The curve is a centred isotonic regression (Oron and Flournoy 2017, "Centered Isotonic Regression", Statistics in
Biopharmaceutical Research 9(3)): the least-squares nondecreasing fit, each of its steps drawn together to one point at
the step's mean, straight lines between the points, constant beyond the first and the last. So networks that differ in a
signal differ in their prediction as well, and no shape is assumed but the direction.

Signals span decades, so that the curve is over their logarithms; several are combined as the sum of their standardised
logarithms, which keeps the direction. Losses are fitted as asinh(loss / NOISE), about linear in noise and logarithmic
in what is more than noise: a network that loses 5 points scatters more than one that loses 0.5, and the interval widens
with it.

The interval is CV+ (Barber, Candès, Ramdas and Tibshirani 2021, "Predictive inference with the jackknife+", Annals of
Statistics 49(1), section 3): of exchangeable networks, at least 1 - 2a lie inside at level 1 - a whatever their
distribution, and about 1 - a of them usually do. With up to `FOLDS` networks it is the jackknife+.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when they are first used

Floats = npt.NDArray[np.float64]

# Points of accuracy: what two runs of one network differ by, from the seed and from a test set of ten thousand images.
NOISE = 0.25
FOLDS = 32
_FLOOR = 0.01  # of the median: below it a signal says "nothing happened", however small it is


def stabilised(losses: Floats) -> Floats:
    """Points of accuracy on the scale on which they are fitted, where their scatter is about even."""
    return np.arcsinh(losses / NOISE)


def points(values: Floats) -> Floats:
    """The inverse of `stabilised`."""
    return NOISE * np.sinh(values)


@dataclass(frozen=True)
class LossModel:
    """A nondecreasing curve over k signals.

    Attributes:
        floors, means, deviations: (k,) of each signal: its least value; mean and deviation of its logarithm.
        centres, levels: the corners of the curve: scores, ascending, and stabilised losses.
        greatest: the greatest score that it was fitted to.
    """

    floors: Floats
    means: Floats
    deviations: Floats
    centres: Floats
    levels: Floats
    greatest: float

    @classmethod
    def fit(cls, signals: Floats, losses: Floats) -> LossModel:
        """The curve of n networks.

        Args:
            signals: (n, k), finite, not negative; larger is worse.
            losses: (n,) in points of accuracy.
        """
        floors = np.array([_floor(column) for column in signals.T])
        logarithms = np.log(np.maximum(signals, floors))
        deviations = logarithms.std(axis=0)
        deviations[deviations < 1e-9] = 1.0  # a signal that is the same for all says nothing
        means = logarithms.mean(axis=0)
        scores = ((logarithms - means) / deviations).sum(axis=1)
        centres, levels = _centred_isotonic(scores, stabilised(losses))
        return cls(floors, means, deviations, centres, levels, float(scores.max()))

    def scores(self, signals: Floats) -> Floats:
        """(m, k) signals -> (m,) scores; larger is worse."""
        logarithms = np.log(np.maximum(signals, self.floors))
        return ((logarithms - self.means) / self.deviations).sum(axis=1)

    def predict(self, signals: Floats) -> Floats:
        """(m, k) signals -> (m,) stabilised losses."""
        return np.interp(self.scores(signals), self.centres, self.levels)


@dataclass(frozen=True)
class CrossFit:
    """A curve of all networks, and curves that were fitted without a part of them.

    Attributes:
        whole: the curve of all n networks.
        parts: one curve for each fold, fitted without its networks.
        folds: (n,) the fold of each network.
        errors: (n,) each network's distance, on the stabilised scale, from the curve that was fitted without it.
        worst: the greatest loss among them, in points.
    """

    whole: LossModel
    parts: tuple[LossModel, ...]
    folds: npt.NDArray[np.int64]
    errors: Floats
    worst: float

    @classmethod
    def fit(cls, signals: Floats, losses: Floats) -> CrossFit:
        """The curves of n networks, at least 2 (see `LossModel.fit`)."""
        folds = np.arange(len(losses)) % min(len(losses), FOLDS)
        parts, errors = [], np.empty(len(losses))
        for fold in range(int(folds.max()) + 1):
            inside = folds == fold
            model = LossModel.fit(signals[~inside], losses[~inside])
            errors[inside] = np.abs(stabilised(losses[inside]) - model.predict(signals[inside]))
            parts.append(model)
        return cls(LossModel.fit(signals, losses), tuple(parts), folds, errors, float(losses.max()))

    def is_beyond(self, signals: Floats) -> bool:
        """Whether (k,) signals are worse than those of every network that was fitted."""
        return bool(self.whole.scores(signals[None])[0] > self.whole.greatest)

    def expected(self, signals: Floats) -> float:
        """The loss in points of a network with (k,) signals; beyond the fitted networks, that of the worst of them."""
        return self.worst if self.is_beyond(signals) else float(points(self.whole.predict(signals[None]))[0])

    def interval(self, signals: Floats, level: float) -> tuple[float, float]:
        """The ends, in points, of the CV+ interval of a network with (k,) signals.

        An end is infinite where too few networks were fitted for the level, and the upper one beyond all of them.
        """
        count = len(self.errors)
        centres = np.array([part.predict(signals[None])[0] for part in self.parts])[self.folds]
        rank = math.ceil(level * (count + 1) - 1e-9)  # 0.9 * 10 is a little more than 9
        if rank > count:
            return -math.inf, math.inf
        low, high = np.sort(centres - self.errors)[count - rank], np.sort(centres + self.errors)[rank - 1]
        expected = self.expected(signals)
        upper = math.inf if self.is_beyond(signals) else max(float(points(high)), expected)
        return min(float(points(low)), expected), upper


@dataclass(frozen=True)
class ChosenFit:
    """The curve over those signals that predict best.

    Attributes:
        names: the signals, one or two.
        fit: the curve over them, in this order.
    """

    names: tuple[str, ...]
    fit: CrossFit


def choose_fit(signals: Mapping[str, Floats], losses: Floats) -> ChosenFit:
    """Of all single signals and pairs, those with the least mean error on networks that were left out.

    Args:
        signals: name -> (n,) values of the networks.
        losses: (n,) in points.
    """
    single = [(name,) for name in signals]
    fits = [
        ChosenFit(names, CrossFit.fit(np.stack([signals[name] for name in names], axis=1), losses))
        for names in (*single, *itertools.combinations(signals, 2))
    ]
    return min(fits, key=lambda each: float(each.fit.errors.mean()))


def _floor(values: Floats) -> float:
    positive = values[values > 0]
    return _FLOOR * float(np.median(positive)) if len(positive) else 1.0


def _centred_isotonic(scores: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The corners of the curve: the means of each step of the isotonic regression."""
    places, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=values) / counts
    fitted = scipy.optimize.isotonic_regression(means, weights=counts)
    starts = fitted.blocks[:-1]
    centres = np.add.reduceat(places * counts, starts) / np.add.reduceat(counts, starts)
    return centres, fitted.x[starts]
