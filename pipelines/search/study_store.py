"""A study as a store of measurements of assembled networks, each under a text that says what was measured of which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.search.study import Record, Study
from loopmorph.pipelines.search.verdict import ACCEPTED

_PREFIX = "morph-"


class StudyStore:
    """Keeps numbers by texts such as "loss 0.25 morph-group{...},morph-mix{...}": what was measured, then the steps.

    What was measured is the kind of the record. What is None is not kept.
    """

    def __init__(self, study: Study) -> None:
        """Args:
        study: keeps the records.
        """
        self._study = study

    def get(self, key: str) -> Mapping[str, Any] | None:
        """What was measured; None where nothing was."""
        kind, steps = _parts(key)
        record = self._study.get(steps, kind)
        return None if record is None else dict(record.numbers)

    def put(self, key: str, content: Mapping[str, float | None]) -> None:
        """Keeps what was measured."""
        kind, steps = _parts(key)
        numbers = {name: float(value) for name, value in content.items() if value is not None}
        self._study.put(Record(kind, steps, ACCEPTED, "", numbers))


def _parts(key: str) -> tuple[str, tuple[str, ...]]:
    kind, prefix, rest = key.partition(_PREFIX)
    return kind.strip(), tuple(map(str, parse_steps(prefix + rest))) if prefix else ()
