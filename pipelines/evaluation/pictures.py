"""The page's pictures, as SVG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from loopmorph.pipelines.evaluation.networks import in_order
from loopmorph.pipelines.evaluation.study import CHOICES, MeasuredNetwork, Study
from loopmorph.pipelines.page.svg import Scale, element, frame, label, line, picture_file, tip

_WIDTH, _HEIGHT = 760.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 20.0, 34.0, 50.0
_DRAWN = ("joint", "greedy", "uniform", "fisher-init", "random", "nas", "blockswap", "pruning")
_DEPTH = 6.0  # points of accuracy below the original down to which a picture goes; what is worse lies on its edge
_BAR, _GAP = 46.0, 26.0
_LETTER = 5.8  # width of one in a legend, about


def draw_front(study: Study, recipe: str) -> Markup | None:
    """Accuracy after training over measured speed-up, a point a network; None where there is no such network.

    Args:
        study: its original was trained.
        recipe: by which it was.
    """
    points = [each for each in in_order(study) if each.speedup is not None and each.after(recipe) is not None]
    points = [each for each in points if each.chosen_by in _DRAWN]
    reference = study.reference(recipe)
    if not points or reference is None:
        return None
    accuracies = [each.after(recipe) or 0.0 for each in points]
    across = Scale.around([1.0, *(each.speedup or 1.0 for each in points)], _LEFT, _WIDTH - _RIGHT, log=True)
    shown = [reference, max(min(accuracies), reference - _DEPTH), max(accuracies)]
    up = Scale.around(shown, _HEIGHT - _BOTTOM, _TOP)
    parts = frame(across, up, "times as fast as the original", "accuracy after training, %")
    parts += [line(across.begin, up(reference), across.end, up(reference), "limit")]
    parts += [label(across.end, up(reference) - 5, f"original {reference:.2f} %", "end", "axis")]
    parts += [line(across.begin, up(reference - 1), across.end, up(reference - 1), "limit")]
    parts += [label(across.end, up(reference - 1) - 5, "1 point below", "end", "axis")]
    parts += [_point(each, recipe, across, up) for each in points]
    title = f"{study.provenance.model}: accuracy after training over speed"
    return picture_file(_WIDTH, _HEIGHT, [*parts, *_legend(points)], title)


def _point(network: MeasuredNetwork, recipe: str, across: Scale, up: Scale) -> Markup:
    after, speedup = network.after(recipe) or 0.0, network.speedup or 1.0
    told = tip(f"{network.name}: {speedup:.2f} times as fast, {after:.2f} %")
    x, y = across(speedup), up(after)
    parts = [told, element("circle", cx=x, cy=y, r=5.0, class_=_hue(network.chosen_by))]
    if after < up.low:
        parts.append(label(x, y - 9, f"{after:.1f}", "middle"))
    return element("g", *parts)


def _hue(choice: str) -> str:
    return f"hue{_DRAWN.index(choice)}"


def _legend(points: Sequence[MeasuredNetwork]) -> list[Markup]:
    choices = [each for each in _DRAWN if any(point.chosen_by == each for point in points)]
    return _key([(_hue(choice), CHOICES[choice]) for choice in choices])


def _key(entries: Sequence[tuple[str, str]]) -> list[Markup]:
    """What each kind of mark stands for, in a row: (class, name)."""
    parts: list[Markup] = []
    x = _LEFT
    for class_, name in entries:
        parts += [element("rect", x=x, y=9.0, width=10.0, height=10.0, class_=class_), label(x + 14, 18.0, name)]
        x += 30.0 + _LETTER * len(name)
    return parts


@dataclass(frozen=True)
class Bars:
    """The bars of one network.

    Attributes:
        name: of the network.
        paper: what the paper has -> times as fast as its own baseline.
        ours: a key of `CHOICES` -> times as fast as our original.
    """

    name: str
    paper: Mapping[str, float]
    ours: Mapping[str, float]


def draw_bars(groups: Sequence[Bars]) -> Markup:
    """The paper's bars, hollow, and ours, filled, network by network.

    Args:
        groups: at least one, with at least one bar.
    """
    bars = sum(len(each.paper) + len(each.ours) for each in groups)
    width = max(_WIDTH, _LEFT + _RIGHT + bars * _BAR + len(groups) * _GAP)
    highest = max(value for each in groups for value in (*each.paper.values(), *each.ours.values()))
    up = Scale(0.0, 1.1 * highest, _HEIGHT - _BOTTOM, _TOP)
    parts = []
    for value in up.ticks():
        parts += [line(_LEFT, up(value), width - _RIGHT, up(value), "grid")]
        parts += [label(_LEFT - 6, up(value) + 4, f"{value:g}", "end")]
    parts += [line(_LEFT, up(1.0), width - _RIGHT, up(1.0), "limit")]
    x = _LEFT + _GAP / 2
    for group in groups:
        begin = x
        named = [("theirs", f"paper: {name}", value) for name, value in group.paper.items()]
        named += [(_hue(choice), CHOICES[choice], value) for choice, value in group.ours.items()]
        for class_, name, value in named:
            parts.append(_bar(x, up, class_, name, value))
            x += _BAR
        parts.append(label((begin + x) / 2, _HEIGHT - _BOTTOM + 18, group.name, "middle"))
        x += _GAP
    title = "times as fast: the paper over untuned TVM, ours over our own unmodified code"
    parts.append(label(_LEFT, _HEIGHT - 10, title, "start", "axis"))
    return picture_file(width, _HEIGHT, [*parts, *_bar_legend(groups)], title)


def _bar(x: float, up: Scale, class_: str, name: str, value: float) -> Markup:
    body = element("rect", x=x + 3, y=up(value), width=_BAR - 6, height=up.begin - up(value), class_=class_)
    return element("g", tip(f"{name}: {value:.2f}"), body, label(x + _BAR / 2, up(value) - 4, f"{value:.2f}", "middle"))


def _bar_legend(groups: Sequence[Bars]) -> list[Markup]:
    ours = [choice for choice in _DRAWN if any(choice in each.ours for each in groups)]
    return _key([("theirs", "the paper: BlockSwap, its own"), *((_hue(choice), CHOICES[choice]) for choice in ours)])


def draw_calibration(points: Sequence[tuple[str, float, float]]) -> Markup:
    """Points of accuracy that were lost over those that were predicted.

    Args:
        points: (a network's name, predicted, lost); at least one.
    """
    ends = [0.0, *(predicted for _, predicted, _ in points)]
    across = Scale.around(ends, _LEFT, _WIDTH - _RIGHT)
    up = Scale.around([0.0, *(min(lost, 1.5 * max(ends) + 1) for _, _, lost in points)], _HEIGHT - _BOTTOM, _TOP)
    parts = frame(across, up, "points predicted to be lost", "points lost")
    low, high = max(across.low, up.low), min(across.high, up.high)
    parts.append(line(across(low), up(low), across(high), up(high), "limit"))
    names = list(dict.fromkeys(name for name, _, _ in points))
    for name, predicted, lost in points:
        dot = element(
            "circle", cx=across(predicted), cy=up(lost), r=4.0, class_=f"hue{names.index(name) % len(_DRAWN)}"
        )
        parts.append(element("g", tip(f"{name}: {predicted:.2f} predicted, {lost:.2f} lost"), dot))
    parts += _key([(f"hue{position % len(_DRAWN)}", name) for position, name in enumerate(names)])
    return picture_file(_WIDTH, _HEIGHT, parts, "points of accuracy lost, predicted and measured")
