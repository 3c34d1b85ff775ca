"""Pictures need matplotlib, which is an extra."""

from __future__ import annotations

import importlib.util

from loopmorph.passes.errors import ArgumentError


def require_matplotlib(argument: str = "plot") -> None:
    """Makes sure that a picture can be drawn.

    Args:
        argument: what asked for it.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ArgumentError(argument, "a picture needs matplotlib: pip install 'loopmorph[plot]'")
