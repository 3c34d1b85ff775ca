"""Bars: layers before and after, and what share of a network's time each of them takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from loopmorph.pipelines.page.costs import NetworkCosts
from loopmorph.pipelines.page.svg import element, label, picture, short, tip

_WIDTH, _NAMES, _VALUES = 760.0, 190.0, 150.0
_BAR, _ROW = 9.0, 26.0
_NARROW = 60.0  # pixels that a name needs
_HUES = 6


@dataclass(frozen=True)
class BeforeAfter:
    """A quantity of one layer in the original and in the result, in the unit of its picture; None where unknown."""

    name: str
    before: float | None
    after: float | None


def draw_before_after(rows: Sequence[BeforeAfter], title: str, write: Callable[[float], str] = short) -> Markup:
    """Two bars for each layer, one below the other.

    Args:
        rows: the layers, from the top.
        title: what the bars measure.
        write: a value as text.
    """
    most = max([value for row in rows for value in (row.before, row.after) if value is not None], default=0.0) or 1.0
    parts: list[Markup] = []
    for number, row in enumerate(rows):
        top = _ROW * number
        parts.append(label(_NAMES - 8, top + 14, row.name, "end"))
        for place, (value, class_) in enumerate(((row.before, "original"), (row.after, "result"))):
            if value is not None:
                parts.append(
                    _bar(top + 3 + _BAR * place, value / most, class_, f"{row.name}, {class_}: {write(value)}")
                )
        parts.append(label(_WIDTH - _VALUES + 8, top + 14, " → ".join(map(_written(write), (row.before, row.after)))))
    return picture(_WIDTH, _ROW * len(rows) + 4, parts, title)


def _written(write: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: "-" if value is None else write(value)


def _bar(y: float, share: float, class_: str, told: str) -> Markup:
    width = max(share * (_WIDTH - _VALUES - _NAMES), 0.5)
    return element("rect", tip(told), x=_NAMES, y=y, width=width, height=_BAR - 1, class_=class_)


def draw_time(networks: Sequence[tuple[str, NetworkCosts]]) -> Markup:
    """One bar for each network, as long as its call takes, made of its layers in program order.

    Args:
        networks: names and costs, from the top.
    """
    height = 54.0
    longest = max(sum(layer.ms or 0.0 for layer in costs.timed) for _, costs in networks) or 1.0
    parts: list[Markup] = []
    for number, (name, costs) in enumerate(networks):
        top = height * number
        parts.append(label(0, top + 12, f"{name}: {costs.ms:.3g} ms"))
        parts += _segments(costs, top + 18, _WIDTH / longest)
    return picture(_WIDTH, height * len(networks), parts, "where the network's time goes")


def _segments(costs: NetworkCosts, top: float, pixels: float) -> list[Markup]:
    parts: list[Markup] = []
    x = 0.0
    for number, layer in enumerate(costs.timed):
        width = (layer.ms or 0.0) * pixels
        told = tip(f"{layer.name}: {layer.ms:.3g} ms, {(layer.ms or 0.0) / costs.ms:.1%}")
        parts.append(element("rect", told, x=x, y=top, width=width, height=26.0, class_=f"hue{number % _HUES}"))
        if width > max(_NARROW, 6.5 * len(layer.name)):
            parts.append(label(x + 4, top + 17, layer.name, class_="inside"))
        x += width
    return parts
