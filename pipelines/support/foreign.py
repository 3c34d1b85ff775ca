"""Errors of foreign code (a user's model, a library's loader), which may raise anything, as one line."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, one_line

_LONGEST = 300  # characters


def describe(error: BaseException) -> str:
    """The kind of an error and its text: `RuntimeError: expected 3 channels, got 4`."""
    text = one_line(str(error))
    kind = type(error).__name__
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 3] + "..."
    return f"{kind}: {text}" if text else kind


def run_model(model: nn.Module, *images: torch.Tensor) -> Any:
    """The outputs of a model.

    Raises:
        ArgumentError: the model's own code fails.
    """
    try:
        return model(*images)
    except ArgumentError:
        raise
    except Exception as error:  # the user's own forward may raise anything
        mode = "train" if model.training else "eval"
        reason = f"in {mode} mode it fails on images of shape {tuple(images[0].shape)}: {describe(error)}"
        raise ArgumentError("model", reason) from error
