"""The options of a pass as text: read from a pipeline, and described for messages and listings."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Sequence
from typing import Any

from loopmorph.passes.base import OptionValue, Pass
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.registry import did_you_mean
from loopmorph.passes.text.pipeline_text import OptionSyntax, Syntax, complaint, parse_options

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")  # longer than any that is accepted; Python converts no endless ones
_SHOWN = 60  # characters of a value in a message
_TYPE_WORDS: dict[Any, str] = {
    int: "integer",
    str: "name",
    bool: "true|false",
    tuple[int, ...]: "integer,...",
    tuple[str, ...]: "name,...",
}
_EXPECTED: dict[Any, str] = {
    int: "an integer",
    str: "a name",
    bool: "true or false",
    tuple[int, ...]: "a list of integers, as in 1,2",
    tuple[str, ...]: "a list of names, as in a,b",
}


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One option as a user sees it: `key` in kebab-case, `default` as text, None where a value is required."""

    key: str
    type_text: str
    default: str | None


def describe_options(cls: type[Pass]) -> tuple[OptionInfo, ...]:
    """The options of a pass, in declaration order."""
    types = cls.option_types()
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    return tuple(OptionInfo(kebab(name), _TYPE_WORDS[types[name]], _default_text(defaults[name])) for name in types)


def kebab(field: str) -> str:
    """`unroll_factor` -> `unroll-factor`."""
    return field.replace("_", "-")


def build_pass(cls: type[Pass], text: str, element: Syntax) -> Pass:
    """The pass that `element` of the pipeline `text` asks for.

    Raises:
        ArgumentError: an option is unknown, missing, given twice, of the wrong type or refused by the pass.
    """
    types = cls.option_types()
    values: dict[str, OptionValue] = {}
    places: dict[str, int] = {}
    for option in parse_options(text, element):
        name = option.key.replace("-", "_")
        if name not in types:
            raise complaint(text, option.key_offset, _unknown_option(cls, option.key))
        if name in values:
            raise complaint(text, option.key_offset, f"option '{option.key}' of {cls.name} is given twice")
        values[name] = _read(cls, types[name], text, option)
        places[name] = option.value_offset
    missing = [kebab(name) for name in cls.required_options() if name not in values]
    if missing:
        word = "option" if len(missing) == 1 else "options"
        raise complaint(text, element.offset, f"{cls.name} needs the {word} {', '.join(missing)}")
    try:
        return cls(**values)
    except ArgumentError as error:
        raise complaint(text, places.get(error.argument, element.offset), str(error)) from error


def _unknown_option(cls: type[Pass], key: str) -> str:
    keys = [kebab(name) for name in cls.option_types()]
    accepted = f"it accepts {', '.join(keys)}" if keys else "it accepts none"
    return f"{cls.name} has no option '{key}' ({accepted}){did_you_mean(key, keys)}"


def _read(cls: type[Pass], kind: type, text: str, option: OptionSyntax) -> OptionValue:
    value = _convert(kind, option.items)
    if value is None:
        got = "nothing" if option.items is None else f"'{_shortened(','.join(option.items))}'"
        message = f"option '{option.key}' of {cls.name} expects {_EXPECTED[kind]}, got {got}"
        raise complaint(text, option.value_offset, message)
    return value


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _convert(kind: type, items: Sequence[str] | None) -> OptionValue | None:
    """The value of type `kind`, or None where the items do not spell one."""
    if items is None:
        return True if kind is bool else None
    if typing.get_origin(kind) is tuple:
        return _convert_list(kind, items)
    joined = ",".join(items)
    if kind is int:
        return int(joined) if _INTEGER.fullmatch(joined) else None
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(joined)
    return joined


def _convert_list(kind: type, items: Sequence[str]) -> OptionValue | None:
    if list(items) == [""]:
        return ()
    if kind == tuple[str, ...]:
        return tuple(items) if all(items) else None
    return tuple(int(item) for item in items) if all(map(_INTEGER.fullmatch, items)) else None


def _default_text(value: Any) -> str | None:
    if value is dataclasses.MISSING:
        return None
    if isinstance(value, tuple):
        return ",".join(str(v) for v in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)
