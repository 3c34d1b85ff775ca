"""`optimize` for a speed-up: from the table of a trained network to results that were judged, timed and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from patterns import save_patterns

import loopmorph as lm
from loopmorph.pipelines.search.optuna_study import read_studies
from loopmorph.pipelines.search.study import NETWORK
from loopmorph.pipelines.search.variants.table import Variant, VariantTable, read_table
from loopmorph.tools.cli import main

SPEEDUPS = ("1.04", "1.1")

pytestmark = pytest.mark.usefixtures("own_cache", "in_unit", "page_without_times")


def test_two_speed_ups_from_the_command_to_their_files(tmp_path: Path) -> None:
    """One command, since it takes long: each result keeps its speed-up, the study has its trials, and it loads."""
    save_patterns(tmp_path / "patterns.npz", 240, seed=2)
    arguments = ["optimize", "factories:trained", "--data", str(tmp_path / "patterns.npz"), "--variants", "2"]
    arguments += ["--seconds", "0.001", "--held-out", "70", "--repair-images", "96", "--out", str(tmp_path / "out")]
    arguments += [text for each in SPEEDUPS for text in ("--target-speedup", each)]
    arguments += ["--study", str(tmp_path / "study.log")]
    assert main(arguments) == 0
    for speedup in SPEEDUPS:
        _keeps_its_speed_up_and_is_no_worse_than_the_baselines(tmp_path / "out", speedup)
    _the_table_is_written_once(tmp_path / "out")
    _the_study_has_what_was_measured(tmp_path)
    _is_loaded_again(tmp_path / "out" / f"{SPEEDUPS[0]}x")


def _keeps_its_speed_up_and_is_no_worse_than_the_baselines(told: Path, speedup: str) -> None:
    report = json.loads((told / f"{speedup}x" / "report.json").read_text())
    joint = report["joint"]
    chosen, limit = joint["chosen"], joint["limit_ms"]
    assert report["legality"] == "repair" and report["legality_reason"].startswith("a choice over all layers")
    assert joint["reached"] and joint["additive_gap"] == 0 and joint["target_speedup"] == float(speedup)
    assert limit == pytest.approx(joint["original_ms"] / float(speedup)) and chosen["milliseconds"] <= limit
    assert report["speedup"] == pytest.approx(joint["original_ms"] / chosen["milliseconds"])  # one pair of times
    assert report["kl"] == pytest.approx(chosen["kl"], rel=1e-3)
    assert {"greedy", "random 1"} < set(joint["baselines"])
    for each in joint["baselines"].values():
        assert each["whole"] and (each["kl"] >= chosen["kl"] or each["milliseconds"] > limit)


def _the_table_is_written_once(told: Path) -> None:
    assert sorted(path.name for path in told.iterdir()) == [*(f"{each}x" for each in SPEEDUPS), "variants.json"]
    table = read_table(told / "variants.json")
    for speedup in SPEEDUPS:
        report = json.loads((told / f"{speedup}x" / "report.json").read_text())
        joint = report["joint"]
        assert (len(table.variants), table.original.milliseconds) == (joint["variants"], joint["original_ms"])
        saved = sum(each.change.milliseconds for each in _made_of(table, joint["chosen"]))
        assert joint["chosen"]["predicted_ms"] == pytest.approx(table.original.milliseconds + saved)
        assert report["tuning"] is None


def _made_of(table: VariantTable, chosen: dict[str, list[str]]) -> list[Variant]:
    """The variants in a choice: one whose steps are the first ones of another's for the same layers is not meant."""
    steps = {*chosen["transforms"], *chosen["dropped"]}
    fitting = [each for each in table.variants if steps.issuperset(each.steps)]
    return [
        one
        for one in fitting
        if not any(one.layers & each.layers and len(each.steps) > len(one.steps) for each in fitting)
    ]


def _the_study_has_what_was_measured(folder: Path) -> None:
    (study,) = read_studies(folder / "study.log")
    of_kind = {kind: [each for each in study.records if each.kind == kind] for kind in (NETWORK, "loss 1", "time")}
    for speedup in SPEEDUPS:
        report = json.loads((folder / "out" / f"{speedup}x" / "report.json").read_text())
        chosen = tuple(report["joint"]["chosen"]["transforms"])
        (loss,) = [each.numbers for each in of_kind["loss 1"] if each.steps == chosen]
        assert loss["kl"] == report["joint"]["chosen"]["kl"]
        assert any(each.steps == chosen and each.numbers["share"] < 1 for each in of_kind["time"])
        assert report["optimized_ms"] in [each.numbers["ms_after"] for each in of_kind[NETWORK]]


def _is_loaded_again(folder: Path) -> None:
    schedule = (folder / "schedule.mlir").read_text()
    transforms = json.loads((folder / "report.json").read_text())["joint"]["chosen"]["transforms"]
    assert schedule.count('morph.kind = "neural"') == len(transforms) > 0
    assert lm.load_model(folder / "model.pt", original="factories:trained") is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target-speedup", "1"], "'target_speedup': expected a finite number above 1, got 1.0"),
        (["--target-speedup", "nan"], "'target_speedup': expected a finite number above 1, got nan"),
        (["--target-speedup", "2", "--target-speedup", "2"], "'target_speedup': 2 is given twice"),
        (["--target-speedup", "2", "--target-ms", "3"], "'target_ms': expected no speed-up beside it"),
        (["--target-ms", "0"], "'target_ms': expected a positive number of milliseconds, got 0.0"),
        (["--seconds", "0"], "'seconds': expected a positive number of seconds, got 0.0"),
        (
            ["--max-parameters", "5"],
            "'max_parameters': it limits a joint choice: expected a target",
        ),
        (["--no-baselines"], "'baselines': a joint choice has them: expected a target or seconds beside it"),
        (
            ["--target-ms", "1", "--legality", "fisher"],
            "'legality': a joint choice is judged by 'repair', got",
        ),
        (["--target-ms", "1"], "'data': none was given (--data PATH)"),
    ],
)
def test_wrong_options_are_told_in_a_line(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", "factories:residual", *arguments]) != 0
    told = capfd.readouterr().err
    assert message in " ".join(told.split()) and "Traceback" not in told
