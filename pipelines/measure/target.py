"""This computer as a target, with the figures that only a measurement gives."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import ClassVar

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.target import Target, parse_target
from loopmorph.pipelines.measure.figures import measure_figures
from loopmorph.pipelines.store.cache_file import CacheFile, computer, default_folder

_SAME = 0.2  # what two measurements of one computer may differ by, in proportion


class TargetFile(CacheFile):
    """Each computer as it was measured, as a target's text, kept across runs."""

    file: ClassVar[str] = "target.sqlite3"
    contents: ClassVar[str] = "measurements of this computer"

    def __init__(self) -> None:
        super().__init__("measured (computer TEXT PRIMARY KEY, target TEXT)")

    def get(self) -> Target | None:
        """This computer, if it has been measured."""
        rows = self.execute("SELECT target FROM measured WHERE computer = ?", computer())
        try:
            return parse_target(str(rows[0][0])) if rows else None
        except ArgumentError:  # written by sources that knew other figures
            return None

    def put(self, target: Target) -> None:
        """Stores this computer."""
        self.execute("INSERT OR REPLACE INTO measured VALUES (?, ?)", computer(), str(target))


def this_computer() -> Target:
    """What the system says of this computer and, where `measure_target` has been called before, what was measured.

    Nothing is measured here, so that what is compiled does not depend on a noisy moment.
    """
    if not (default_folder() / TargetFile.file).exists():
        return native_target()
    with closing(TargetFile()) as file:
        return file.get() or native_target()


def measure_target() -> Target:
    """Measures what a core of this computer does and how fast it reads, in some seconds, and keeps it.

    From then on `this_computer` knows it, and models that weigh arithmetic against memory ask it. A figure that was
    measured before stays where the new one differs by a fifth at most, so that what is compiled stays too.
    """
    figures = measure_figures()
    with closing(TargetFile()) as file:
        before = file.get()
        if before is not None:
            figures = {name: _steady(getattr(before, name), value) for name, value in figures.items()}
        target = dataclasses.replace(native_target(), **figures)  # type: ignore[arg-type]  # by name
        file.put(target)
    return target


def _steady(before: float, now: float) -> float:
    return before if abs(now - before) <= _SAME * before else now
