"""`loopmorph study`: what it lists, the schedule that it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from search_fakes import GROUP, LOOPS
from study_files import FAILED, GROUPED, REFUSED, WHOLE, opened, times

from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.search.identity import Identity
from loopmorph.pipelines.search.study import NETWORK, Record, ranked
from loopmorph.pipelines.search.study_store import StudyStore
from loopmorph.tools.cli import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.log"
    with closing(opened(path)) as study:
        for record in (GROUPED, REFUSED, WHOLE):
            study.put(record)
    return path


def test_the_best_come_first() -> None:
    slow = Record(NETWORK, (LOOPS,), "accepted", "", times(10.0, 9.0))
    assert ranked([REFUSED, GROUPED, slow, WHOLE, FAILED]) == [WHOLE, slow, GROUPED, REFUSED, FAILED]


def test_show_lists_the_trials(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "show", str(file), "--limit", "2"]) == 0
    shown = capsys.readouterr().out
    assert "study 'net': 3 trials: accepted 2, fisher 1" in shown and "data digits, seed 0" in shown
    assert shown.index("network") < shown.index("candidate") and "10.000 -> 4.000" in shown
    assert "fisher" not in shown.split("transformations")[1] and "1 more: --limit N" in shown


def test_best_prints_a_schedule(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "best", str(file)]) == 0
    printed = capsys.readouterr()
    assert '"morph.group"(%module) {layer = "conv2"' in printed.out and "split" not in printed.out
    assert "network: score 0.6, kl 0.25, ms_before 10, ms_after 4" in printed.err
    assert main(["study", "best", str(file), "-o", str(tmp_path / "s.mlir")]) == 0
    assert (tmp_path / "s.mlir").read_text().strip() == printed.out.strip()


def test_export_writes_csv_and_json_lines(file: Path, tmp_path: Path) -> None:
    for name in ("all.csv", "all.jsonl"):
        assert main(["study", "export", str(file), "-o", str(tmp_path / name)]) == 0
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert lines[0] == "study,kind,steps,outcome,reason,score,ms_before,ms_after,kl" and len(lines) == 4
    assert lines[3] == f'net,network,"{GROUP}",accepted,,0.6,10.0,4.0,0.25'
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [Record.from_json(row) for row in rows] == [GROUPED, REFUSED, WHOLE]


def test_what_the_commands_refuse(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(opened(file, Identity("second", {"seed": "1"}, named=True))) as study:
        study.put(REFUSED)
        known = {"kl": 0.25}  # of a network that may be neither fast nor legal
        StudyStore(study).put("loss 1", parse_steps(GROUP), known)
    attempts = {
        "best " + str(file): "argument 'study_name': expected one of 'net', 'second', the studies of",
        f"best {file} --study-name second": "study.log: no trial was accepted so far",
        f"show {file} --study-name third": "has no study 'third'; expected 'net', 'second'",
        f"show {tmp_path / 'none.log'}": "none.log: there is no such file",
        f"export {file} -o {tmp_path / 'all.txt'}": "'out': expected a name that ends in .csv, .jsonl, .json",
        f"export {file} -o {tmp_path / 'no' / 'all.csv'}": "'out': cannot write",
    }
    for words, message in attempts.items():
        assert main(["study", *words.split()]) == 1
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1
