"""Keeping PyTorch's own messages away while it reads or exports a model that it may refuse."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_PRINTING = ("torch.export._trace", "torch.fx.graph_module")  # they print what they had before they raise


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Drops what PyTorch's exporter logs and prints in this thread.

    `torch.export` prints the graph that it had so far and logs traces before it raises; the exception says it all, and
    its text becomes the one line that the user sees. The standard error itself, and other threads, stay as they are.
    """
    _install()
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


@cache
def _install() -> None:
    """Once in a process: what PyTorch prints and logs passes by here. The exporter takes a second to import."""
    for name in _PRINTING:
        vars(importlib.import_module(name))["print"] = _print
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.split(".")[0] == "torch"]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        handler.addFilter(lambda record: not _quiet.get())


def _print(*values: Any, **options: Any) -> None:
    if not _quiet.get():
        builtins.print(*values, **options)
