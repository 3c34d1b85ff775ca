"""A study as a store of measurements of assembled networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loopmorph.passes.history import Step
from loopmorph.pipelines.search.study import Record, Study
from loopmorph.pipelines.search.verdict import ACCEPTED


class StudyStore:
    """A `TrialStore` whose measurements are records; what was measured is their kind, and what is None is not kept."""

    def __init__(self, study: Study) -> None:
        """Args:
        study: keeps the records.
        """
        self._study = study

    def get(self, kind: str, steps: Sequence[Step]) -> Mapping[str, Any] | None:
        """What was measured of the network with these steps; None where nothing was."""
        record = self._study.get(tuple(map(str, steps)), kind)
        return None if record is None else dict(record.numbers)

    def put(self, kind: str, steps: Sequence[Step], content: Mapping[str, float | None]) -> None:
        """Keeps what was measured."""
        numbers = {name: float(value) for name, value in content.items() if value is not None}
        self._study.put(Record(kind, tuple(map(str, steps)), ACCEPTED, "", numbers))
