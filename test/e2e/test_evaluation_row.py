"""`evaluation row`: a row of a study made again by the study's own commands, on digits."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from factories import digits

from loopmorph.pipelines.data.digits import DIGITS
from loopmorph.pipelines.evaluation.study import MeasuredNetwork, Provenance, Recipe, Run, Study
from loopmorph.pipelines.evaluation.study_file import write_study
from loopmorph.pipelines.zoo import ZOO, ZooEntry
from loopmorph.tools.cli import main

HOW = "--data DATA --batch-size 64 --no-flip --device cpu"
STUDY = Study(
    "networks",
    Provenance(
        "digits", "digits", threads=1, commands=(f"loopmorph train digits {HOW} --epochs 3 -o WEIGHTS.pt  # 3 epochs",)
    ),
    {
        "teacher": Recipe(
            "teacher", 1, f"loopmorph finetune model.pt {HOW} --teacher WEIGHTS.pt --seed SEED --epochs 1 -o tuned.pt"
        ),
        "several": Recipe(
            "several",
            1,
            f"loopmorph finetune model.pt {HOW} --teacher WEIGHTS.pt --teacher B.pt --epochs 1 -o tuned.pt",
        ),
        "lost": Recipe("lost", 1, ""),
        "other": Recipe("other", 1, "python train.py"),
        "unwritten": Recipe("unwritten", 1, "loopmorph finetune model.pt --data DATA"),
        "torn": Recipe("torn", 1, "loopmorph finetune 'model.pt -o tuned.pt"),
        "unseeded": Recipe("unseeded", 1, f"loopmorph finetune model.pt {HOW} --teacher none --epochs 1 -o own.pt"),
    },
    MeasuredNetwork("original", "original", before=95.0),
    (
        MeasuredNetwork("2x joint", "joint", speedup=1.5, kl=0.5, repair_images=96, runs=(Run("teacher", 0, 81.25),)),
        MeasuredNetwork("cell", "nas", speedup=3.0),
    ),
)

pytestmark = pytest.mark.usefixtures("in_unit")


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ZOO, "digits", ZooEntry(digits, (1, 8, 8), 10))


def stored(folder: Path, study: Study = STUDY) -> Path:
    """The study as `evaluation add` keeps it."""
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "s.json").write_text('{"2x joint": "morph-bottleneck{layer=0 iter=co factor=4}"}')
    write_study(study, folder / "s.json")
    return folder / "s.json"


def test_a_row_is_made_from_the_images_alone_and_what_is_there_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, out = ["evaluation", "row", str(stored(tmp_path)), "2x joint", "--data", str(DIGITS)], tmp_path / "out"
    assert main([*row, "-o", str(out), "--rounds", "1", "--device", "cpu"]) == 0
    output = capsys.readouterr().out
    assert (
        f"loopmorph train digits --data {DIGITS} --batch-size 64 --no-flip --device cpu --epochs 3 -o {out}" in output
    )
    table = dict(line.strip("| ").split(" | ", 1) for line in output.splitlines() if line.startswith("|"))
    assert table["2x joint"] == "stored | now"
    assert table["times as fast as the original"].startswith("1.50 | ")
    assert table["joint KL after repair"].startswith("0.500 | ")
    told = json.loads((out / "tuned.json").read_text())
    assert table["accuracy after training (teacher), %"] == f"81.25 | {told['after']['percent']:.2f}"
    assert told["after"]["percent"] > 60
    made = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert {"WEIGHTS.pt", "model.pt", "tuned.pt", "measured.json", "row.json"} <= made.keys()
    assert main([*row, "-o", str(out), "--rounds", "1", "--device", "cpu"]) == 0
    again = capsys.readouterr().out
    assert again == output[output.index("| 2x joint") :]
    assert all((out / name).stat().st_mtime_ns == made[name] for name in made.keys() - {"row.json"})


def test_the_seed_is_the_one_asked_for_and_weights_may_come_from_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    row = ["evaluation", "row", str(stored(tmp_path)), "2x joint", "--data", str(DIGITS), "-o", str(out)]
    row += ["--rounds", "1", "--recipe", "unseeded", "--seed", "7"]
    assert main(row) == 0
    assert json.loads((out / "own.json").read_text())["settings"]["seed"] == 7
    assert json.loads((out / "row.json").read_text())["runs"][0]["seed"] == 7
    (out / "own.json").unlink()
    capsys.readouterr()
    assert main(row) == 0
    assert "| accuracy after training (unseeded), % | - | - |" in capsys.readouterr().out
    assert json.loads((out / "row.json").read_text())["runs"] == []
    (out / "measured.json").write_text("{")
    assert main(row) == 1
    assert re.search(r"measured\.json: is no JSON", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("study", "name", "recipe", "message"),
    [
        (STUDY, "3x joint", "teacher", r"'name': \S+s\.json: it has no such row; there are '2x joint'$"),
        (STUDY, "cell", "teacher", r"'name': \S+s\.json: no pipeline of this row is kept; there are '2x joint'$"),
        (STUDY, "2x joint", "labels", "'recipe': the study has no command for 'labels'; there are teacher, several"),
        (STUDY, "2x joint", "lost", "'recipe': the study has no command for 'lost'; there are teacher, several"),
        (STUDY, "2x joint", "other", r"'recipe': it is done by 'python train\.py'; loopmorph train or finetune is exp"),
        (STUDY, "2x joint", "unwritten", r"'recipe': .* --data DATA'; .* is expected, with -o FILE$"),
        (STUDY, "2x joint", "torn", r"'recipe': .* 'model\.pt -o tuned\.pt'; .* is expected, with -o FILE$"),
        (STUDY, "2x joint", "several", r"'out': no command of the study makes B\.pt; put the weights there: \S+B\.pt$"),
        (
            replace(STUDY, provenance=replace(STUDY.provenance, model="factories:digits")),
            "2x joint",
            "none",
            "'study': .* is of 'factories:digits'; a network of the zoo is expected",
        ),
        (
            replace(STUDY, provenance=replace(STUDY.provenance, model="resnet18")),
            "2x joint",
            "none",
            "'study': 'loopmorph train digits .*' trains another network than its 'resnet18'",
        ),
    ],
)
def test_rows_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], study: Study, name: str, recipe: str, message: str
) -> None:
    path, out = stored(tmp_path, study), tmp_path / "out"
    assert main(["evaluation", "row", str(path), name, "--data", str(DIGITS), "-o", str(out), "--recipe", recipe]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error.rstrip("\n"))
    assert not out.exists()
