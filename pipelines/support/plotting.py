"""Pictures need matplotlib, which is an extra."""

from __future__ import annotations

from loopmorph.pipelines.support.extras import require_extra


def require_matplotlib(argument: str = "plot") -> None:
    """Makes sure that a picture can be drawn.

    Args:
        argument: what asked for it.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    require_extra(argument, "matplotlib", "plot", "a picture needs matplotlib")
