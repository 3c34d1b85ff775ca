"""A training that was stopped, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.support.archives import UNREADABLE, load_tensors
from loopmorph.pipelines.support.files import write_atomically

FORMAT = "loopmorph-training-1"
_AGAIN = "remove it to begin anew"


def write_checkpoint(path: Path, key: str, state: dict[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: the file.
        key: of all that the training depends on.
        state: tensors, numbers and texts in lists and dictionaries.

    Raises:
        ArgumentError: the file cannot be written.
    """
    content = {"format": FORMAT, "key": key, "state": state}
    write_atomically(path, lambda file: torch.save(content, file), argument="checkpoint")


def read_checkpoint(path: Path, key: str) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU; nothing of the file is run.

    Raises:
        DataError: it is damaged, no checkpoint, or one of another training.
    """
    try:
        content = load_tensors(path)
    except UNREADABLE as error:
        raise DataError(f"{path}: is not a readable checkpoint ({type(error).__name__}); {_AGAIN}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("state"), dict):
        raise DataError(f"{path}: is not a checkpoint (format '{FORMAT}' is expected); {_AGAIN}")
    if content.get("key") != key:
        raise DataError(f"{path}: is of another training (other weights, images or settings); {_AGAIN}")
    state: dict[str, Any] = content["state"]
    return state
