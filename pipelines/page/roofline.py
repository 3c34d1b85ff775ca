"""The roofline picture (Williams, Waterman and Patterson, "Roofline", CACM 2009) of a network before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup

from loopmorph.pipelines.measure.peak import Peak
from loopmorph.pipelines.page.costs import NetworkCosts
from loopmorph.pipelines.page.svg import Scale, element, frame, label, line, picture, tip

_WIDTH, _HEIGHT = 760.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 20.0, 34.0, 50.0


def draw_roofline(networks: Mapping[str, NetworkCosts], peak: Peak) -> Markup:
    """Each layer's speed over its arithmetic intensity, under the machine's two roofs.

    Args:
        networks: by their kind, which is the class of their points ("original", "result").
        peak: the roofs.
    """
    points = [
        (kind, layer.intensity, layer.gflops, layer.name)
        for kind, costs in networks.items()
        for layer in costs.timed
        if layer.gflops is not None
    ]
    ridge = peak.gflops / peak.bandwidth
    across = Scale.around([ridge, *(x for _, x, _, _ in points)], _LEFT, _WIDTH - _RIGHT, log=True)
    speeds = [speed for _, _, speed, _ in points]
    up = Scale.around([peak.gflops, peak.roof(across.low), *speeds], _HEIGHT - _BOTTOM, _TOP, log=True)
    parts = frame(across, up, "operations for each byte that a layer touches", "GFLOP/s")
    parts += _roofs(peak, ridge, across, up)
    for kind, x, speed, name in points:
        told = tip(f"{name} ({kind}): {speed:.3g} GFLOP/s, {x:.3g} operations a byte")
        parts.append(element("circle", told, cx=across(x), cy=up(speed), r=4.0, class_=kind))
    for position, kind in enumerate(networks):
        x = _LEFT + 100.0 * position
        parts += [element("circle", cx=x + 5, cy=14.0, r=4.0, class_=kind), label(x + 14, 18.0, kind)]
    return picture(_WIDTH, _HEIGHT, parts, "roofline of the layers")


def _roofs(peak: Peak, ridge: float, across: Scale, up: Scale) -> list[Markup]:
    left, corner, right = across(across.low), across(ridge), across(across.high)
    bottom, top = up(peak.roof(across.low)), up(peak.gflops)
    slope = math.degrees(math.atan2(top - bottom, corner - left))
    x, y = (left + corner) / 2, (bottom + top) / 2
    along = element(
        "text",
        f"memory beyond the caches, {peak.bandwidth:.0f} GB/s",
        text_anchor="middle",
        class_="label",
        transform=f"translate({x:.1f} {y - 6:.1f}) rotate({slope:.1f})",
    )
    return [
        line(left, bottom, corner, top, "roof"),
        line(corner, top, right, top, "roof"),
        label(right - 6, top - 6, f"arithmetic, {peak.gflops:.0f} GFLOP/s", "end"),
        along,
    ]
