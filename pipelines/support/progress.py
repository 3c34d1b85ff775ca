"""How long work tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with what is being done, the steps done and the steps of it.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, of: int) -> None:
    """Tells nobody."""


@contextmanager
def stage(progress: Progress, name: str) -> Iterator[None]:
    """Tells that work of one step begins, and when it has ended."""
    progress(name, 0, 1)
    yield
    progress(name, 1, 1)
