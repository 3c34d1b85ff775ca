"""The roofline picture: each layer's speed over its arithmetic intensity, under the machine's two roofs."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.result import BenchResult, EqualLayers, ThreadResult
from loopmorph.pipelines.measure.peak import Peak
from loopmorph.pipelines.support.plotting import require_matplotlib

_INCHES = (9.0, 6.0)  # of one panel
_DPI = 130
_STEPS = (0, -1, 1, -2, 2, -3, 3)  # of a label, up or down
_ROOF, _POINT = "#333333", "#1f6fb4"


def roofline(result: BenchResult) -> bytes:
    """Draws one panel for each number of threads.

    Args:
        result: a benchmark with layers; layers without multiply-accumulates or times are left out.

    Returns:
        A PNG.

    Raises:
        ArgumentError: matplotlib is not installed, or no layer was timed.
    """
    require_matplotlib()
    panels = [each for each in result.results if _points(each)]
    if not panels:
        raise ArgumentError("plot", f"no layer of '{result.model}' was timed, so there is nothing to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCHES[0], _INCHES[1] * len(panels)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for position, panel in enumerate(panels):
        _draw(figure.add_subplot(len(panels), 1, position + 1), panel, result.model)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _draw(axes: Any, panel: ThreadResult, model: str) -> None:
    points = _points(panel)
    peak = Peak(panel.threads, panel.peak_gflops, panel.bandwidth)
    ridge = peak.gflops / peak.bandwidth
    speeds = [speed for _, speed, _ in points]
    left = min(ridge, *(x for x, _, _ in points)) / 2
    right = max(ridge, *(x for x, _, _ in points)) * 3
    bottom, top = min(*speeds, peak.roof(left)) / 1.6, max(*speeds, peak.gflops) * 1.8
    axes.plot([left, ridge, right], [peak.roof(left), peak.gflops, peak.gflops], color=_ROOF, linewidth=1.8)
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    arithmetic = f"arithmetic, {peak.gflops:.0f} GFLOP/s"
    axes.annotate(arithmetic, (right, peak.gflops), (-6, 5), textcoords="offset points", ha="right", color=_ROOF)
    axes.scatter([x for x, _, _ in points], speeds, s=26, color=_POINT, zorder=3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.figure.canvas.draw()  # fixes where things lie, in pixels
    _label(axes, points)
    _label_slope(axes, peak, left, ridge)
    threads = f"{panel.threads} thread{'s' if panel.threads > 1 else ''}"
    axes.set_title(f"{model}, {threads}: layers within the network")
    axes.set_xlabel("arithmetic intensity: operations per byte that a layer has to read or write")
    axes.set_ylabel("GFLOP/s")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _label_slope(axes: Any, peak: Peak, left: float, ridge: float) -> None:
    """Writes what the sloping roof is, along it."""
    middle = math.sqrt(left * ridge)
    (x0, y0), (x1, y1) = axes.transData.transform([(left, peak.roof(left)), (ridge, peak.gflops)])
    axes.annotate(
        f"memory beyond the caches, {peak.bandwidth:.0f} GB/s",
        (middle, peak.roof(middle)),
        (-4, 4),
        textcoords="offset points",
        rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)),
        rotation_mode="anchor",
        ha="center",
        va="bottom",
        color=_ROOF,
    )


def _label(axes: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Writes names beside their points where they cover nothing else; the first points choose first."""
    pixels = axes.figure.dpi / 72  # in a point, the unit of offsets
    height = 8.5 * pixels
    frame = axes.bbox
    dots = [tuple(axes.transData.transform((x, y))) for x, y, _ in points]
    taken = [(px - height / 2, px + height / 2, py) for px, py in dots]
    taken += [_extent(text) for text in axes.texts]
    for (x, y, name), (px, py) in zip(points, dots, strict=True):
        width = len(name) * height * 0.6
        sides = (px + height * 0.8, px - height * 0.8 - width)
        places = [(start, py + step * height * 0.75) for step in _STEPS for start in sides]
        for start, at in places:
            inside = frame.x0 < start and start + width < frame.x1 and frame.y0 < at < frame.y1
            if inside and all(b < start or a > start + width or abs(at - other) > height for a, b, other in taken):
                break
        else:
            continue
        taken.append((start, start + width, at))
        on_left = start < px
        axes.annotate(
            name,
            (x, y),
            ((start + width * on_left - px) / pixels, (at - py) / pixels),
            textcoords="offset points",
            ha="right" if on_left else "left",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5} if at != py else None,
        )


def _extent(text: Any) -> tuple[float, float, float]:
    """Left, right and middle of a horizontal text, in pixels."""
    box = text.get_window_extent()
    return box.x0, box.x1, (box.y0 + box.y1) / 2


def _points(panel: ThreadResult) -> list[tuple[float, float, str]]:
    """Intensity, GFLOP/s and label of each distinct layer; first those that take the most time in all.

    The label says how many layers compute the same; their speed is that of their mean time.
    """
    timed = [each for each in panel.distinct_layers if each.gflops is not None]
    slowest = sorted(timed, key=lambda each: -(each.ms or 0.0) * each.count)
    return [(each.first.intensity, each.gflops or 0.0, _label_of(each)) for each in slowest]


def _label_of(each: EqualLayers) -> str:
    return f"{each.first.name} (x{each.count})" if each.count > 1 else each.first.name
