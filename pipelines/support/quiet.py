"""Keeping PyTorch's own messages away while it reads or exports a model that it may refuse."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Drops what PyTorch logs, and what this thread prints to the standard error.

    `torch.export` prints the graph that it had so far and logs traces before it raises; the exception says it all, and
    its text becomes the one line that the user sees. Other threads (a progress bar's) keep the standard error.
    """
    logging_before, stream = logging.root.manager.disable, sys.stderr
    logging.disable(logging.CRITICAL)
    sys.stderr = _OthersOnly(stream)
    try:
        yield
    finally:
        sys.stderr = stream
        logging.disable(logging_before)


class _OthersOnly(io.TextIOBase):
    """The standard error for every thread but the one that made it."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._silent = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._silent else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()
