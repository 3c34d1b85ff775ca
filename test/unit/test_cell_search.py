"""`loopmorph baseline cells`: how signals rank, which cells are timed, what is kept, and what cannot be."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.pipelines.bench.signal_rows import SignalRow
from loopmorph.pipelines.bench.traditional import cell_search
from loopmorph.pipelines.bench.traditional.cell_search import CellSearch, ranked, search_cells
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.tools.cli import main

SKIP = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
POINTWISE = "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"
POOL = "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|"
ACCURACIES = {SKIP: 60.0, POINTWISE: 80.5, POOL: 50.0}
TIMES = {SKIP: 1.0, POINTWISE: 3.0, POOL: 2.0}


def row(name: str, **values: float) -> SignalRow:
    return SignalRow(name, 50.0, {signal: Score(value) for signal, value in values.items()})


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    path = tmp_path / "cells.csv"
    lines = (f"{name},{accuracy}" for name, accuracy in ACCURACIES.items())
    path.write_text("\n".join(["arch,cifar10_test_acc_200ep", *lines]))
    return path


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells that are timed; times are known without a processor that others use as well."""
    asked: list[str] = []

    def milliseconds(architecture: str, seed: int, worker: Worker) -> float:
        asked.append(architecture)
        return TIMES[architecture]

    monkeypatch.setattr(cell_search, "_milliseconds", milliseconds)
    return asked


def search(cells: Path, limit_ms: float, **options: object) -> CellSearch:
    return search_cells(cells, None, limit_ms=limit_ms, **{"signals": ("params",), "images": 2, **options})


def test_the_sum_of_ranks_decides_and_what_is_not_finite_is_last() -> None:
    rows = [row("a", x=1, y=9), row("b", x=3, y=8), row("c", x=2, y=1), row("d", x=math.nan, y=math.inf)]
    assert [each.network for each in ranked(rows, ("x",))] == ["b", "c", "a", "d"]
    assert [each.network for each in ranked(rows, ("x", "y"))] == ["b", "a", "c", "d"]  # 3, 4, 5 and 8
    assert ranked([], ("x",)) == []


def test_cells_are_timed_in_their_order_until_there_are_enough(cells: Path, timed: list[str]) -> None:
    found = search(cells, 2.5, keep=1)
    assert timed == [POINTWISE, POOL]  # before SKIP, which is as large, by its name
    assert [(cell.rank, cell.architecture, cell.milliseconds) for cell in found.slower] == [(1, POINTWISE, 3.0)]
    (best,) = found.best
    assert (best.rank, best.model, best.accuracy) == (2, f"nasbench201:{POOL}", ACCURACIES[POOL])
    assert best.scores.keys() == {"params", "macs"} and not found.interrupted


def test_what_was_measured_is_kept(cells: Path, timed: list[str], tmp_path: Path) -> None:
    first = search(cells, 2.5, out=tmp_path / "rows.jsonl")
    assert len(timed) == 3
    assert search(cells, 2.5, out=tmp_path / "rows.jsonl") == first
    assert len(timed) == 3


def test_a_limit_out_of_reach_is_told_the_least_possible(cells: Path, timed: list[str]) -> None:
    reason = "none of 3 cells takes at most 0.5 ms at 1 thread; the least possible is 1.000 ms, of .*skip_connect~0"
    with pytest.raises(ArgumentError, match=f"'limit_ms': {reason}"):
        search(cells, 0.5)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan, "2"])
def test_a_limit_is_a_positive_number(cells: Path, limit: float) -> None:
    with pytest.raises(ArgumentError, match="'limit_ms': expected a positive number of milliseconds, got"):
        search(cells, limit)


def test_a_cell_that_fails_costs_itself_alone(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def milliseconds(architecture: str, seed: int, worker: Worker) -> float:
        if architecture in failing:
            raise CompilationFailed("too hard")
        return 1.0

    monkeypatch.setattr(cell_search, "_milliseconds", milliseconds)
    failing = {POINTWISE}
    found = search(cells, 2.5)
    assert found.failed == {POINTWISE: "too hard"} and len(found.best) == 2
    failing = {*ACCURACIES}
    with pytest.raises(CompilationFailed, match=r"none of the cells could be measured and timed; .*: too hard"):
        search(cells, 2.5)


def test_an_interrupt_keeps_what_was_found(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def milliseconds(architecture: str, seed: int, worker: Worker) -> float:
        if architecture != POINTWISE:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(cell_search, "_milliseconds", milliseconds)
    found = search(cells, 2.5)
    assert found.interrupted and [cell.architecture for cell in found.best] == [POINTWISE]


def test_the_command_compiles_and_times(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells.write_text(f"arch,cifar10_test_acc_200ep\n{SKIP},60.0\n")
    options = ["--csv", str(cells), "--limit-ms", "60000", "--signals", "params", "--images", "2"]
    assert main(["baseline", "cells", *options, "--json", str(tmp_path / "found.json")]) == 0
    assert f"7.8 M MACs   60.00 %  nasbench201:{SKIP}" in capsys.readouterr().out
    (best,) = json.loads((tmp_path / "found.json").read_text())["best"]
    assert best["architecture"] == SKIP and best["milliseconds"] > 0
