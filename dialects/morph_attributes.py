"""Option values as MLIR attributes: reading them, writing them as text, and checking an operation's dictionary."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from torch_mlir import ir

from loopmorph.passes.base import OptionValue
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.registry import did_you_mean
from loopmorph.passes.transformation import Transformation

PREFIX = "morph."
KIND = "morph.kind"

_EXPECTED: dict[Any, str] = {
    int: "an integer, as in 4 : i64",
    str: "a string",
    bool: "true or false",
    tuple[int, ...]: "an array of integers, as in [4, 4]",
    tuple[str, ...]: 'an array of strings, as in ["co", "ci"]',
}


def attribute_text(value: OptionValue) -> str:
    """An option value in MLIR's syntax: `4 : i64`, `"co"`, `true`, `[4 : i64, 4 : i64]`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value} : i64"
    if isinstance(value, tuple):
        return f"[{', '.join(attribute_text(v) for v in value)}]"
    return f'"{_escape(value)}"'


def attribute_value(kind: type, attribute: ir.Attribute) -> OptionValue | None:
    """The value of type `kind` (as in `Pass.option_types`) that `attribute` spells, or None where it spells none."""
    if typing.get_origin(kind) is tuple:
        (element, _) = typing.get_args(kind)
        return _list_value(element, attribute)
    if kind is bool:
        return bool(ir.BoolAttr(attribute).value) if isinstance(attribute, ir.BoolAttr) else None
    if kind is int:
        is_integer = isinstance(attribute, ir.IntegerAttr) and not isinstance(attribute, ir.BoolAttr)
        return int(ir.IntegerAttr(attribute).value) if is_integer else None
    return str(ir.StringAttr(attribute).value) if isinstance(attribute, ir.StringAttr) else None


def build_step(cls: type[Transformation[Any]], attributes: Mapping[str, ir.Attribute]) -> Transformation[Any]:
    """The transformation that an operation's attributes describe.

    Raises:
        ArgumentError: an attribute is unknown, missing, of the wrong type or refused; names the attribute.
    """
    types = cls.option_types()
    values: dict[str, OptionValue] = {}
    for name, attribute in attributes.items():
        if name.startswith(PREFIX):
            _check_annotation(cls, name, attribute)
            continue
        if name not in types:
            accepted = f"accepted: {', '.join(types)}" if types else "there are none"
            raise ArgumentError(name, f"unknown attribute ({accepted}){did_you_mean(name, types)}")
        value = attribute_value(types[name], attribute)
        if value is None:
            raise ArgumentError(name, f"expected {_EXPECTED[types[name]]}, got {attribute}")
        values[name] = value
    for name in cls.required_options():
        if name not in values:
            raise ArgumentError(name, f"missing; expected {_EXPECTED[types[name]]}")
    return cls(**values)


def _check_annotation(cls: type[Transformation[Any]], name: str, attribute: ir.Attribute) -> None:
    if name == KIND and attribute_value(str, attribute) != cls.kind:
        raise ArgumentError(name, f'expected "{cls.kind}", got {attribute}')


def _list_value(element: type, attribute: ir.Attribute) -> OptionValue | None:
    if isinstance(attribute, ir.DenseI64ArrayAttr):
        return tuple(int(v) for v in attribute) if element is int else None
    if not isinstance(attribute, ir.ArrayAttr):
        return None
    values: list[Any] = [attribute_value(element, item) for item in attribute]
    return None if None in values else tuple(values)


def _escape(text: str) -> str:
    plain = {c for c in range(0x20, 0x7F)} - {ord('"'), ord("\\")}
    return "".join(chr(byte) if byte in plain else f"\\{byte:02X}" for byte in text.encode())
