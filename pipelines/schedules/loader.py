"""Schedules with parameters: transform IR in which `$layer` or `$g` stands for a value that is given when it is used.

A file begins with comment lines: what the schedule does in one line, more about it, and one line for each parameter,

    // $layer: name      the convolution
    // $g: int = 2       number of groups

with its type (`name` or `int`), its default if it has one, and its meaning. Names stand between quotes in the text
(`layer = "$layer#main.1"`), integers plain (`factor = $g : i64`).

A plug-in is a package with an entry point in the group `loopmorph.schedules` that names a package of its own; the
`.mlir` files in that are schedules as those that come with loopmorph, called as the files are. They have a parameter
`layer` and hold transformations alone, so that whatever puts an operator on a layer can take them.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Literal

from loopmorph.dialects.morph_attributes import attribute_text
from loopmorph.passes.errors import ArgumentError, one_line
from loopmorph.passes.plug_ins import by_name, plug_ins
from loopmorph.passes.registry import did_you_mean

Value = int | str

ENTRY_POINT_GROUP = "loopmorph.schedules"

_FOLDER = Path(__file__).resolve().parent
_BODY = "\nmodule"
_PARAMETER = re.compile(r"// \$(?P<name>\w+): (?P<kind>int|name)(?: = (?P<default>\S+))?\s+(?P<meaning>\S.*)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")  # Python converts no endless ones
_UPSTREAM = re.compile(r"\btransform\.(?!named_sequence\b|with_named_sequence\b|any_op\b|consumed\b|yield\b)[\w.]+")
_EXPECTED = {"int": "an integer", "name": "a name"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a schedule; `default` is None where a value has to be given."""

    name: str
    kind: Literal["int", "name"]
    default: Value | None
    meaning: str


@dataclass(frozen=True)
class Schedule:
    """A schedule with parameters.

    Attributes:
        name: what it is called.
        summary: what it does, in one line.
        description: the other lines of its comment but the parameters'.
        parameters: in the order of the file.
        text: the whole file.
    """

    name: str
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    text: str

    def __str__(self) -> str:
        """For a listing: the name, the summary, and one line for each parameter."""
        lines = [self.name, f"    {self.summary}"]
        for each in self.parameters:
            need = "required" if each.default is None else f"default {each.default}"
            lines.append(f"    {each.name}=<{_EXPECTED[each.kind].split()[-1]}>  {need}: {each.meaning}")
        return "\n".join(lines)


@functools.cache
def schedules() -> Mapping[str, Schedule]:
    """The schedules that come with loopmorph or with plug-ins, by name, in alphabetical order.

    The result is computed once in a process; `schedules.cache_clear()` makes the next call look again.

    Raises:
        ArgumentError: a plug-in does not load, offers something that is no schedule, or takes a name twice.
    """
    own = (("loopmorph", read_schedule(file.stem, file.read_text("utf-8"))) for file in _FOLDER.glob("*.mlir"))
    offers = ((provider, each.name, each) for provider, each in (*own, *_plug_in_schedules()))
    found = by_name(offers, "schedules", "schedule")
    return MappingProxyType(dict(sorted(found.items())))


def find_schedule(name: str) -> Schedule:
    """The schedule of that name.

    Raises:
        ArgumentError: there is none; lists those that there are.
    """
    known = schedules()
    if name not in known:
        raise ArgumentError("name", f"no schedule '{name}'; there are {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]


def load_schedule(name: str, **parameters: Value) -> str:
    """A schedule that comes with loopmorph, as `Program.apply` takes it: `load_schedule("seq2", layer="conv1", u=8)`.

    Args:
        name: one of `schedules()`.
        parameters: those that its header lists; integers where it says `int`.

    Raises:
        ArgumentError: an unknown schedule or parameter, a required parameter that is missing, or a value of another
            type.
    """
    return fill(find_schedule(name), parameters)


def read_schedule(name: str, text: str) -> Schedule:
    """A schedule from the text of a file, which need not have parameters."""
    comment = [line for line in text.partition(_BODY)[0].splitlines() if line.startswith("//")]
    matches = [(line, _PARAMETER.fullmatch(line)) for line in comment]
    parameters = tuple(_parameter(match) for _, match in matches if match is not None)
    words = [line.removeprefix("//").removeprefix(" ") for line, match in matches if match is None]
    summary, *rest = words or [""]
    return Schedule(name, summary, "\n".join(rest).strip("\n"), parameters, text)


def fill(schedule: Schedule, values: Mapping[str, Value]) -> str:
    """The text of a schedule with values for its parameters.

    Integers may be given as text, as on a command line.

    Raises:
        ArgumentError: as `load_schedule`.
    """
    known = {parameter.name: parameter for parameter in schedule.parameters}
    for name in values:
        if name not in known:
            accepted = f"it has {', '.join(known)}" if known else "it has none"
            raise ArgumentError(
                name, f"unknown parameter of schedule '{schedule.name}'; {accepted}{did_you_mean(name, known)}"
            )
    filled: dict[str, str] = {}
    for name, parameter in known.items():
        value = values.get(name, parameter.default)
        if value is None:
            raise ArgumentError(
                name, f"schedule '{schedule.name}' needs {_EXPECTED[parameter.kind]}: {parameter.meaning}"
            )
        filled[name] = _spelled(schedule, parameter, value)
    comment, separator, body = schedule.text.partition(_BODY)
    return comment + separator + (string.Template(body).substitute(filled) if known else body)


def _plug_in_schedules() -> Iterator[tuple[str, Schedule]]:
    for provider, package in plug_ins(ENTRY_POINT_GROUP, ModuleType, "a package with .mlir files"):
        for file in sorted(importlib.resources.files(package).iterdir(), key=lambda each: each.name):
            name, _, ending = file.name.rpartition(".")
            if ending == "mlir":
                yield provider, _checked(provider, name, file.read_bytes())


def _checked(provider: str, name: str, content: bytes) -> Schedule:
    where = f"{provider} offers '{name}.mlir'"
    try:
        schedule = read_schedule(name, content.decode())
    except UnicodeDecodeError as error:
        raise ArgumentError("schedules", f"{where}, which is not UTF-8: {one_line(str(error))}") from error
    if not any((each.name, each.kind) == ("layer", "name") for each in schedule.parameters):
        raise ArgumentError("schedules", f"{where}, which lacks the line '// $layer: name' and what that is")
    upstream = _UPSTREAM.search(schedule.text.partition(_BODY)[2])
    if upstream is not None:
        raise ArgumentError("schedules", f"{where}, which holds '{upstream[0]}'; expected transformations alone")
    return schedule


def _parameter(match: re.Match[str]) -> Parameter:
    kind: Literal["int", "name"] = "int" if match["kind"] == "int" else "name"
    default = match["default"]
    value = int(default) if default is not None and kind == "int" else default
    return Parameter(match["name"], kind, value, match["meaning"])


def _spelled(schedule: Schedule, parameter: Parameter, value: Value) -> str:
    """The value as it stands in MLIR."""
    if parameter.kind == "name" and isinstance(value, str) and value:
        return attribute_text(value)[1:-1]
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if parameter.kind == "int" and _INTEGER.fullmatch(text):
        return str(int(text))
    wanted = f"expected {_EXPECTED[parameter.kind]} ({parameter.meaning})"
    raise ArgumentError(parameter.name, f"schedule '{schedule.name}': {wanted}, got {repr(value)[:80]}")
