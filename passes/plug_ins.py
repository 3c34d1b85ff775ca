"""What installed plug-ins offer: packages with an entry point in one of loopmorph's groups."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from loopmorph.passes.errors import ArgumentError, one_line

T = TypeVar("T")


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


def by_name(offers: Iterable[tuple[str, str, T]], argument: str, kind: str) -> dict[str, T]:
    """Collects (provider, name, value) by the names.

    Raises:
        ArgumentError: two providers use one name; names them.
    """
    found: dict[str, tuple[str, T]] = {}
    for provider, name, value in offers:
        if name in found:
            taken = f"by {found[name][0]} and by {provider}"
            raise ArgumentError(argument, f"the {kind} '{name}' is defined twice, {taken}")
        found[name] = provider, value
    return {name: value for name, (_, value) in found.items()}


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
