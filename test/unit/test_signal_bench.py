"""`loopmorph legality-bench`: rows that can be taken up again, ranks, cells of a file, and the command."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.bench.nasbench201 import NASBench201Bench, load_cells
from loopmorph.pipelines.bench.rank_table import rank_table
from loopmorph.pipelines.bench.signal_bench import TrainedNetwork, measure_signals
from loopmorph.pipelines.bench.signal_rows import RowFile, SignalRow
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.legality.signals import SIGNALS, TRAINED_SIGNALS
from loopmorph.tools.cli import main

CELLS = """arch,cifar10_test_acc_200ep
|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|,80.5
|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,10.0
|none~0|+|none~0|none~1|+|nor_conv_1x1~0|nor_conv_1x1~1|none~2|,82.25
|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|,60.0
"""
SETTING = {"benchmark": "a test", "seed": 0}


def row(name: str, accuracy: float = 50.0, **values: float) -> SignalRow:
    return SignalRow(name, accuracy, {signal: Score(value) for signal, value in values.items()})


class Recorded:
    """Networks that say which signals were asked of them."""

    def __init__(self, *names: str) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.networks = [TrainedNetwork(name, 50.0, self._measure(name)) for name in names]

    def _measure(self, name: str) -> Any:
        def measure(signals: Sequence[str]) -> dict[str, Score]:
            self.asked.append((name, tuple(signals)))
            return {signal: Score(len(signal), 0.5, "a doubt") for signal in signals}

        return measure


# --- rows in a file ---


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    written = SignalRow("a", 91.5, {"x": Score(1e300, 0.25, "why"), "y": Score(0.1)})
    RowFile(path, SETTING).put(written)
    assert RowFile(path, SETTING).rows == {"a": written}


def test_values_that_are_not_finite_are_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    RowFile(path, SETTING).put(row("a", x=math.nan, y=-math.inf, z=math.inf))
    line = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [score["value"] for score in line["scores"].values()] == [None] * 3
    assert all(math.isnan(score.value) for score in RowFile(path, SETTING).rows["a"].scores.values())


def test_the_last_row_of_a_network_holds(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = RowFile(path, SETTING)
    for written in (row("a", x=1), row("b", x=2), row("a", x=3)):
        file.put(written)
    assert RowFile(path, SETTING).rows == {"a": row("a", x=3), "b": row("b", x=2)}


def test_a_line_that_was_cut_off_is_dropped_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = RowFile(path, SETTING)
    file.put(row("a", x=1))
    whole = path.read_bytes()
    file.put(row("b", x=2))
    both = path.read_bytes()
    for end in range(len(whole), len(both)):
        path.write_bytes(both[:end])
        assert RowFile(path, SETTING).rows == {"a": row("a", x=1)}
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a letter to my aunt", "its last line is not a row of signals; name another file"),
        ("a letter\nto my aunt\n", "line 1: is not a row of signals; name another file"),
        ('a letter\n{"network": "cut o', "line 1: is not a row of signals; name another file"),
        ('{"network": "a", "accuracy": 1, "scores": {}}\n', "line 1: is not a row of signals"),
        ('{"network": "a", "accuracy": 1, "scores": {"x": 3}, "setting": {}}\n', "line 1: is not a row"),
        ('{"network": "a", "accuracy": "much", "scores": {}, "setting": {}}\n', "line 1: is not a row"),
        ("[" * 100_000 + "\n", "line 1: is not a row"),
        ("[1, 2]\n", "line 1: is not a row"),
    ],
)
def test_somebody_elses_file_stays(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=f"rows.jsonl.*{reason}"):
        RowFile(path, SETTING)
    assert path.read_text() == content


def test_rows_of_another_setting_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    RowFile(path, SETTING).put(row("a", x=1))
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=r"'out': .*line 1: was measured with .*'seed': 0.*, not .*'seed': 1"):
        RowFile(path, {**SETTING, "seed": 1})
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"'out': cannot use '.*': Is a directory"):
        RowFile(tmp_path, SETTING)


# --- measuring ---


def test_what_is_there_is_not_measured_again(tmp_path: Path) -> None:
    path, networks = tmp_path / "rows.jsonl", Recorded("a", "b")
    measure_signals(networks.networks[:1], ["x"], RowFile(path, SETTING))
    found = measure_signals(networks.networks, ["x", "yy"], RowFile(path, SETTING))
    assert networks.asked == [("a", ("x", "macs")), ("a", ("yy",)), ("b", ("x", "yy", "macs"))]
    scores = {name: Score(len(name), 0.5, "a doubt") for name in ("x", "macs", "yy")}
    assert found.rows == (SignalRow("a", 50.0, scores), SignalRow("b", 50.0, scores))
    assert not found.interrupted and not found.failed


def test_the_accuracy_is_that_of_the_network(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl", SETTING)
    file.put(row("a", 12.5, x=1, macs=2))
    assert measure_signals(Recorded("a").networks, ["x"], file).rows == (row("a", 50.0, x=1, macs=2),)


def test_a_network_that_fails_costs_itself_alone() -> None:
    def fail(_: Sequence[str]) -> dict[str, Score]:
        raise ArgumentError("model", "it has no weights")

    networks = [TrainedNetwork("a", 50.0, fail), *Recorded("b").networks]
    found = measure_signals(networks, ["x"], RowFile(None, SETTING))
    assert [each.network for each in found.rows] == ["b"]
    assert found.failed == {"a": "argument 'model': it has no weights"}


def test_an_interrupt_keeps_what_was_found(tmp_path: Path) -> None:
    path, networks = tmp_path / "rows.jsonl", Recorded("a", "b", "c")

    def interrupt(stage: str, done: int, of: int) -> None:
        assert (stage, of) == ("signals", 3)
        if done == 2:
            raise KeyboardInterrupt

    found = measure_signals(networks.networks, ["x"], RowFile(path, SETTING), interrupt)
    assert found.interrupted and [each.network for each in found.rows] == ["a", "b"]
    assert list(RowFile(path, SETTING).rows) == ["a", "b"]


# --- ranks ---


def test_ranks_over_all_and_within_classes() -> None:
    rows = [row(f"a{k}", 10 + k, macs=1, up=k, down=-k, flat=7) for k in range(4)]
    rows += [row(f"b{k}", 50 + k, macs=2, up=100 - k, down=-100 - k, flat=7) for k in range(3)]
    rows += [row(f"c{k}", 90 + k, macs=3, up=200 + k, down=-200, flat=7) for k in range(2)]  # too few for a class
    rows += [row(f"d{k}", 95, macs=4, up=300 + k, down=-300, flat=7) for k in range(5)]  # nothing to tell apart
    rows.append(row("lacks a signal", 99, macs=1, up=1, down=1))
    table = rank_table(rows, ["up", "down", "flat"])
    assert (table.networks, table.classes, table.in_classes) == (14, 2, 7)
    up, down, flat = table.ranks
    assert up.within == pytest.approx((4 * 1 + 3 * -1) / 7)
    assert down.within == pytest.approx((4 * -1 + 3 * -1) / 7)
    assert math.isnan(flat.overall) and flat.within == 0
    # `up` has the three of class b the wrong way round, and the five alike in accuracy apart.
    assert 0.9 < up.overall < 1 and up.without == 0


def test_spearman_and_its_error_by_hand() -> None:
    rows = [row(str(k), 10 * k, macs=k, x=x) for k, x in enumerate([2, 1, 4, 3, 5])]
    (rank,) = rank_table(rows, ["x"]).ranks
    assert rank.overall == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert rank.error == pytest.approx((1 - 0.8**2) * math.sqrt((1 + 0.8**2 / 2) / 2))
    assert math.isnan(rank.within)


def test_networks_without_a_value_are_the_worst() -> None:
    values = [math.nan, -math.inf, 0.0, 1.0]
    rows = [row(str(k), max(10, 10 * k), macs=1, x=x) for k, x in enumerate(values)]
    (rank,) = rank_table(rows, ["x"]).ranks
    assert (rank.overall, rank.within, rank.without) == (pytest.approx(1), pytest.approx(1), 2)


def test_a_table_of_nothing() -> None:
    table = rank_table([], ["x"])
    assert table.networks == table.classes == table.in_classes == 0
    assert math.isnan(table.ranks[0].overall) and math.isnan(table.ranks[0].within)


# --- cells ---


def cells(folder: Path, text: str = CELLS) -> Path:
    path = folder / "cells.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no column 'arch' \\(it has none\\)"),
        ("arch,accuracy\n", "has no column 'cifar10_test_acc_200ep' \\(it has arch, accuracy\\)"),
        ("arch,cifar10_test_acc_200ep\n", "holds no cell"),
        (CELLS + "conv,50\n", "line 6: 'conv' has 1 nodes"),
        (CELLS + CELLS.splitlines()[1] + "\n", "has the cell '.*nor_conv_1x1.*' twice"),
        (CELLS.replace("10.0", "ten"), "line 3: 'ten' is no accuracy"),
        (CELLS.replace(",10.0", ""), "line 3: 'None' is no accuracy"),
        (CELLS.replace("10.0", "1000"), "line 3: the accuracy is 1000.0; per cent are expected"),
        (CELLS.replace("10.0", "nan"), "line 3: the accuracy is nan"),
    ],
)
def test_files_of_cells_that_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=f"cells.csv.*{reason}"):
        load_cells(cells(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: No such file"):
        load_cells(tmp_path / "none.csv")
    (tmp_path / "cells.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cells\.csv: is not a CSV file"):
        load_cells(tmp_path / "cells.csv")


def test_more_cells_begin_with_fewer(tmp_path: Path) -> None:
    path = cells(tmp_path)
    orders = [[n.name for n in NASBench201Bench(path, None, count=c, images=2, seed=3).networks] for c in (2, 4, None)]
    assert orders[1][:2] == orders[0] and orders[2] == orders[1]
    assert sorted(orders[1]) == sorted(name for name, _ in load_cells(path))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"count": 5}, "cells.csv: holds 4 cells, fewer than the 5 asked for"),
        ({"count": 0}, "'count': expected an integer of at least 1, got 0"),
        ({"images": 1}, "'images': one image was asked for; at least 2 are needed"),
        ({"images": -2}, "'images': expected an integer of at least 1, got -2"),
        ({"seed": 1 << 70}, "'seed': expected an integer from"),
    ],
)
def test_numbers_out_of_range(tmp_path: Path, options: dict[str, int], reason: str) -> None:
    with pytest.raises((ArgumentError, DataError), match=reason):
        NASBench201Bench(cells(tmp_path), None, **options)


# --- the command ---


def command(folder: Path, *more: str) -> list[str]:
    given = ["--csv", str(cells(folder)), "--images", "2", "--out", str(folder / "rows.jsonl")]
    return ["legality-bench", "nasbench201", *given, *more]


def test_a_run_that_was_killed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert main(command(whole, "--signals", "synflow,params")) == 0
    printed = capsys.readouterr().out
    assert main(command(broken, "--count", "2", "--signals", "synflow")) == 0
    capsys.readouterr()
    file = broken / "rows.jsonl"
    file.write_bytes(file.read_bytes()[:-100])
    assert main(command(broken, "--signals", "synflow,params")) == 0
    assert capsys.readouterr().out == printed.replace(str(whole), str(broken))

    def scores(folder: Path) -> dict[str, SignalRow]:
        lines = map(json.loads, (folder / "rows.jsonl").read_text().splitlines())
        return {line["network"]: line["scores"] for line in lines}

    assert scores(broken) == scores(whole)


def test_the_table_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path, "--signals", "naswot,params")) == 0
    out = capsys.readouterr().out
    assert "NAS-Bench-201: synthetic: no --data was given; seed 0. Spearman's rank correlation" in out
    assert "\n4 all cells; 0 of them in 0 classes of equal MACs\n" in out
    assert "\n3 cells without idle operations, as published; 0 of them in 0 classes" in out
    rows = re.findall(r"^ (naswot|params) +(\S.*?) *$", out, re.MULTILINE)
    assert [name for name, _ in rows] == ["naswot", "params"] * 2
    # The cell of nothing has no value; published are 0.79 over all and 0.24 at equal FLOPs.
    assert rows[2][1].split()[-3:] == ["0.79", "0.24", "1"]
    # Parameters rank the cells but for a tie: none and skip_connect have as many.
    assert rows[1][1].split()[0] == "0.95"


def test_signals_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["legality-bench", "signals"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [*SIGNALS, *TRAINED_SIGNALS]
    assert (
        "naswot: log-determinant of the kernel of ReLU codes (Mellor et al., ICML 2021). Cost: one forward" in lines[3]
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--signals", "fischer"], "'signals': 'fischer' is not known; did you mean 'fisher'"),
        (["--count", "9"], "holds 4 cells, fewer than the 9 asked for"),
        (["--data", "nowhere"], "nowhere: there is no such file or folder"),
        (["--out", "nowhere/rows.jsonl"], "'out': cannot write 'nowhere/rows.jsonl': there is no folder 'nowhere'"),
    ],
)
def test_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], reason: str) -> None:
    assert main(command(tmp_path, *more)) == 1
    assert re.search(f"^error: .*{re.escape(reason)}", capsys.readouterr().err, re.MULTILINE)
    assert not (tmp_path / "rows.jsonl").exists()
