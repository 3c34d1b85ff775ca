"""What a judge tells of assembled networks, kept across runs; what is in reach; what a command says of a choice."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joint_tables import GivenTruth, blocks_table, interacting, table, variant
from rich.console import Console
from search_fakes import FakeMeter, judge
from trained_networks import calibration, pattern_batch

from loopmorph.passes.errors import ArgumentError, LoopmorphWarning
from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.predicted_loss import PredictedLoss
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.joint.choice_report import report_choice
from loopmorph.pipelines.search.joint.joint import choose_jointly
from loopmorph.pipelines.search.joint.knapsack import Limits
from loopmorph.pipelines.search.joint.trials import Trials
from loopmorph.pipelines.search.joint.truth import JudgedTruth
from loopmorph.pipelines.search.points import Points
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.study import StudyFile
from loopmorph.pipelines.search.study_store import StudyStore
from loopmorph.pipelines.support.progress import silent
from loopmorph.tools.joint_lines import joint_lines, joint_table

GROUP = "morph-group{layer=block2.conv2 iters=co,ci factor=2}"


# ---- the judge's truth


def test_what_was_judged_is_kept_and_not_judged_again(trained: Program, tmp_path: Path) -> None:
    images = pattern_batch(120)
    held_out = Batch(images.images[80:], images.labels[80:], images.classes, "patterns")
    loss = PredictedLoss((images.images[:80],), held_out, calibration(), "cpu")
    judging = replace(judge(trained, meter=FakeMeter(networks={(GROUP,): 0.8}), gate=Gate("none")), loss=loss)
    steps = parse_steps(GROUP)
    with closing(StudyFile("key", tmp_path)) as study:
        truth = JudgedTruth(judging, 5.0, StudyStore(study))
        few, every = truth.loss(steps, 0), truth.loss(steps, 1)
        assert truth.milliseconds(steps) == pytest.approx(4.0)  # of the table's 5 ms the measured share
    whole = loss.measure(trained, loss.repaired(trained, trained.after(steps)).program)
    some = loss.on_share(0.25)
    assert (len(some.fitted_to[0]), len(some.held_out.images)) == (20, 10)
    assert every.kl == pytest.approx(whole.comparison.kl.value) and every.kl != few.kl
    assert (every.expected, every.high) == (whole.prediction.expected, whole.prediction.high)
    assert every.accuracy == whole.comparison.accuracy and 0 <= every.kl < 1
    with closing(StudyFile("key", tmp_path)) as study:
        store = StudyStore(study)
        again = JudgedTruth(judge(trained, gate=Gate("none")), 5.0, store)  # a judge that cannot compare
        assert (again.loss(steps, 0), again.loss(steps, 1)) == (few, every)
        assert again.milliseconds(steps) == pytest.approx(4.0) and again.is_applicable(steps)
        with pytest.raises(ArgumentError, match="'legality': networks are compared by 'repair' alone, got 'none'"):
            again.loss((), 0)
        store.put("loss 1", (), {"kl": 1.0})  # somebody else's
        with pytest.raises(ArgumentError, match="networks are compared by 'repair' alone"):
            again.loss((), 1)


# ---- what a user asks for


def points(**settings: Any) -> Points:
    made = blocks_table(2, 6, seed=0)
    asked = SearchSettings(**settings)
    return Points(
        made, Trials(made, GivenTruth(made, interacting(made, 0), slower=1.01)), asked, 0, silent, Gate("repair")
    )


@pytest.mark.parametrize(
    ("settings", "speedup", "message"),
    [
        ({}, 1000.0, r"'target_speedup': 1000 is out of reach: the most that the variants reach is 2\.74$"),
        (
            {"target_ms": 2.0},
            None,
            r"'target_ms': 2 ms is out of reach: the least that the variants reach is 18\.\d+ ms$",
        ),
        ({"max_memory": 10}, 2.0, r"'max_memory': 10 is out of reach: the least that the variants reach is 1e\+06$"),
    ],
)
def test_what_is_out_of_reach_is_refused_in_the_users_words(
    settings: dict[str, object], speedup: float | None, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        points(**settings).at(speedup)


def test_a_speed_up_becomes_a_limit_and_is_kept() -> None:
    chooser = points()
    choice = chooser.at(2.0)
    assert choice.limits.milliseconds == 25 and choice.reached and (choice.trial.milliseconds or 99) <= 25


def test_a_table_that_is_not_complete_is_used_without_more_ado() -> None:
    chooser = points()
    chooser = replace(chooser, table=replace(chooser.table, complete=False))
    choice = chooser.at(2.0)
    assert choice.interrupted and {"switch", "coefficients"}.isdisjoint(each.origin for each in choice.trials)


def test_a_limit_that_no_network_keeps_is_warned_of() -> None:
    chooser = points()
    assert isinstance(chooser.trials.truth, GivenTruth)
    chooser.trials.truth.slower = 2.0
    with pytest.warns(LoopmorphWarning, match=r"the limit of 20 ms was not reached by any network that was timed"):
        assert not chooser.at(2.5).reached


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_speedup": 1.0}, r"'target_speedup': expected a finite number above 1, got 1\.0"),
        ({"target_speedup": True}, "'target_speedup': expected a finite number above 1, got True"),
        ({"target_ms": -1}, "'target_ms': expected a positive number of milliseconds, got -1"),
        ({"seconds": 0}, "'seconds': expected a positive number of seconds, got 0"),
        ({"target_ms": 1.0, "max_memory": "8"}, "'max_memory': expected a positive number, got '8'"),
        ({"target_ms": 1.0, "variants": 0}, "'variants': expected an integer of at least 1, got 0"),
        ({"target_ms": 1.0, "legality": "none"}, "'legality': a joint choice is judged by 'repair', got 'none'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SearchSettings(**settings).check()


def test_speed_ups_stand_alone() -> None:
    with pytest.raises(ArgumentError, match="'target_speedup': expected none in the settings"):
        SearchSettings(target_speedup=2.0).check_with([3.0])
    with pytest.raises(ArgumentError, match="'target_speedup': 3 is given twice"):
        SearchSettings().check_with([3.0, 3.0])


# ---- what is said of it


def test_a_choice_is_told_beside_its_baselines() -> None:
    cheap, dear = (
        variant(place, -10, loss, GROUP.replace("block2", place)) for place, loss in (("a", 0.1), ("b", 0.2))
    )
    made = table(cheap, dear, variant("c", -5, 0.9, GROUP.replace("block2", "c")))
    truth = GivenTruth(made, lambda chosen: sum(each.loss for each in chosen), slower=1.02)
    choice = choose_jointly(made, truth, Limits(milliseconds=95))
    report = report_choice(choice, made, truth.levels, 1.05)
    assert report.chosen.kl == pytest.approx(0.1) and report.chosen.milliseconds == pytest.approx(91.8)
    assert report.additive_loss == pytest.approx(0.1) and report.additive_gap == 0 and report.variants == 3
    lines = joint_lines(replace(report, exhausted=True, chosen=replace(report.chosen, dropped=("x",))))
    assert lines == [
        "additive model: sum of kl-block 0.1, optimum proved",
        "speed-up 1.05: limit 95 ms reached",
        "every choice within the limits was tried",
        "not admitted after the others, and left out: x",
    ]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(joint_table(report))
    told = " ".join(console.export_text().split())
    assert "joint choice (additive) 90 91.8 1.09x 0.1 0.1 1.0 (0.5 to 2.0)" in told and "greedy 90" in told
