"""Studies in files, what is made of them, and what other commands wrote as parts of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.bench.operators_result import LayerOperators, OperatorRow, OperatorsResult, PaperRow
from loopmorph.pipelines.bench.precision import PrecisionResult, PrecisionRow
from loopmorph.pipelines.bench.result import BenchResult, Row, ThreadResult
from loopmorph.pipelines.bench.rewritten import RewrittenResult, RewrittenRow, read_pipelines
from loopmorph.pipelines.evaluation.networks import fastest_within
from loopmorph.pipelines.evaluation.page import make_page
from loopmorph.pipelines.evaluation.study import MeasuredNetwork, Provenance, Recipe, Run, Study
from loopmorph.pipelines.evaluation.study_file import read_studies, read_study, study_content, write_study
from loopmorph.pipelines.search.joint.choice_report import JointReport, TrialReport
from loopmorph.pipelines.search.report import NOT_MEASURED, RepairReport, Report
from loopmorph.tools.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEACHER = Recipe("teacher", 8, "loopmorph finetune model.pt")


def runs(*accuracies: float, recipe: str = "teacher") -> tuple[Run, ...]:
    return tuple(Run(recipe, seed, accuracy) for seed, accuracy in enumerate(accuracies))


def network(name: str, choice: str, speedup: float, *accuracies: float, **more: Any) -> MeasuredNetwork:
    return MeasuredNetwork(name, choice, target=2.0, speedup=speedup, runs=runs(*accuracies), **more)


UNSTABLE = Run("teacher", 2, 50.0, "the training was unstable")
ORIGINAL = MeasuredNetwork(
    "original", "original", ms=10.0, macs=4_000_000, before=92.0, runs=(*runs(91.9, 92.1), UNSTABLE)
)
STUDY = Study(
    "networks",
    Provenance(
        "resnet34", "CIFAR-10", "zen4", 1, "a GPU", {"torch": "2.11"}, "abc", ("loopmorph optimize",), ("a note",)
    ),
    {"teacher": TEACHER},
    ORIGINAL,
    (
        network("2x joint", "joint", 2.01, 91.4, 91.6, ms=5.0, predicted_ms=4.9, macs=2_000_000, kl=0.1, before=90.0),
        network("2x greedy", "greedy", 2.11, 91.9, macs=2_000_000, kl=0.3),
        network("2x random", "random", 2.5, 90.0),
        network("3x random", "random", 3.5),
    ),
)


def write(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda content: None) -> Path:
    """The study in a file, changed."""
    content = study_content(STUDY)
    change(content)
    path = folder / "net.json"
    path.write_text(json.dumps(content))
    return path


def test_a_study_comes_back_from_its_file(tmp_path: Path) -> None:
    write_study(STUDY, tmp_path / "net.json")
    assert read_study(tmp_path / "net.json") == STUDY
    assert read_studies(tmp_path) == {"net": STUDY}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), r"net\.json: is no study \(format 'loopmorph-evaluation' is expected\)"),
        (lambda c: c.update(version=2), r"net\.json: field 'version' is 2; 1 is expected"),
        (
            lambda c: c.update(section="fig5"),
            "field 'section' is 'fig5'; one of engines, imagenet, networks, operators",
        ),
        (lambda c: c.pop("gpu"), r"net\.json: field 'gpu' is missing"),
        (lambda c: c.update(card="x"), r"net\.json: field 'card' is not known; there are commands, commit, data"),
        (lambda c: c.update(threads=0), "field 'threads' is 0; a whole number from 1 to"),
        (lambda c: c.update(versions={"torch": 2.1}), "field 'versions' is .*; a dictionary of texts is expected"),
        (lambda c: c.update(original=None), "'original' is None; a network, in the section 'networks', is expected"),
        (
            lambda c: c.update(section="engines"),
            "field 'result' is None; what the command wrote, in the section 'engines',",
        ),
        (
            lambda c: c["networks"][1].update(chosen_by="luck"),
            r"networks\[1\]: field 'chosen_by' is 'luck'; one of blocks",
        ),
        (lambda c: c["networks"][1].update(kl="a"), r"net\.json: networks\[1\]: field 'kl' is 'a'; a finite number is"),
        (
            lambda c: c["networks"][0].update(speedup=0),
            r"networks\[0\]: field 'speedup' is 0; a number above 0 is expected",
        ),
        (
            lambda c: c["networks"][0].update(before=101),
            r"networks\[0\]: field 'before' is 101; a number from 0 to 100",
        ),
        (
            lambda c: c["networks"][0].update(ms=10**400),
            r"networks\[0\]: field 'ms' is 1000.*; a finite number is expected",
        ),
        (lambda c: c["networks"][0].update(macs=1.5), r"networks\[0\]: field 'macs' is 1\.5; a whole number from 1 to"),
        (lambda c: c["networks"][0].pop("name"), r"networks\[0\]: field 'name' is missing"),
        (lambda c: c["networks"][1].update(name="2x joint"), r"networks\[1\]: there is a network '2x joint' already"),
        (
            lambda c: c["networks"][0]["runs"][1].update(recipe="none"),
            r"networks\[0\]: runs\[1\]: field 'recipe' is 'none'; one of teacher is expected",
        ),
        (lambda c: c["recipes"]["teacher"].update(epochs="8"), r"recipes\['teacher'\]: field 'epochs' is '8'; a whole"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_study(write(tmp_path, change))


def test_what_is_no_file_of_json_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"there is no study in it; a folder with files NAME\.json is expected"):
        read_studies(tmp_path)
    (tmp_path / "net.json").write_text("{")
    assert main(["evaluation", "page", str(tmp_path), "-o", str(tmp_path / "page.md")]) == 1
    assert re.match(r"error: .*net\.json: is no JSON: Expecting", capsys.readouterr().err)
    assert not (tmp_path / "page.md").exists()


def test_losses_leave_out_what_does_not_count() -> None:
    assert STUDY.reference("teacher") == 92.0 and STUDY.deviation("teacher") == pytest.approx(0.02**0.5)
    joint, greedy, random, untrained = STUDY.networks
    assert STUDY.lost(joint, "teacher") == pytest.approx(0.5) and STUDY.lost(untrained, "teacher") is None
    assert fastest_within(STUDY, "teacher", "random") is None  # 2 points lost, and one that was not trained
    assert fastest_within(STUDY, "teacher", "random", 2.0) == random
    assert fastest_within(STUDY, "teacher", "greedy") == greedy


def test_the_page_says_what_was_measured_and_what_was_not() -> None:
    page, pictures = make_page({"net": STUDY})
    assert "| net | 2.07 | 3.26 | 2.01 (0.50 lost) | 2.11 (0.10 lost) |" in page and "untuned TVM" in page
    assert "- net: the fastest within 1 point is greedy, 2.11 times; joint choice 2.01." in page
    row = "| 2 | joint choice | 2.01 | 5.00 | 4.90 | 2 | - | 0.100 | - | 90.00 | 91.40, 91.60 |"
    assert row in page and "| 91.90, 92.10, (50.00) |" in page
    assert "- The original, teacher, seed 2: 50.00 % is left out of means: the training was unstable." in page
    assert (
        "- 2x joint (2.01 times as fast) loses 0.50 points: it is 0.40 points worse than greedy (2.11 times as fast); "
        "1.50 points better than random (2.50 times as fast)." in page
    )
    assert "than 2x greedy (2.11 times, 91.90 %) and 2x random (2.50 times, 90.00 %)." in page
    assert "Fisher at initialisation at 2x, 3x, 4x and 6x; random at 3x, 4x and 6x; traditional NAS at" in page
    assert (
        "data CIFAR-10; times on zen4, 1 thread; repaired and trained on a GPU; versions torch 2.11; commit abc."
        in page
    )
    assert page.count("**Not measured yet**") == 9  # two networks, and all sections but this one and the calibration
    assert "| resnet34, teacher | 2 | - |" in page
    assert sorted(pictures) == ["calibration.svg", "fig4.svg", "net.svg"]
    for name, picture in pictures.items():
        assert f"](evaluation/{name})" in page and ElementTree.fromstring(picture).tag.endswith("svg")


def test_nothing_is_compared_where_nothing_was_trained() -> None:
    bare = replace(STUDY, recipes={}, original=replace(ORIGINAL, runs=()), networks=(network("a", "joint", 2.0),))
    page, pictures = make_page({"net": bare})
    assert "| 2 | joint choice | 2.00 | - |" in page and not pictures
    assert "no network with a joint KL was trained" in page


def test_networks_that_exceed_the_original_stand_above_it() -> None:
    better = tuple(network(f"{k}x joint", "joint", float(k), 92.5 + k) for k in (2, 3))
    _, pictures = make_page({"net": replace(STUDY, networks=better)})
    picture = pictures["net.svg"]
    heights = [float(y) for y in re.findall(r'<circle[^>]* cy="([^"]+)"', picture)]
    assert len(heights) == 2 and heights[1] < heights[0] < float(
        re.findall(r'y1="([^"]+)"[^>]*class="limit"', picture)[0]
    )


def test_the_committed_page_is_that_of_the_studies() -> None:
    page, pictures = make_page(read_studies(DOCS / "evaluation"))
    assert (DOCS / "evaluation.md").read_text() == page
    assert {path.name: path.read_text() for path in (DOCS / "evaluation").glob("*.svg")} == dict(pictures)


def test_each_rewritten_network_has_its_pipeline() -> None:
    others = ("nas", "pruning")  # a network of its own, and one whose channels another library has taken out
    for name, study in read_studies(DOCS / "evaluation").items():
        if study.section == "networks":
            pipelines = json.loads((DOCS / "evaluation" / "pipelines" / f"{name}.json").read_text())
            assert set(pipelines) == {network.name for network in study.networks if network.chosen_by not in others}


def trial(origin: str, **more: Any) -> TrialReport:
    fields = {"transforms": ("morph-a{layer=b}", "morph-c{layer=d}"), "dropped": (), "summed_loss": 0.1, "kl": 0.2}
    fields |= {"predicted_ms": 4.0, "whole": True, "accuracy": 80.0, "milliseconds": 5.0}
    fields |= dict.fromkeys(("predicted_loss", "predicted_loss_low", "predicted_loss_high"))
    return TrialReport(origin=origin, **{**fields, **more})


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """What `optimize` writes."""
    baselines = {"uniform group co,ci 2": trial("uniform group co,ci 2"), "random 1": trial("random 1")}
    joint = JointReport(
        2.0, 5.0, True, trial("additive"), "residual", 0.1, 0.1, 0.0, False, 9, 10.0, baselines, (trial("additive"),)
    )
    repair = RepairReport(kl=0.15, accuracy_original=92.0, accuracy_repaired=90.0)
    times = {"baseline_ms": 10.0, "optimized_ms": 4.8, "speedup": 2.08, "seconds_total": 60.0}
    text = Report("net", "digits", NOT_MEASURED, 100, 50, 30, 20, (), repair=repair, joint=joint, **times).to_json()
    (tmp_path / "report.json").write_text(text)
    return tmp_path / "report.json"


def trained(folder: Path, seed: int, right: int, rate: float = 0.1) -> str:
    settings = {"epochs": 8, "batch_size": 512, "learning_rate": rate, "seed": seed}
    content = {"data": "digits", "gpu": "a GPU", "versions": {"torch": "2.11"}, "settings": settings}
    content |= {"teacher_settings": "temperature=4.0", "after": {"right": right, "images": 1000, "percent": right / 10}}
    path = folder / f"tuned{seed}.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_reports_and_trainings_become_a_study(tmp_path: Path, report: Path) -> None:
    study, add = tmp_path / "net.json", ["evaluation", "add", str(tmp_path / "net.json")]
    tuned = [part for seed in (0, 1) for part in ("--trained", trained(tmp_path, seed, 900 + seed))]
    assert main([*add, "--report", str(report), *tuned, "--processor", "zen4", "--command", "one"]) == 0
    assert main([*add, "--report", str(report), "--processor", "zen4", "--baseline", "uniform group co,ci 2"]) == 0
    assert main([*add, "--report", str(report), "--processor", "zen4", "--baseline", "random 1"]) == 0
    assert main([*add, "--trained", trained(tmp_path, 3, 920), "--original", "--commit", "abc"]) == 0
    found = read_study(study)
    assert found.original is not None and (found.original.macs, found.original.accuracies("teacher")) == (100, [92.0])
    joint, uniform, random = found.networks
    assert (joint.name, joint.speedup, joint.predicted_ms, joint.kl, joint.before) == (
        "2x joint",
        2.08,
        4.0,
        0.15,
        90.0,
    )
    assert joint.accuracies("teacher") == [90.0, 90.1] and joint.macs == 50 and joint.parameters == 20
    assert (uniform.chosen_by, uniform.detail, uniform.speedup, uniform.kl) == ("uniform", "group co,ci 2", 2.0, 0.2)
    assert (random.name, random.chosen_by, random.detail) == ("2x random 1", "random", "")
    about = found.provenance
    assert (about.model, about.processor, about.commit, about.commands) == ("net", "zen4", "abc", ("one",))
    assert (about.gpu, about.versions) == ("a GPU", {"torch": "2.11"})
    pipelines = json.loads((tmp_path / "pipelines" / "net.json").read_text())
    assert set(pipelines) == {network.name for network in found.networks}
    assert pipelines["2x joint"] == "morph-a{layer=b},morph-c{layer=d}"


def test_what_a_study_has_is_not_changed(tmp_path: Path, report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "net.json"
    add = ["evaluation", "add", str(study), "--processor", "zen4"]
    first = trained(tmp_path, 0, 900)
    assert main([*add, "--report", str(report), "--trained", first]) == 0
    kept = study.read_bytes()
    refused = [
        (["--report", str(report)], "'name': the study has a network '2x joint' already; another is expected"),
        (["--report", str(report), "--processor", "zen5"], "processor: it has 'zen5', and the study 'zen4'"),
        (
            ["--report", str(report), "--baseline", "x"],
            "no baseline 'x'; there are 'uniform group co,ci 2', 'random 1'",
        ),
        (["--trained", first, "--name", "2x joint"], "'2x joint' has a training by 'teacher' with seed 0 already"),
        (["--trained", first], "'name': which network was trained? --name NAME or --original is expected"),
        (["--trained", first, "--name", "y"], "'name': the study has no network 'y'; there are '2x joint'"),
        (
            ["--trained", trained(tmp_path, 1, 1, 0.2), "--name", "2x joint"],
            "'recipe': 'teacher' is 'loopmorph finetune",
        ),
        (["--trained", str(report), "--name", "2x joint"], "report.json: field 'gpu' is missing"),
        (["--report", first], "tuned0.json: field 'model' is missing"),
        (["--bench", str(report)], "'study': it is there already"),
        ([], "expected --report, --bench, --operators, --precision or --rewritten, or --trained"),
    ]
    for options, message in refused:
        assert main([*add, *options]) == 1
        assert message in capsys.readouterr().err
    assert study.read_bytes() == kept


def test_the_cost_of_searches_is_kept(tmp_path: Path, report: Path) -> None:
    add = ["evaluation", "add", str(tmp_path / "search.json"), "--report", str(report), "--cores", "2"]
    assert main([*add, "--section", "search"]) == main(add) == 0
    page, _ = make_page({"search": read_study(tmp_path / "search.json")})
    assert page.count("| net, 2 times as fast | 60 | 10 | 2 |") == 2


def test_of_a_network_given_by_its_file_the_folder_is_not_told(tmp_path: Path, report: Path) -> None:
    report.write_text(json.dumps({**json.loads(report.read_text()), "model": "/home/user/net.pt"}))
    add = ["evaluation", "add", str(tmp_path / "search.json"), "--report", str(report), "--cores", "2"]
    assert main([*add, "--section", "search"]) == 0
    study = read_study(tmp_path / "search.json")
    assert (study.provenance.model, study.searches[0].what) == ("net", "net, 2 times as fast")


def test_other_results_are_shown_as_they_are(tmp_path: Path) -> None:
    rows = tuple(Row(name, ms, ms, None, 0.0, 1.0, 0.1, 1.0) for name, ms in (("loopmorph", 2.0), ("openvino", 5.0)))
    bench = BenchResult("net", 0, 1, "zen4", (ThreadResult(2, 1.0, 1.0, 1, "openvino", rows, ()),))
    timed = OperatorRow("group-2", "timed", speedup=1.5)
    layer = LayerOperators("conv", ("conv", "conv2"), {}, (1, 1), 1, 1, "direct", (timed,))
    paper = PaperRow(1, "conv2", {"group-2": 2.1}, {"group-2": 1.5})
    operators = OperatorsResult("net", "zen4", 1, "direct", (layer,), (paper,))
    for name, result in (("bench", bench), ("operators", operators)):
        (tmp_path / f"{name}-result").write_text(result.to_json())
        assert (
            main(["evaluation", "add", str(tmp_path / f"{name}.json"), f"--{name}", str(tmp_path / f"{name}-result")])
            == 0
        )
    page, _ = make_page(read_studies(tmp_path))
    assert "| 2 | loopmorph | 2.00 | 1.00 |\n| 2 | openvino | 5.00 | 2.50 |" in page
    assert "### net, no layer by Winograd" in page and "| `conv` | 1.50 (2.10) |" in page


def test_precisions_and_rewrites_become_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = PrecisionRow("loopmorph", "f32", 4.0, 1.0, 90)
    rows = ours, PrecisionRow("openvino", "int8", 2.0, 2.0, 89, "the processor has none of avx_vnni")
    precision = PrecisionResult("net", 1, "cpu", {}, "images", 100, 30, 5, 7, 10, {"openvino": "1"}, rows)
    original = RewrittenRow("original", "loopmorph", 4.0, 1.0, 0.0, 7, 5)
    peer = RewrittenRow("original", "openvino", 5.0, 0.8, 0.0, 7, 5)
    joint = RewrittenRow("3x joint by harm", "loopmorph", 1.0, 4.0, 0.0, 3, 2)
    rewritten = RewrittenResult("net", 1, "cpu", 10, {"openvino": "1"}, (original, joint, peer))
    for name, result in (("precision", precision), ("rewritten", rewritten)):
        told = tmp_path / f"{name}-result"
        told.write_text(result.to_json())
        add = ["evaluation", "add", str(tmp_path / f"{name}.json"), f"--{name}", str(told), "--processor", "zen3"]
        assert main(add) == 0
    page, _ = make_page(read_studies(tmp_path))
    assert "| - | original (int8), openvino | 2.00 | 2.00 |" in page
    assert "- Openvino int8: the processor has none of avx_vnni." in page
    assert "| 3 | joint choice (by harm) | 4.00 | 1.00 |" in page
    assert "- net: times as fast as openvino on the unmodified network: 3x joint by harm 5.00." in page
    assert page.count("times on zen3, 1 thread") == 2

    content = json.loads(rewritten.to_json())
    content["rows"][1]["name"] = "mine"
    (tmp_path / "wrong").write_text(json.dumps(content))
    assert main(["evaluation", "add", str(tmp_path / "new.json"), "--rewritten", str(tmp_path / "wrong")]) == 1
    assert "wrong: rows[1]: field 'name' is 'mine'; a name with one of joint, greedy" in capsys.readouterr().err


def test_pipelines_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"2x joint": "a", "3x joint": "b"}))
    assert read_pipelines(tmp_path / "p.json", ["3x joint"]) == {"3x joint": "b"}
    with pytest.raises(ArgumentError, match="has no network '4x joint'; there are '2x joint', '3x joint'"):
        read_pipelines(tmp_path / "p.json", ["4x joint"])
    (tmp_path / "p.json").write_text("[]")
    with pytest.raises(DataError, match=r"p\.json: a dictionary of pipelines is expected"):
        read_pipelines(tmp_path / "p.json")
