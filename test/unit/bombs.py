"""Archives that say that they unpack to a lot."""

from __future__ import annotations

import zipfile
from pathlib import Path


def write_bomb(path: Path, member: str, size: int = 3 << 30) -> Path:
    """A small archive whose one member has `size` bytes by its own account."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, bytes(1 << 16))
        archive.infolist()[0].file_size = size
    return path
