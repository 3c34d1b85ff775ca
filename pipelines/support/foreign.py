"""Errors of foreign code (a user's model, a library's loader), which may raise anything, as one line."""

from __future__ import annotations

from loopmorph.passes.errors import one_line

_LONGEST = 300  # characters


def describe(error: BaseException) -> str:
    """The kind of an error and its text: `RuntimeError: expected 3 channels, got 4`."""
    text = one_line(str(error))
    kind = type(error).__name__
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 3] + "..."
    return f"{kind}: {text}" if text else kind
