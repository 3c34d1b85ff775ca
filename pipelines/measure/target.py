"""This computer as a target, with the figures that only a measurement gives."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import ClassVar

from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.measure.peak import measure_peak
from loopmorph.pipelines.store.cache_file import CacheFile, computer, default_folder


class TargetFile(CacheFile):
    """The measured balance of each computer (see `Target.balance`), kept across runs."""

    file: ClassVar[str] = "target.sqlite3"
    contents: ClassVar[str] = "measurements of this computer"

    def __init__(self) -> None:
        super().__init__("targets (computer TEXT PRIMARY KEY, balance REAL)")

    def get(self) -> float | None:
        """This computer's, if it has been measured."""
        rows = self.execute("SELECT balance FROM targets WHERE computer = ?", computer())
        return float(rows[0][0]) if rows else None

    def put(self, balance: float) -> None:
        """Stores this computer's."""
        self.execute("INSERT OR REPLACE INTO targets VALUES (?, ?)", computer(), balance)


def this_computer() -> Target:
    """What the system says of this computer and, where `measure_target` has been called before, what was measured.

    Nothing is measured here, so that what is compiled does not depend on a noisy moment.
    """
    target = native_target()
    if not (default_folder() / TargetFile.file).exists():
        return target
    with closing(TargetFile()) as file:
        balance = file.get()
    return target if balance is None else dataclasses.replace(target, balance=balance)


def measure_target() -> Target:
    """Measures how fast a core of this computer multiplies and reads memory, in about a second, and keeps it.

    From then on `this_computer` knows it, and models that weigh arithmetic against memory ask it.
    """
    peak = measure_peak(1)
    balance = round(peak.gflops / 2 / peak.bandwidth, 1)
    with closing(TargetFile()) as file:
        file.put(balance)
    return dataclasses.replace(native_target(), balance=balance)
