"""The folder that an export is written to, in which nothing of anybody else is touched."""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.codegen.export.entry_points import MARK
from loopmorph.pipelines.support.files import prepare_folder, write_atomically

Format = Literal["library", "object", "llvm-ir"]
# Format -> the files besides header, weights and dependencies; each begins with the network's name where it says {}.
_OF_FORMAT: dict[Format, tuple[str, ...]] = {
    "library": ("lib{}.so", "lib{}.a", "{}Config.cmake"),
    "object": ("{}.c", "{}_code.o"),
    "llvm-ir": ("{}.c", "{}_code.ll"),
}
FORMATS = tuple(_OF_FORMAT)
_ALWAYS = ("{}.h", "{}.d")
_WEIGHTS = "{}.safetensors"


@dataclass(frozen=True)
class ExportFolder:
    """Where the files of one network go.

    Attributes:
        path: the folder.
        name: the network's.
    """

    path: Path
    name: str

    @property
    def header(self) -> Path:
        return self.path / f"{self.name}.h"

    def files_of(self, format: Format, *, embedded: bool) -> list[str]:
        """The names of the files of an export."""
        patterns = [*_ALWAYS, *_OF_FORMAT[format], *([] if embedded else [_WEIGHTS])]
        return [pattern.format(self.name) for pattern in patterns]

    def make_ready(self, names: list[str]) -> None:
        """Makes sure, before any long work, that these files can be written, and that no one else's has such a name.

        Raises:
            ArgumentError: the folder cannot be written, or has a file or folder of that name that is not of an export.
        """
        prepare_folder(self.path)
        for name in names:
            if (self.path / name).exists() and not self._is_ours(name):
                advice = "move it, or choose another folder or name; nothing was written"
                raise ArgumentError("out", f"'{self.path / name}' is there and is not of an export: {advice}")

    def write(self, files: Mapping[str, bytes]) -> None:
        """Writes the files, and removes what an earlier export of this name wrote besides.

        Raises:
            ArgumentError: a file cannot be written.
        """
        for name, content in files.items():
            write_atomically(self.path / name, operator.methodcaller("write", content))
        for pattern in {*(each for group in _OF_FORMAT.values() for each in group), _WEIGHTS}:
            name = pattern.format(self.name)
            if name not in files and (self.path / name).is_file() and self._is_ours(name):
                with contextlib.suppress(FileNotFoundError):
                    (self.path / name).unlink()

    def _is_ours(self, name: str) -> bool:
        path = self.path / name
        if not path.is_file():
            return False
        try:
            content = path.read_bytes()
        except OSError:
            return False
        if name == f"{self.name}.d":  # a list of files has no place for remarks
            return re.match(rf"(?:\\.|\S)*\b{self.name}\.h:".encode(), content) is not None
        return MARK.encode() in content
