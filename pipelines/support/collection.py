"""Pausing Python's cyclic garbage collector while a network is built."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Iterator[None]:
    """No cycles are collected meanwhile; afterwards everything is as before.

    Exporting and scheduling a network makes millions of objects of which almost all are still in use or are freed by
    their reference counts, while each full collection looks at everything that PyTorch has loaded: a seventh of the
    time that a network takes to compile.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
