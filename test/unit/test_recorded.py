"""A recorded run says what the module itself says when it is run; what is changed in place is not recorded."""

from __future__ import annotations

import pytest
import torch
from networks import image, randomized
from torch import nn

from loopmorph.pipelines.oracle.repair import recorded
from loopmorph.pipelines.oracle.repair.lockstep import Lockstep
from loopmorph.pipelines.oracle.repair.recorded import RecordedRun, RecordedRuns, Replay, record_run

LAYERS, NORMS = ("conv", "skip"), ("norm",)


class Block(nn.Module):
    """Adds its branch to its shortcut, and perhaps cuts off the convolution's own output, in place."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.conv, self.skip = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.in_place = in_place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 4, H, W)."""
        around, inside = self.skip(x), self.conv(x)
        if self.in_place:
            inside.relu_()
        return torch.relu(self.norm(inside) + around)


def run_of(block: nn.Module, batch: int = 2) -> RecordedRun:
    found = record_run(block, LAYERS, NORMS, (image(batch=batch),))
    assert found is not None
    return found


def test_the_calls_are_those_of_a_run_in_lockstep() -> None:
    block = randomized(Block()).eval()
    run = run_of(block)
    replay = Replay(run)
    with Lockstep(block, {*LAYERS, *NORMS}, run.inputs) as lockstep:
        for name in ("conv", "norm"):  # the shortcut comes first, and is passed over
            there, here = lockstep.until(name), replay.until(name)
            assert there is not None and here is not None
            if name in NORMS:
                torch.testing.assert_close(here.inputs, there.inputs, rtol=0, atol=0)
            else:
                torch.testing.assert_close(here.output, there.output, rtol=0, atol=0)
    assert replay.until("skip") is None
    other = run.around["conv"].other
    assert other is not None and run.around["conv"].norm == "norm"
    torch.testing.assert_close(run.given[other], block.skip(run.inputs[0]), rtol=0, atol=0)


class Shared(nn.Module):
    """One ReLU runs twice, and a layer's output is added to what it gave first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.skip, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 1), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 4, H, W)."""
        around = self.relu(self.skip(x))
        return self.relu(self.conv(around) + around)


def test_what_is_met_twice_at_a_place_is_not_recorded() -> None:
    assert record_run(randomized(Shared()).eval(), LAYERS, NORMS, (image(batch=2),)) is None


def test_what_is_larger_than_all_may_be_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    block = randomized(Block()).eval()
    monkeypatch.setattr(recorded, "_MEMORY", run_of(block).size - 1)
    assert record_run(block, LAYERS, NORMS, (image(batch=2),)) is None


def test_what_is_changed_in_place_is_not_recorded() -> None:
    assert record_run(randomized(Block(in_place=True)).eval(), LAYERS, NORMS, (image(batch=2),)) is None


def test_the_last_runs_that_fit_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    block, made = randomized(Block()).eval(), list[str]()

    def make(path: str) -> RecordedRun | None:
        made.append(path)
        return run_of(block) if path else None

    monkeypatch.setattr(recorded, "_MEMORY", 2 * run_of(block).size)
    runs = RecordedRuns()
    for path in ("a", "b", "a", "", "", "c", "a", "b"):
        assert (runs.of(path, make) is None) == (not path)
    assert made == ["a", "b", "", "c", "b"]  # as "c" came, "b" was the oldest
