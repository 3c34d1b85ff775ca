"""Where `find_package(loopmorph)` looks; apart from the rest, so that the answer takes no time."""

from __future__ import annotations

from pathlib import Path

CMAKE_FOLDER = Path(__file__).resolve().parent / "cmake"
