"""Packages that not every user needs, and that come with an extra of loopmorph."""

from __future__ import annotations

import importlib.util

from loopmorph.passes.errors import ArgumentError


def require_extra(argument: str, module: str, extra: str, reason: str) -> None:
    """Makes sure that a package of an extra is there.

    Args:
        argument: what asked for it.
        module: the package, as it is imported.
        extra: what brings it.
        reason: what it is needed for, to be said where it is missing.

    Raises:
        ArgumentError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise ArgumentError(argument, f"{reason}: pip install 'loopmorph[{extra}]'")
