"""A layer graph as a picture: an arc diagram (Wattenberg, "Arc diagrams", InfoVis 2002).

Layers stand below each other in the order in which they are computed; a tensor to the next layer is a line, one that
passes others by an arc on the left, the further out the more it passes by. That stays readable for any network.
"""

from __future__ import annotations

import io
import math
from typing import Any

from loopmorph.passes.analysis.layer_graph import LayerGraph, LayerNode
from loopmorph.pipelines.layer_graph.labels import (
    coupled_dimensions,
    extents_text,
    names_of_iterators,
    work_text,
    wrapped,
)
from loopmorph.pipelines.support.plotting import require_matplotlib

_ROW, _WIDTH = 0.24, 11.0  # inches of a layer, and of the picture
_COLUMNS = 170  # characters that fit into the width
_MOST_PIXELS = 60_000  # along one side: what PNG writers take
_DPI = 110
_LINE, _SKIP, _WORK = "#777777", "#c0392b", "#1f6fb4"


def graph_picture(graph: LayerGraph, title: str, format_: str) -> bytes:
    """Draws the layers with their extents and work, the tensors between them, and the coupled dimensions.

    The area of a layer's point grows with its multiply-accumulates; skips are red.

    Args:
        graph: the graph.
        title: what it is of.
        format_: "svg", "png" or "pdf".

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    require_matplotlib("output")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dimensions = [line for each in coupled_dimensions(graph) for line in wrapped(str(each), _COLUMNS)]
    rows = len(graph.nodes) + len(dimensions) + 4
    dpi = min(_DPI, int(_MOST_PIXELS / (rows * _ROW)))
    figure = Figure(figsize=(_WIDTH, rows * _ROW), dpi=dpi)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    _draw(axes, graph, title, dimensions)
    axes.set(xlim=(0.0, _WIDTH / _ROW), ylim=(rows - 1.0, -1.5), aspect="equal")
    file = io.BytesIO()
    figure.savefig(file, format=format_)
    return file.getvalue()


def _draw(axes: Any, graph: LayerGraph, title: str, dimensions: list[str]) -> None:
    place = {node.name: row for row, node in enumerate(graph.nodes)}
    names = names_of_iterators(coupled_dimensions(graph))
    middle = _WIDTH / _ROW * 0.28
    longest = max((abs(place[e.target] - place[e.source]) for e in graph.edges), default=1)
    for edge in graph.edges:
        rows = place[edge.source], place[edge.target]
        out = 0.0 if abs(rows[1] - rows[0]) <= 1 else 0.9 * middle * math.sqrt(abs(rows[1] - rows[0]) / longest)
        _draw_arc(axes, rows, middle, out, _SKIP if edge.is_skip else _LINE)
    most = max((node.macs for node in graph.nodes), default=0) or 1
    for node, row in zip(graph.nodes, place.values(), strict=True):
        size = 10 + 110 * node.macs / most
        axes.scatter([middle], [row], s=size, color=_WORK if node.macs else _LINE, zorder=3)
        _write(axes, middle + 1.2, row, _label(node, extents_text(node, names)))
    _write(axes, 0.5, -1.0, title, weight="bold")
    for number, text in enumerate(dimensions):
        _write(axes, 0.5, len(graph.nodes) + 1 + number, text)


def _draw_arc(axes: Any, rows: tuple[int, int], middle: float, out: float, color: str) -> None:
    steps = [k / 24 for k in range(25)]
    across = [middle - out * math.sin(math.pi * t) for t in steps]
    down = [rows[0] + (rows[1] - rows[0]) * (1 - math.cos(math.pi * t)) / 2 for t in steps]
    axes.plot(across, down, color=color, linewidth=1.0, zorder=2 if color == _SKIP else 1)


def _label(node: LayerNode, extents: str) -> str:
    return "   ".join(part for part in (node.name, extents, work_text(node)) if part)


def _write(axes: Any, x: float, y: float, text: str, weight: str = "normal") -> None:
    axes.text(x, y, text, fontsize=7.5, va="center", ha="left", weight=weight, parse_math=False, clip_on=True)
