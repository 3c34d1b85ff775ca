"""Progress bars of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress


@contextmanager
def showing(bars: Progress) -> Iterator[None]:
    """Shows the bars; an error takes them away, so that its one line stands alone."""
    bars.start()
    try:
        yield
    except BaseException:
        bars.live.transient = True
        bars.live.stop()  # `bars.stop` would add an empty line where the standard error is no terminal
        raise
    bars.stop()
