"""What fine-tuning will leave: networks with measured signals and measured losses, and what they say of another one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.calibration_quality import Quality, assess
from loopmorph.pipelines.legality.loss_model import ChosenFit, Floats, choose_fit
from loopmorph.pipelines.network import Network

LEAST = 3  # networks; of fewer nothing can be left out and predicted
MOST = 1024
LEVEL = 0.9  # share of networks that an interval is to hold
LIMIT = 1.0  # points of accuracy
EARLY_LOSS = "early-loss"  # the one signal that takes training steps


@dataclass(frozen=True)
class CalibrationNetwork:
    """A network that was repaired, measured and fine-tuned.

    Attributes:
        name: what was done to the original, so that it can be made again: a pipeline, or another specification.
        signals: name -> what was measured before fine-tuning. All are finite, not negative, and larger is worse:
            "kl" (joint KL in nats, see `joint_kl`), "drop" (points of accuracy lost before fine-tuning),
            "compression" (the original's multiply-accumulates over the network's), "early-loss" (see `FineTuned`), ...
        accuracy: after fine-tuning, in points (per cent).
    """

    name: str
    signals: Mapping[str, float]
    accuracy: float


@dataclass(frozen=True)
class Provenance:
    """What a calibration was made from.

    Attributes:
        network: what the original is called.
        fingerprint: of the original's structure (see `structure_fingerprint`).
        data: the data set, in one line.
        epochs: of fine-tuning.
        recipe: how the networks were made, repaired and fine-tuned, in one line.
    """

    network: str
    fingerprint: str
    data: str
    epochs: int
    recipe: str


@dataclass(frozen=True)
class Prediction:
    """What a network is expected to lose by fine-tuning, in points of accuracy.

    Attributes:
        expected: the loss.
        low, high: the ends of the interval; infinite where there is none.
        level: of the interval.
        beyond: the signals are worse than those of every network of the calibration; `expected` is then the greatest
            loss that was measured, a least value, and `high` is infinite.
        signals: by which it is predicted.
    """

    expected: float
    low: float
    high: float
    level: float
    beyond: bool
    signals: tuple[str, ...]

    def __str__(self) -> str:
        if self.beyond:
            return f"at least {self.expected:.1f} points: beyond every network of the calibration"
        return f"{self.expected:z.1f} points, {self.low:z.1f} to {self.high:z.1f} at {self.level:.0%}"


@dataclass(frozen=True)
class Calibration:
    """Networks with measured signals and losses; predicts the loss of another one.

    Attributes:
        provenance: what it was made from.
        accuracy: the original's after the same fine-tuning, in points; a network's loss is this minus its own.
        networks: at least `LEAST`.

    Raises:
        ArgumentError: too few or too many networks, no signal that all of them have, a number out of range.
    """

    provenance: Provenance
    accuracy: float
    networks: tuple[CalibrationNetwork, ...]
    _fits: dict[tuple[str, ...], ChosenFit] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not LEAST <= len(self.networks) <= MOST:
            raise ArgumentError("networks", f"expected {LEAST} to {MOST:,} networks, got {len(self.networks)}")
        _check_accuracy("the original", self.accuracy)
        for number, network in enumerate(self.networks, start=1):
            _check_accuracy(f"network {number}", network.accuracy)
            for name, value in network.signals.items():
                if not _is_number(value) or not 0 <= value < math.inf:
                    raise ArgumentError("networks", f"network {number}: {name} is {value}; {_EXPECTED} is expected")
        if not self.signals:
            raise ArgumentError("networks", "there is no signal that all of them have")

    @cached_property
    def signals(self) -> tuple[str, ...]:
        """The signals that all networks have, by name."""
        return tuple(sorted(set.intersection(*(set(network.signals) for network in self.networks))))

    @cached_property
    def losses(self) -> Floats:
        """(n,) measured losses, in points; negative where a network came out better than the original."""
        return self.accuracy - np.array([network.accuracy for network in self.networks])

    def fits(self, fingerprint: str) -> bool:
        """Whether it was made from an original of that structure; otherwise its intervals are borrowed."""
        return fingerprint == self.provenance.fingerprint

    def predict(self, signals: Mapping[str, float], level: float = LEVEL) -> Prediction:
        """The loss of a network after fine-tuning.

        Of the signals that are given and that the calibration has, those one or two are used that predict best among
        its networks (see `choose_fit`).

        Args:
            signals: name -> value; infinite for a network that is worse than any (one whose outputs overflow).
            level: of the interval, between 0 and 1.

        Raises:
            ArgumentError: none of the calibration's signals, a negative one or NaN, a level out of range.
        """
        _check_level(level)
        for name, value in signals.items():
            if not _is_number(value) or not value >= 0:
                raise ArgumentError("signals", f"{name} is {value!r}; a number of at least 0 is expected")
        names = tuple(name for name in self.signals if name in signals)
        if not names:
            raise ArgumentError("signals", f"expected at least one of {', '.join(self.signals)}")
        chosen = self._chosen(names)
        own = np.array([signals[name] for name in chosen.names])
        low, high = chosen.fit.interval(own, level)
        return Prediction(chosen.fit.expected(own), low, high, level, chosen.fit.is_beyond(own), chosen.names)

    def quality(self, level: float = LEVEL, limit: float = LIMIT, signals: tuple[str, ...] | None = None) -> Quality:
        """How good predictions are for networks that were left out.

        Args:
            level: of the intervals, between 0 and 1.
            limit: points of accuracy, for the figures on rejection.
            signals: those that are measured; all by default. Others serve only to tell equal MACs.

        Raises:
            ArgumentError: an unknown signal, a level out of range.
        """
        _check_level(level)
        unknown = sorted(set(signals or ()) - set(self.signals))
        if unknown or signals == ():
            what = f"'{unknown[0]}' is not known" if unknown else "none was given"
            raise ArgumentError("signals", f"{what}; there are {', '.join(self.signals)}")
        return assess(self._values(self.signals), self.losses, signals or self.signals, level, limit)

    @property
    def untrained_signals(self) -> tuple[str, ...]:
        """Those of `signals` that are known before any training step."""
        return tuple(name for name in self.signals if name != EARLY_LOSS)

    def _chosen(self, names: tuple[str, ...]) -> ChosenFit:
        if names not in self._fits:
            self._fits[names] = choose_fit(self._values(names), self.losses)
        return self._fits[names]

    def _values(self, names: tuple[str, ...]) -> dict[str, Floats]:
        return {name: np.array([network.signals[name] for network in self.networks]) for name in names}


_EXPECTED = "a finite number of at least 0"


def structure_fingerprint(network: Network) -> str:
    """What identifies a network's structure: its contractions' extents, in program order, and its parameters' shapes.

    It knows neither names nor weights nor the batch, and not what was done to the network since it was imported.
    """
    original = network.original or network
    batch = {tensor.shape[0] for tensor in original.example_tensors if tensor.dim()}
    layers = [
        [extent for iterator, extent in layer.extents.items() if not (iterator == "n" and extent in batch)]
        for layer in original.layers
        if layer.macs
    ]
    shapes = [list(tensor.shape) for tensor in original.imported.values()]
    return hashlib.sha256(json.dumps([layers, shapes]).encode()).hexdigest()[:16]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_accuracy(what: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= 100:
        raise ArgumentError("networks", f"{what}: an accuracy of {value}; points from 0 to 100 are expected")


def _check_level(level: float) -> None:
    if not _is_number(level) or not 0 < level < 1:
        raise ArgumentError("level", f"expected a share between 0 and 1, got {level}")
