"""The operators that a layer can be turned into: neural transformations with options, and all schedules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.neural.depthwise import Depthwise
from loopmorph.passes.neural.group import Group
from loopmorph.passes.registry import did_you_mean
from loopmorph.pipelines.schedules import Schedule, fill, schedules

_PART = re.compile(r"\s*(?P<name>[\w-]+)\s*(?:\{(?P<values>[^{}]*)\})?\s*(?:,|$)")
_CHANNELS = ("co", "ci")


@dataclass(frozen=True)
class Operator:
    """One way to rewrite a layer.

    Attributes:
        name: what it is called: `group-2`, `seq2`, `seq2{u=8}`.
        text: layer name -> what `Program.apply` takes.
    """

    name: str
    text: Callable[[str], str]


def operators() -> Mapping[str, Operator]:
    """The operators that are compared if none are named: neural transformations, and each schedule."""
    found = [
        *(_grouping(g) for g in (2, 4, 8)),
        Operator("depthwise", lambda layer: str(Depthwise(layer))),
        Operator("bottleneck-2", lambda layer: str(Bottleneck(layer, "co", 2))),
        *(_of_schedule(name, schedule, {}) for name, schedule in schedules().items()),
    ]
    return MappingProxyType({operator.name: operator for operator in found})


def parse_operators(text: str) -> list[Operator]:
    """The operators of a list such as `group-2,seq1,seq2{u=8 g=4}`; the order is kept, repetitions are not.

    Args:
        text: names of `operators()`, separated by commas; those of schedules may be followed by parameters.

    Raises:
        ArgumentError: malformed text, an unknown name, or parameters that the schedule does not take.
    """
    found: dict[str, Operator] = {}
    position = 0
    while position < len(text) or not found:
        match = _PART.match(text, position)
        if match is None:
            raise ArgumentError("schedules", f"expected NAME or NAME{{PARAMETER=VALUE ...}} at '{text[position:]}'")
        operator = _named(match["name"], match["values"])
        found[operator.name] = operator
        position = match.end()
    return list(found.values())


def _named(name: str, values: str | None) -> Operator:
    known = operators()
    if name not in known:
        accepted = f"there are {', '.join(known)}{did_you_mean(name, known)}"
        raise ArgumentError("schedules", f"no operator '{name}'; {accepted}")
    if values is None:
        return known[name]
    if name not in schedules():
        raise ArgumentError("schedules", f"'{name}' is no schedule, so it has no parameters")
    given = {}
    for word in values.split():
        parameter, separator, value = word.partition("=")
        if not separator:
            raise ArgumentError("schedules", f"expected PARAMETER=VALUE in '{name}{{{values}}}', got '{word}'")
        given[parameter] = value
    operator = _of_schedule(f"{name}{{{' '.join(values.split())}}}", schedules()[name], given)
    operator.text("layer")  # so that wrong parameters are refused before any work
    return operator


def _grouping(groups: int) -> Operator:
    return Operator(f"group-{groups}", lambda layer: str(Group(layer, _CHANNELS, groups)))


def _of_schedule(name: str, schedule: Schedule, values: Mapping[str, str]) -> Operator:
    return Operator(name, lambda layer: fill(schedule, {**values, "layer": layer}))
