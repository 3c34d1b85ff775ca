"""The data-flow picture: the layers one below the other, and an arc for each tensor that goes between two."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from loopmorph.passes.analysis.layer_graph import TensorEdge
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.page.costs import held_by
from loopmorph.pipelines.page.svg import element, label, picture, short, tip

_WIDTH, _NAMES, _ROW, _TOP = 760.0, 220.0, 20.0, 40.0
_HELD = ("L1", "L2", "L3", "memory")


def draw_flow(edges: Sequence[TensorEdge], target: Target) -> Markup:
    """Arcs from what writes a tensor to what reads it, as wide as it is large, in the colour of what still holds it.

    Args:
        edges: the tensors, in the order of their reads.
        target: has the caches.
    """
    rows = _rows(edges)
    most = max((rows[edge.target] - rows[edge.source] for edge in edges), default=1)
    parts = [label(_NAMES - 10, _place(row) + 4, name, "end") for name, row in rows.items()]
    parts += [element("circle", cx=_NAMES, cy=_place(row), r=3.0, class_="node") for row in rows.values()]
    parts += [_arc(edge, rows, most, held_by(edge.reuse_distance, target)) for edge in edges]
    for position, name in enumerate(_HELD):
        x = _NAMES + 90.0 * position
        parts += [element("rect", x=x, y=8.0, width=12.0, height=12.0, class_=name), label(x + 18, 18.0, name)]
    return picture(_WIDTH, _place(len(rows)), parts, "tensors between layers")


def told(edge: TensorEdge) -> str:
    """What goes from one layer to another, in one line."""
    amounts = f"{short(edge.bytes_written)}B written, {short(edge.bytes_read)}B read"
    return f"{edge.source} → {edge.target}: {amounts}, {short(edge.reuse_distance)}B touched between"


def _rows(edges: Sequence[TensorEdge]) -> dict[str, int]:
    """The row of each name: in the order in which they are read from and written to, sources above their targets."""
    names: dict[str, None] = {}
    for edge in edges:
        names.setdefault(edge.source)
        names.setdefault(edge.target)
    return {name: row for row, name in enumerate(names)}


def _place(row: int) -> float:
    return _TOP + _ROW * row


def _arc(edge: TensorEdge, rows: dict[str, int], most: int, held: str) -> Markup:
    begin, end = _place(rows[edge.source]), _place(rows[edge.target])
    share = (abs(rows[edge.target] - rows[edge.source]) / max(most, 1)) ** 0.8  # long ones leave short ones some room
    reach = _NAMES + 20 + share * (_WIDTH - _NAMES - 60) * 4 / 3  # a cubic curve goes three quarters of the way
    width = 1.0 + max(0.0, math.log2(max(edge.bytes_read, 1) / 1024)) / 3
    path = f"M{_NAMES:.0f} {begin:.1f}C{reach:.1f} {begin:.1f} {reach:.1f} {end:.1f} {_NAMES:.0f} {end:.1f}"
    return element("path", tip(told(edge)), d=path, class_=f"arc {held}", stroke_width=width)
