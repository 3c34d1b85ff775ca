"""A picture of what operators make of layers: speed-ups as bars, the ratio of multiply-accumulates beside them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.operators_result import LayerOperators, OperatorsResult, PaperRow
from loopmorph.pipelines.support.plotting import require_matplotlib

_DPI = 130
_HEIGHT = 4.6  # inches of a panel
_BAR = 0.11  # inches
_LEAST, _MOST = 10.0, 40.0  # inches of width
_FILL = 0.84  # share of a layer's place that its bars take
_GRID = "#dddddd"


def speedups(result: OperatorsResult) -> bytes:
    """Draws, for each layer, the speed-up by each operator and a mark at its ratio of multiply-accumulates.

    Below, where the paper has figures for the network, these beside ours.

    Args:
        result: at least one operator on one layer was timed.

    Returns:
        A PNG.

    Raises:
        ArgumentError: matplotlib is not installed, or nothing was timed.
    """
    require_matplotlib()
    layers = [layer for layer in result.layers if any(row.speedup is not None for row in layer.rows)]
    if not layers:
        raise ArgumentError("plot", f"no operator on '{result.model}' was timed, so there is nothing to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 2 if result.paper else 1
    width = min(_MOST, max(_LEAST, _BAR * len(layers) * len(result.operators) / _FILL + 3))
    figure = Figure(figsize=(width, _HEIGHT * panels), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    _draw(figure.add_subplot(panels, 1, 1), result, layers)
    if result.paper:
        _draw_paper(figure.add_subplot(panels, 1, 2), result.paper)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _draw(axes: Any, result: OperatorsResult, layers: Sequence[LayerOperators]) -> None:
    names = result.operators
    step = _FILL / len(names)
    for k, name in enumerate(names):
        rows = [(x, row) for x, layer in enumerate(layers) if (row := layer.row(name)) and row.speedup is not None]
        if not rows:
            continue
        places = [x - _FILL / 2 + (k + 0.5) * step for x, _ in rows]
        _bars(axes, places, [row.speedup or 1.0 for _, row in rows], step, label=name, color=_color(k, len(names)))
        axes.scatter(
            places,
            [row.mac_ratio for _, row in rows],
            s=14,
            marker="_",
            color="black",
            linewidth=1.2,
            zorder=3,
        )
    labels = [f"{layer.name}\n{layer.shape}\n{layer.algorithm}" for layer in layers]
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    code = "direct code" if result.algorithm == "direct" else "dense layers by the algorithm that the model prefers"
    title = f"{result.model}, {threads}, {code}: original / rewritten, time (bars) and MACs (marks)"
    axes.set_title(title, fontsize=9)
    _finish(axes, labels, f"speed-up on {result.cpu}")


def _draw_paper(axes: Any, rows: Sequence[PaperRow]) -> None:
    names = list(rows[0].paper)
    step = _FILL / (2 * len(names))
    for k, name in enumerate(names):
        starts = [x - _FILL / 2 + (2 * k + 0.5) * step for x in range(len(rows))]
        color = _color(k, len(names))
        theirs = [row.paper[name] for row in rows]
        label = f"{name}, the paper"
        _bars(axes, starts, theirs, step, color="white", edgecolor=color, hatch="////", label=label)
        ours = [(place + step, row.ours[name]) for place, row in zip(starts, rows, strict=True)]
        known = [(place, value) for place, value in ours if value is not None]
        places, values = [place for place, _ in known], [value for _, value in known]
        _bars(axes, places, values, step, color=color, label=f"{name}, here")
    labels = [f"{row.index}\n{row.layer or 'none here'}" for row in rows]
    axes.set_title(
        "Turner et al., ASPLOS 2021, Fig. 6 (Core i7, over TVM; read off the picture) beside ours", fontsize=9
    )
    _finish(axes, labels, "speed-up")


def _bars(axes: Any, places: Sequence[float], values: Sequence[float], step: float, **style: Any) -> None:
    """Bars from 1 to the values: up where it is faster, down where it is slower."""
    axes.bar(places, [value - 1 for value in values], step * 0.92, bottom=1, **style)


def _finish(axes: Any, labels: Sequence[str], what: str) -> None:
    axes.axhline(1, color="#555555", linewidth=0.8)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(labels)), labels, fontsize=7)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylabel(what, fontsize=8)
    axes.grid(True, axis="y", which="major", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _color(position: int, count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["tab20" if count > 10 else "tab10"](position % 20)
