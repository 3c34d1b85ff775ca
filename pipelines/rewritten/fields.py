"""Plain data of strangers, field by field: what is missing, superfluous, of another type or out of range is named."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from loopmorph.passes.errors import DataError, one_line

MOST_ELEMENTS = 1 << 29  # of a tensor: 2 GiB in float32
_LARGEST = 1 << 40


@dataclass(frozen=True)
class Fields:
    """A dictionary that a file holds.

    Attributes:
        where: what messages call it, as "model.pt: changes[3] ('layer1.conv')".
        content: its fields.
    """

    where: str
    content: Mapping[str, Any]

    @classmethod
    def of(cls, where: str, content: Any, names: Collection[str]) -> Fields:
        """A dictionary with exactly these fields.

        Raises:
            DataError: it is none, or a field is missing or not known.
        """
        if not isinstance(content, dict):
            raise DataError(f"{where}: is {_shown(content)}; a dictionary is expected")
        for name in names:
            if name not in content:
                raise DataError(f"{where}: field '{name}' is missing")
        for name in content:
            if name not in names:
                raise DataError(f"{where}: field {_shown(name)} is not known; there are {', '.join(sorted(names))}")
        return cls(where, content)

    def wrong(self, name: str, expected: str) -> NoReturn:
        """Raises:
        DataError: a field is not what it should be.
        """
        raise DataError(f"{self.where}: field '{name}' is {_shown(self.content[name])}; {expected} is expected")

    def text(self, name: str, of: Collection[str] = ()) -> str:
        """A text, one of those in `of` if there are any."""
        value = self.content[name]
        if not isinstance(value, str) or (of and value not in of):
            self.wrong(name, f"one of {', '.join(sorted(of))}" if of else "a text")
        return value

    def flag(self, name: str) -> bool:
        """True or False."""
        value = self.content[name]
        if not isinstance(value, bool):
            self.wrong(name, "True or False")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.content[name]
        largest = sys.float_info.max  # compared to, since a whole number beyond it is no float
        if isinstance(value, bool) or not isinstance(value, int | float) or not -largest <= value <= largest:
            self.wrong(name, "a finite number")
        return value

    def positive(self, name: str) -> float:
        """A finite number above 0."""
        value = self.number(name)
        if value <= 0:
            self.wrong(name, "a number above 0")
        return value

    def integer(self, name: str, least: int = 1, most: int = _LARGEST) -> int:
        """A whole number within bounds, both included."""
        value = self.content[name]
        if not is_integer(value, least, most):
            self.wrong(name, f"a whole number from {least} to {most}")
        return int(value)

    def integers(self, name: str, least: int = 1, count: int | None = None, most: int = _LARGEST) -> tuple[int, ...]:
        """A list of whole numbers, `count` of them if that is given."""
        value = self.content[name]
        right = isinstance(value, list) and all(is_integer(number, least, most) for number in value)
        if not right or (count is not None and len(value) != count):
            many = "" if count is None else f"{count} "
            self.wrong(name, f"a list of {many}whole numbers from {least} to {most}")
        return tuple(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.content[name]
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.wrong(name, "a list of texts")
        return tuple(value)

    def sequence(self, name: str) -> Sequence[Any]:
        """A list of anything."""
        value = self.content[name]
        if not isinstance(value, list):
            self.wrong(name, "a list")
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        """The extents of a tensor that is not too large to be made."""
        shape = self.integers(name, least=0)
        if math.prod(shape) > MOST_ELEMENTS:
            self.wrong(name, f"a shape of at most {MOST_ELEMENTS:,} elements")
        return shape


def is_integer(value: Any, least: int, most: int = _LARGEST) -> bool:
    """Whether a value is a whole number within bounds, both included."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _shown(value: Any) -> str:
    """A value, its long and deep parts left out, or its kind."""
    plain = isinstance(value, str | int | float | list | dict | tuple | None)
    return one_line(reprlib.repr(value)) if plain else f"a {type(value).__name__}"
