"""Where what was measured of assembled networks is kept, so that none is measured twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class TrialStore(Protocol):
    """Measurements by the text of what was measured."""

    def get(self, key: str) -> Mapping[str, Any] | None:
        """What was measured, as JSON can hold it; None where nothing was."""
        ...

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        """Keeps what was measured."""
        ...


class Forgetful(dict[str, Mapping[str, Any]]):
    """A `TrialStore` that ends with the process."""

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        self[key] = content
