"""Markdown as the page has it: commands, figures with a fixed number of digits."""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = "-"


def code(commands: Sequence[str]) -> list[str]:
    """Commands as a block, in fences, since an indented one after a list would be a part of the list."""
    return ["```sh", *commands, "```"]


def number(value: float | None, digits: int, factor: float = 1.0) -> str:
    """A number with so many digits after the point, `NOTHING` for None; no `-0.0`."""
    return NOTHING if value is None else f"{value * factor:z.{digits}f}"


def sentence(text: str) -> str:
    """A text with a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) else ".")


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def not_measured(what: str, commands: Sequence[str]) -> list[str]:
    """What stands in the place of figures that do not exist, with the commands that would make them."""
    return [f"**Not measured yet**: {what}. It would be measured by", "", *code(commands), ""]
