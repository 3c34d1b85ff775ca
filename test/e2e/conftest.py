"""What many tests of whole commands start from."""

from __future__ import annotations

from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[1] / "unit"


@pytest.fixture
def in_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of the unit tests, whose models the command line finds as `factories:NAME`."""
    monkeypatch.syspath_prepend(UNIT)
    monkeypatch.chdir(UNIT)


@pytest.fixture
def page_without_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `report.html` without the times that two more compilations give; test_optimize.py writes one with them."""
    monkeypatch.setattr("loopmorph.pipelines.page.page.measured_or_why", lambda *_: "left out in this test")
