"""Pictures as SVG text, escaped: elements, axes and scales."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

_NICE = (1.0, 2.0, 5.0)
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#1c2733}text.axis{fill:#5d6b7a}.grid{stroke:#dce2e8;stroke-width:.7}"
    ".limit{stroke:#5d6b7a;stroke-width:1.2;stroke-dasharray:5 3}.interval{stroke:#96a3b1}"
    ".hue0{fill:#1f6fb4}.hue1{fill:#c2691c}.hue2{fill:#2b8a5b}.hue3{fill:#7d56b3}.hue4{fill:#a8862a}.hue5{fill:#4d6b7f}"
    ".hue6{fill:#b3392f}.hue7{fill:#1c2733}"
    ".theirs{fill:#fff;stroke:#5d6b7a;stroke-width:1.2}"
)  # of a picture that is a file; those on a page have the page's
_MOST_TICKS = 12  # of a logarithmic scale that is not cut down to powers of ten


def element(name: str, *content: str, **attributes: object) -> Markup:
    """`<name attribute="...">content</name>`; content that is no markup is escaped.

    Args:
        name: of the element.
        content: texts and elements.
        attributes: by name, `_` standing for `-`; a trailing `_` is dropped (`class_`); numbers get two decimals.
    """
    pairs = ((key.rstrip("_").replace("_", "-"), _text(value)) for key, value in attributes.items())
    inside = Markup("").join(content)
    return Markup("<{0}{1}>{2}</{0}>").format(name, Markup("").join(_attribute(*pair) for pair in pairs), inside)


def label(x: float, y: float, content: str, anchor: str = "start", class_: str = "label") -> Markup:
    """A text at a place; `anchor` is "start", "middle" or "end"."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def tip(content: str) -> Markup:
    """What a browser shows where the pointer rests on the element around it."""
    return element("title", content)


def picture(width: float, height: float, parts: Iterable[str], title: str) -> Markup:
    """A picture that fills the width that it is given, up to its own.

    Args:
        width, height: in pixels.
        parts: its elements.
        title: what it shows, for those who cannot see it.
    """
    box = f"0 0 {_text(width)} {_text(height)}"
    style = f"max-width:{_text(width)}px"
    return element("svg", *parts, viewBox=box, style=style, role="img", aria_label=title)


def picture_file(width: float, height: float, parts: Iterable[str], title: str) -> Markup:
    """A picture as a file of its own, with its style and a white ground.

    Args:
        width, height, parts, title: see `picture`.
    """
    ground = element("rect", width=width, height=height, fill="#fff")
    inside = [element("style", Markup(_STYLE)), ground, *parts]
    box = f"0 0 {_text(width)} {_text(height)}"
    attributes = {"viewBox": box, "width": width, "height": height, "role": "img", "aria_label": title}
    return element("svg", *inside, xmlns="http://www.w3.org/2000/svg", **attributes)


@dataclass(frozen=True)
class Scale:
    """Numbers to places along an axis.

    Attributes:
        low, high: the least and the greatest number, `low < high`; positive where it is logarithmic.
        begin, end: their places, in pixels.
        log: whether equal ratios, instead of equal differences, take equal room.
    """

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    @staticmethod
    def around(values: Iterable[float], begin: float, end: float, *, log: bool = False) -> Scale:
        """A scale with all the values inside, and some room around them.

        Args:
            values: at least one, finite; positive where it is logarithmic.
            begin, end, log: see `Scale`.
        """
        low, high = min(found := list(values)), max(found)
        if log:
            return Scale(low / 1.25, high * 1.25, begin, end, True)
        room = 0.08 * (high - low) or 0.5
        return Scale(low - room, high + room, begin, end)

    def __call__(self, value: float) -> float:
        """The place of a number; of one outside of the scale that of its nearest end."""
        inside = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round numbers on the scale, at least two."""
        if not self.log:
            return self._even_ticks()
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        few = [nice * 10.0**power for power in powers for nice in _NICE]
        for candidates in (few, [10.0**power for power in powers]):
            inside = [value for value in candidates if self.low <= value <= self.high]
            if len(inside) <= _MOST_TICKS:
                break
        return inside if len(inside) > 2 else self._even_ticks()

    def _even_ticks(self) -> list[float]:
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(nice * power for nice in (*_NICE, 10.0) if nice * power >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]


def frame(across: Scale, up: Scale, x_title: str, y_title: str) -> list[Markup]:
    """Two axes with grid lines, numbers and titles; `up` begins at the bottom."""
    middle = (across.begin + across.end) / 2
    turned = element(
        "text",
        y_title,
        x=0,
        y=0,
        text_anchor="middle",
        class_="axis",
        transform=f"translate({_text(across.begin - 46)} {_text((up.begin + up.end) / 2)}) rotate(-90)",
    )
    parts = [label(middle, up.begin + 36, x_title, "middle", "axis"), turned]
    for value in across.ticks():
        place = across(value)
        parts += [line(place, up.begin, place, up.end, "grid")]
        parts += [label(place, up.begin + 16, short(value), "middle")]
    for value in up.ticks():
        place = up(value)
        parts += [
            line(across.begin, place, across.end, place, "grid"),
            label(across.begin - 6, place + 4, short(value), "end"),
        ]
    return parts


def short(value: float) -> str:
    """A number in three digits, with k, M, G or T for thousands of thousands: 12.5M."""
    magnitude = abs(value)
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if magnitude >= 0.9995 * factor:  # 999.9 is 1k
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _attribute(name: str, value: str) -> Markup:
    return Markup(' {0}="{1}"').format(name, value)
