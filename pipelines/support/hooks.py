"""Hooks on modules, for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Keeps hooks, which are registered as `handles` is gone through, until it is left."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield
