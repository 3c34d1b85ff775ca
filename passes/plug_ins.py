"""What installed plug-ins offer: packages with an entry point in one of loopmorph's groups."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

from loopmorph.passes.errors import ArgumentError, one_line


def plug_ins(group: str, accepted: type | tuple[type, ...], wanted: str) -> Iterator[tuple[str, Any]]:
    """Each plug-in's name with what its entry point stands for.

    Args:
        group: the group of the entry points; its last word names the argument of errors.
        accepted: of which type that has to be.
        wanted: what that is called in messages.

    Raises:
        ArgumentError: a plug-in does not load, or offers something else; names its entry point.
    """
    for entry_point in importlib.metadata.entry_points(group=group):
        provider = entry_point.dist.name if entry_point.dist else entry_point.value
        yield provider, _load(entry_point, accepted, wanted)


def _load(entry_point: importlib.metadata.EntryPoint, accepted: type | tuple[type, ...], wanted: str) -> Any:
    try:
        offered = entry_point.load()
    except Exception as error:  # the boundary to foreign code: whatever its import raises is the plug-in's fault
        raise _broken(entry_point, f"{type(error).__name__}: {one_line(str(error))}") from error
    if not isinstance(offered, accepted):
        raise _broken(entry_point, f"expected {wanted}, got {type(offered).__name__}")
    return offered


def _broken(entry_point: importlib.metadata.EntryPoint, reason: str) -> ArgumentError:
    name = f"{entry_point.name} = {entry_point.value}"
    argument = entry_point.group.rpartition(".")[2]
    return ArgumentError(argument, f"the plug-in entry point '{name}' does not load: {reason}")
