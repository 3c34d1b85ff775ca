"""Zip archives of strangers: how much they unpack to is looked at before anything is unpacked."""

from __future__ import annotations

import zipfile

MAX_UNPACKED = 2 << 30  # bytes


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


def _size(count: int) -> str:
    """Bytes as text; rounded down to MiB, so that what is above a limit never looks below it."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
