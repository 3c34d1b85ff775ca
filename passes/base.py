"""What a pass is: a frozen dataclass whose fields are its options: `morph-NAME{...}` of a textual pipeline."""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError

OptionValue = int | str | bool | tuple[int, ...] | tuple[str, ...]

_PLAIN = re.compile(r"[^\s,={}'\"]+")


@dataclass(frozen=True)
class Pass(ABC):
    """One unit of work on a whole module.

    Subclasses are frozen dataclasses; their fields, of type `int`, `str`, `bool`, `tuple[int, ...]` or
    `tuple[str, ...]` (each also `| None`, with the default None), are the options of the pass.
    The module verifies before and after `run`.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, module: ir.Operation) -> None:
        """Changes `module` (a `builtin.module`) in place, or raises and changes nothing.

        Raises:
            ArgumentError: an option names something that is not there.
            IllegalTransform: the program does not admit the change.
        """

    def options(self) -> dict[str, OptionValue]:
        """The options that differ from their defaults, by field name, in declaration order."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}

    def __str__(self) -> str:
        """The pass as it stands in a pipeline: `morph-split{layer=conv1 iter=ow factor=4}`."""
        words = [f"{name.replace('_', '-')}={_spell(value)}" for name, value in self.options().items()]
        return self.name + (f"{{{' '.join(words)}}}" if words else "")

    @classmethod
    def option_types(cls) -> dict[str, type]:
        """Field name -> `int`, `str`, `bool`, `tuple[int, ...]` or `tuple[str, ...]` (`| None` stripped)."""
        return dict(_option_types(cls))

    @classmethod
    def required_options(cls) -> tuple[str, ...]:
        """The fields without a default."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING)

    def __post_init__(self) -> None:
        for name, kind in self.option_types().items():
            self._check_type(name, kind, getattr(self, name))

    def _check_type(self, name: str, kind: type, value: Any) -> None:
        default = {f.name: f.default for f in dataclasses.fields(self)}[name]
        if value is None and default is None:
            return
        origin = typing.get_origin(kind)
        if origin is tuple:
            (element, _) = typing.get_args(kind)
            good = isinstance(value, tuple) and all(type(v) is element for v in value)
            wanted = f"a list of {'integers' if element is int else 'names'}"
        else:
            good = type(value) is kind
            wanted = {int: "an integer", str: "a name", bool: "true or false"}[kind]
        if not good:
            raise ArgumentError(name, f"expected {wanted}, got {value!r} (in {self.name})")


@functools.cache
def _option_types(cls: type[Pass]) -> Mapping[str, type]:
    hints = typing.get_type_hints(cls)
    return {f.name: _strip_none(hints[f.name]) for f in dataclasses.fields(cls)}


def _strip_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def _spell(value: OptionValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(_spell(v) for v in value)
    text = str(value)
    if not text or _PLAIN.fullmatch(text):
        return text
    quote = '"' if "'" in text else "'"
    return f"{quote}{text}{quote}"
