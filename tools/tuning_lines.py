"""How a command tells what tuning has gained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopmorph.pipelines.search.tuning_report import TunedLayerReport, TunedNetworkReport, TuningReport

_LISTED = 6


def tuning_lines(report: TuningReport) -> list[str]:
    """What tuning gained of both networks, and the code that it chose for the result's layers."""
    gains = f"original {_gain(report.original)}; result {_gain(report.result)}"
    return [f"gained by {report.seconds:g} s of tuning each: {gains}", _choices(report.result)]


def _gain(network: TunedNetworkReport) -> str:
    if network.untuned_ms is None:
        return "not timed"
    return f"{network.untuned_ms:.3g} ms -> {network.tuned_ms:.3g} ms ({network.speedup:.2f}x)"


def _choices(network: TunedNetworkReport) -> str:
    told = f"{len(network.layers)} of {network.layers_measured} tuned layers of the result are computed in another way"
    if not network.layers:
        return told
    more = len(network.layers) - _LISTED
    others = [f"{more} more in report.json"] if more > 0 else []
    return f"{told}: {'; '.join([*map(_choice, network.layers[:_LISTED]), *others])}"


def _choice(layer: TunedLayerReport) -> str:
    default = f"{layer.default_algorithm} {layer.default_register_block}"
    return f"{layer.name} {default} -> {layer.algorithm} {layer.register_block}"
