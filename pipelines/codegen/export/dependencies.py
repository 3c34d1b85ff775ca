"""What an export was made from, as a dependency file that make, Ninja and CMake read."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_SPECIAL = re.compile(r"([\s#$\\])")


def dependency_text(target: Path, sources: Iterable[Path]) -> str:
    """`target: source source ...`, with absolute paths."""
    words = [_escape(path) for path in dict.fromkeys(path.resolve() for path in sources)]
    return " \\\n  ".join([f"{_escape(target.resolve())}:", *words]) + "\n"


def loaded_sources() -> list[Path]:
    """The Python files of loopmorph, and of the user's modules, that are loaded now, and the templates beside them.

    None of an installed package: those are changed by installing another version.
    """
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    found = sorted(TEMPLATES.iterdir())
    for name, module in sorted(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "")
        if file.suffix == ".py" and (name.partition(".")[0] == "loopmorph" or not _is_installed(file, standard)):
            found.append(file)
    return [file for file in found if file.is_file()]


def _is_installed(file: Path, standard: Path) -> bool:
    return bool(_INSTALLED.intersection(file.parts)) or file.resolve().is_relative_to(standard)


def _escape(path: Path) -> str:
    return _SPECIAL.sub(lambda match: "$$" if match[1] == "$" else f"\\{match[1]}", str(path))
