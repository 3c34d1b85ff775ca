"""`loopmorph bench-compare`: what two runs of a suite say of a change, and what does not compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from suite_rows import SETTING, measured, row, suite, without_ours

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.result import Missing
from loopmorph.pipelines.bench.suite_compare import compare_suites, mean_changes
from loopmorph.tools.cli import main

REFUSED = without_ours(Missing("loopmorph", "no dilation", "refused"))
LATER = dataclasses.replace(SETTING, sources="s2")
BEFORE = suite(
    row("resnet18", measured(1.0, build=8.0)),
    row("dla34", 2.0),
    row("dpn48b", REFUSED),
    row("resnet34", 1.0),
    row("resnet18", 1.5, threads=2),
)
AFTER = suite(
    row("resnet18", measured(2.0, build=4.0)),
    row("dla34", 1.0),
    row("dpn48b", 3.0),
    row("vgg11_bn", 1.0),
    row("resnet18", 1.5, threads=2),
    setting=LATER,
)


def test_changes_are_of_the_ratio() -> None:
    found = compare_suites(BEFORE, AFTER)
    changes = {(each.after.network, each.after.threads): (each.ratio, each.build) for each in found.changes}
    assert changes == {("resnet18", 1): (2.0, 2.0), ("dla34", 1): (0.5, 1.0), ("resnet18", 2): (1.0, 1.0)}
    assert [(old.outcome, new.outcome) for old, new in found.others] == [("refused", "timed")]
    assert found.alone == (1, 1) and found.notes == ()


def test_means_are_geometric_and_by_batch_and_threads() -> None:
    one, two = mean_changes(compare_suites(BEFORE, AFTER).changes)
    assert (one.batch, one.threads, one.count, two.threads, two.count) == (1, 1, 2, 2, 1)
    assert (one.before, one.after, one.ratio) == pytest.approx((2**0.5, 2**0.5, 1.0))
    assert one.build == pytest.approx(2**0.5)
    assert (two.before, two.after, two.ratio) == pytest.approx((1.5, 1.5, 1.0))


def test_runs_that_differ_in_more_than_the_code_say_so() -> None:
    other = dataclasses.replace(SETTING, versions={"torch": "2.13", "openvino": "2", "timm": "1"}, rounds=3, tune=60.0)
    assert compare_suites(BEFORE, dataclasses.replace(AFTER, setting=other)).notes == (
        "openvino: 1 before, 2 after",
        "timm: none before, 1 after",
        "rounds: 10 before, 3 after",
        "tune: None before, 60.0 after",
        "loopmorph's sources are the same in both",
    )


def test_other_processors_are_refused() -> None:
    other = dataclasses.replace(AFTER, setting=dataclasses.replace(SETTING, processor="another"))
    with pytest.raises(
        ArgumentError, match="times of different processors do not compare: 'another' here, 'a processor' before"
    ):
        compare_suites(BEFORE, other)


def test_other_suites_and_other_rows_are_refused() -> None:
    with pytest.raises(ArgumentError, match="it is of the suite 'timm', and the other one of 'older'"):
        compare_suites(dataclasses.replace(BEFORE, suite="older"), AFTER)
    with pytest.raises(ArgumentError, match="the two have no row in common: other networks, batches or threads"):
        compare_suites(BEFORE, suite(row("resnet18", 1.0, batch=8)))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name, result in (("before.json", BEFORE), ("after.json", AFTER)):
        Path(name).write_text(result.to_json())
    return ["before.json", "after.json"]


def test_the_command_prints_both(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench-compare", *files]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    worst = ["dla34", "1x1", "2.00", "1.00", "0.50", "5.00", "10.00", "4.0", "4.0"]
    best = ["resnet18", "1x1", "1.00", "2.00", "2.00", "10.00", "5.00", "8.0", "4.0"]
    assert lines.index(worst) < lines.index(best)
    assert "batch 1, 1 thread: geometric mean of 2: 1.41 -> 1.41, change 1.000; builds 1.41\n" in out
    assert "dpn48b, batch 1, 1 thread: refused before, 3.00 after: no dilation\n" in out
    assert out.endswith("1 row only before\n1 row only after\n")
    assert "…" not in out


def test_the_command_refuses_in_one_line(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.json").write_text('{"model": "resnet18"}')
    assert main(["bench-compare", files[0], "other.json"]) == 1
    told = "other.json: is not what `loopmorph bench --suite timm --json` has written"
    assert capsys.readouterr().err == f"error: {told}\n"
