"""What a report says of tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.search.tuner import Tuned, TunedPair
from loopmorph.pipelines.tuning.tune import TunedLayer


@dataclass(frozen=True)
class TunedLayerReport:
    """A layer whose fastest code is other than what the compiler's model would have chosen.

    Attributes:
        name: the layer.
        algorithm, register_block: what was found fastest: "direct", "winograd2" or "winograd4"; rows and columns of
            pixels by vectors of output channels, "1x4x4" (see `RegisterBlock`).
        default_algorithm, default_register_block: the model's.
    """

    name: str
    algorithm: str
    register_block: str
    default_algorithm: str
    default_register_block: str


@dataclass(frozen=True)
class TunedNetworkReport:
    """What tuning gained of one network; its values stay.

    Attributes:
        untuned_ms, tuned_ms: of the whole network, in turns (see `PairTime`); None where not measured.
        speedup: the former over the latter.
        layers_measured: of how many layers alternatives were measured.
        layers: those for which the model's choice was not the fastest.
    """

    untuned_ms: float | None
    tuned_ms: float | None
    speedup: float | None
    layers_measured: int
    layers: tuple[TunedLayerReport, ...]


@dataclass(frozen=True)
class TuningReport:
    """What was gained by measuring which code is fastest for each layer (see `tune_layers`).

    Attributes:
        seconds: that it was given, for each of the two.
        original, result: the networks that the search compares.
    """

    seconds: float
    original: TunedNetworkReport
    result: TunedNetworkReport


def report_tuning(tuned: TunedPair, times: Mapping[str, PairTime]) -> TuningReport:
    """What was tuned as data.

    Args:
        tuned: the networks.
        times: of each, by "original" and "result", before and after it was tuned; without those not measured.
    """
    return TuningReport(
        tuned.seconds, **{name: _network(each, times.get(name)) for name, each in tuned.networks.items()}
    )


def _network(tuned: Tuned, times: PairTime | None) -> TunedNetworkReport:
    layers = tuple(_layer(each) for each in tuned.layers if each.choice != each.by_model)
    if times is None:
        return TunedNetworkReport(None, None, None, len(tuned.layers), layers)
    return TunedNetworkReport(times.original * 1e3, times.rewritten * 1e3, times.speedup, len(tuned.layers), layers)


def _layer(tuned: TunedLayer) -> TunedLayerReport:
    best, model = tuned.choice, tuned.by_model
    return TunedLayerReport(
        tuned.layer, best.algorithm or "", best.block or "", model.algorithm or "", model.block or ""
    )
