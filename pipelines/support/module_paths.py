"""Qualified names of modules, and which of them is in which."""

from __future__ import annotations

from collections.abc import Sequence


def is_within(name: str, path: str) -> bool:
    """Whether a module is another one or in it, at any depth, by their qualified names; all are in the network's."""
    return not path or name == path or name.startswith(f"{path}.")


def is_inside(name: str, path: str) -> bool:
    """Whether a module is in another one, at any depth, and not that one itself."""
    return name != path and is_within(name, path)


def outermost(paths: Sequence[str]) -> list[str]:
    """The modules that are in none of the others."""
    return [path for path in paths if not any(is_inside(path, other) for other in paths)]
