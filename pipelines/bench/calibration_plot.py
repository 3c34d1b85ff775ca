"""The calibration picture: each network's loss after fine-tuning over a signal, and where a new network lies."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.calibration import Calibration, Prediction
from loopmorph.pipelines.support.plotting import require_matplotlib

_INCHES = (7.0, 5.0)
_DPI = 130
_POINT, _MARK = "#1f6fb4", "#c0392b"


def calibration_plot(calibration: Calibration, signal: str, value: float, predicted: Prediction, title: str) -> bytes:
    """Draws the calibration's networks, and a new one with its predicted loss.

    Args:
        calibration: the networks.
        signal: one of the calibration's, drawn on a logarithmic axis.
        value: the new network's.
        predicted: the loss that it is expected to have.
        title: of the picture.

    Returns:
        A PNG.

    Raises:
        ArgumentError: matplotlib is not installed, no such signal, or a value that is not finite.
    """
    require_matplotlib()
    if signal not in calibration.signals:
        raise ArgumentError("plot", f"the calibration has no '{signal}'; it has {', '.join(calibration.signals)}")
    if not math.isfinite(value):
        raise ArgumentError("plot", f"the network's {signal} is {value}: it overflows, and has no place in a picture")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    values = np.array([network.signals[signal] for network in calibration.networks])
    least = min(values[values > 0].min(initial=1.0), value or 1.0) / 2  # where 0 is drawn on a logarithmic axis
    about = calibration.provenance
    axes.scatter(
        np.maximum(values, least), calibration.losses, s=20, color=_POINT, label=f"{about.network}, fine-tuned"
    )
    _mark(axes, max(value, least), predicted)
    axes.set(xscale="log", xlabel=signal, ylabel=f"points of accuracy lost after {about.epochs} epochs", title=title)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.legend()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _mark(axes: Any, x: float, predicted: Prediction) -> None:
    """The new network, with its interval as far as that is finite."""
    low = predicted.low if math.isfinite(predicted.low) else predicted.expected
    high = predicted.high if math.isfinite(predicted.high) else predicted.expected
    errors = [[max(predicted.expected - low, 0.0)], [max(high - predicted.expected, 0.0)]]
    label = f"this network, predicted ({predicted.level:.0%})"
    axes.errorbar([x], [predicted.expected], yerr=errors, fmt="D", color=_MARK, capsize=4, label=label)
