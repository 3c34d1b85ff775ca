"""Zip archives of strangers: how much they unpack to is looked at before anything is unpacked."""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch

from loopmorph.passes.errors import DataError

MAX_UNPACKED = 2 << 30  # bytes
UNREADABLE = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
# What torch.load admits though a few bytes make it as large as they say, and no tensor is written so.
_UNBOUNDED = {"builtins bytearray", "__builtin__ bytearray", "torch Tensor"}


class TooLarge(Exception):
    """An archive unpacks to more than is read; says to how much, and what the limit is."""


def check_unpacked(archive: zipfile.ZipFile, limit: int = MAX_UNPACKED) -> None:
    """Looks at what the archive says of its members; reading them never gives more than that.

    Raises:
        TooLarge: they have more than `limit` bytes together.
    """
    total = sum(member.file_size for member in archive.infolist())
    if total > limit:
        raise TooLarge(f"it unpacks to {_size(total)}; at most {_size(limit)} are read")


def load_tensors(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU: tensors, numbers and texts in lists and dictionaries; no code of it is run.

    Raises:
        DataError: it unpacks to more than is read.
        UNREADABLE: it is missing, damaged, or holds something else.
    """
    with zipfile.ZipFile(path) as archive:
        try:
            check_unpacked(archive)
        except TooLarge as error:
            raise DataError(f"{path}: refused: {error}") from error
        for member in archive.namelist():
            if member.rpartition("/")[2] == "data.pkl":
                _check_bounded(archive.read(member))
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_bounded(pickled: bytes) -> None:
    """Raises:
    UnpicklingError: what it makes may be larger than the archive.
    """
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL" and argument in _UNBOUNDED:
            raise pickle.UnpicklingError(f"it makes a {argument.rpartition(' ')[2]} of any size")


def _size(count: int) -> str:
    """Bytes as text; rounded down to MiB, so that what is above a limit never looks below it."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
