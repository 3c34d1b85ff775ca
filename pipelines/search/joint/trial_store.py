"""Where what was measured of assembled networks is kept, so that none is measured twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from loopmorph.passes.history import Step


class TrialStore(Protocol):
    """Measurements by what was measured ("time", "loss 0.25"), and of which network."""

    def get(self, kind: str, steps: Sequence[Step]) -> Mapping[str, Any] | None:
        """What was measured of the network with these steps, as JSON can hold it; None where nothing was."""
        ...

    def put(self, kind: str, steps: Sequence[Step], content: Mapping[str, Any]) -> None:
        """Keeps what was measured."""
        ...


@dataclass
class Forgetful:
    """A `TrialStore` that ends with the process."""

    _known: dict[tuple[str, tuple[Step, ...]], Mapping[str, Any]] = field(default_factory=dict)

    def get(self, kind: str, steps: Sequence[Step]) -> Mapping[str, Any] | None:
        return self._known.get((kind, tuple(steps)))

    def put(self, kind: str, steps: Sequence[Step], content: Mapping[str, Any]) -> None:
        self._known[kind, tuple(steps)] = content
