"""The picture of a front: networks by their latency and by what they are predicted to lose."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from loopmorph.pipelines.page.svg import Scale, element, frame, label, line, picture, tip
from loopmorph.pipelines.search.report import BASELINE, ORIGINAL, RESULT, TRIAL, FrontPoint

_WIDTH, _HEIGHT = 760.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 20.0, 34.0, 50.0


def efficient(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The points that no other is better than in both, the fastest first."""
    kept: list[FrontPoint] = []
    for point in sorted(points, key=lambda each: (each.ms, each.loss)):
        if not kept or point.loss < kept[-1].loss:
            kept.append(point)
    return kept


def draw_front(points: Sequence[FrontPoint]) -> Markup:
    """The points with their intervals, and the front as a line.

    Args:
        points: at least one, each with positive, finite milliseconds and a finite loss.
    """
    ends = [end for point in points for end in (point.loss, point.low, point.high) if end is not None]
    across = Scale.around([point.ms for point in points], _LEFT, _WIDTH - _RIGHT, log=True)
    up = Scale.around([0.0, *filter(math.isfinite, ends)], _HEIGHT - _BOTTOM, _TOP)
    parts = frame(across, up, "milliseconds of one call", "predicted loss of accuracy, points")
    corners = [(across(point.ms), up(point.loss)) for point in efficient(points)]
    path = " ".join(f"{'L' if k else 'M'}{x:.1f} {y:.1f}" for k, (x, y) in enumerate(corners))
    parts.append(element("path", d=path, class_="front"))
    for point in sorted(points, key=lambda each: each.kind in (ORIGINAL, RESULT)):  # what is small lies below
        parts.append(_drawn(point, across(point.ms), up))
    return picture(_WIDTH, _HEIGHT, [*parts, *_legend(points)], "latency against predicted loss of accuracy")


def _drawn(point: FrontPoint, x: float, up: Scale) -> Markup:
    y, parts = up(point.loss), [tip(_told(point))]
    if point.low is not None and point.high is not None:
        parts.append(line(x, up(point.low), x, up(point.high), "interval"))
        parts += [
            line(x - 4, up(end), x + 4, up(end), "interval") for end in (point.low, point.high) if math.isfinite(end)
        ]
    parts.append(element("circle", cx=x, cy=y, r=6.0 if point.kind in (ORIGINAL, RESULT) else 3.5, class_=point.kind))
    if point.kind in (ORIGINAL, RESULT):
        parts.append(label(x + 9, y - 8, point.name))
    return element("g", *parts)


def _told(point: FrontPoint) -> str:
    interval = "" if point.low is None or point.high is None else f" ({point.low:.2g} to {point.high:.2g})"
    return f"{point.name}: {point.ms:.3g} ms, {point.loss:.2g} points{interval}"


def _legend(points: Sequence[FrontPoint]) -> list[Markup]:
    kinds = [kind for kind in (ORIGINAL, RESULT, TRIAL, BASELINE) if any(point.kind == kind for point in points)]
    parts: list[Markup] = []
    for position, kind in enumerate(kinds):
        x = _LEFT + 100.0 * position
        parts += [element("circle", cx=x + 5, cy=14.0, r=4.0, class_=kind), label(x + 14, 18.0, kind)]
    return parts
