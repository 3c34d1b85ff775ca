"""Makes the plug-in visible to `importlib.metadata` without installing it: writes what an installer would write."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent


def expose(folder: Path) -> list[str]:
    """Writes the plug-in's metadata below `folder`; returns the two folders that must stand on `sys.path`."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    write_metadata(folder, project["name"], project["version"], project["entry-points"])
    return [str(folder), str(HERE)]


def write_metadata(folder: Path, name: str, version: str, entry_points: dict[str, dict[str, str]]) -> None:
    """Writes the `.dist-info` folder of a distribution."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


@contextmanager
def visible(*folders: str) -> Iterator[None]:
    """Puts folders first on `sys.path`; loopmorph looks for plug-ins anew inside the block and after it."""
    before = list(sys.path)
    sys.path[:0] = folders
    _forget()
    try:
        yield
    finally:
        sys.path[:] = before
        _forget()


def _forget() -> None:
    from loopmorph.dialects import morph_ops
    from loopmorph.passes import registry
    from loopmorph.pipelines.schedules import loader

    for cached in (registry.all_passes, morph_ops.transformations, morph_ops.dialect, loader.schedules):
        cached.cache_clear()
    signals = sys.modules.get("loopmorph.pipelines.legality.signals")
    if signals is not None:  # it takes PyTorch, which most tests of plug-ins do without
        signals.all_signals.cache_clear()
