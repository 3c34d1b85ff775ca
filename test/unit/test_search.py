"""The decisions of the search, on scores and times that are given: nothing is compiled, nothing is timed."""

from __future__ import annotations

import dataclasses
import json
import warnings
from contextlib import closing
from pathlib import Path

import pytest
import torch
from search_fakes import GROUP, LOOPS, SMALLER, TAPS, FakeChecker, FakeMeter, FakeProxy, candidate, judge, judged

from loopmorph.passes.errors import (
    ArgumentError,
    CompilationFailed,
    IllegalTransform,
    LoopmorphError,
    LoopmorphWarning,
    WrongResult,
)
from loopmorph.passes.history import parse_steps
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherit import inherit
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.combiner import Greedy, Judged
from loopmorph.pipelines.search.gates import Chosen
from loopmorph.pipelines.search.identity import Identity, identify
from loopmorph.pipelines.search.joint.choice_report import JointReport, TrialReport
from loopmorph.pipelines.search.joint.joint_loss import JointLoss
from loopmorph.pipelines.search.joint.knapsack import Selection
from loopmorph.pipelines.search.joint.trials import Trial
from loopmorph.pipelines.search.judge import MiscompiledWarning
from loopmorph.pipelines.search.optimize import search
from loopmorph.pipelines.search.report import FrontPoint, Report, ScoreReport
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.standing import Standing, standing_of, standing_of_trials
from loopmorph.pipelines.search.study import Record, StudyFile
from loopmorph.pipelines.search.summary import Asked, Found, NotMeasuredWarning, summarise, trial_points
from loopmorph.pipelines.search.variants.table import Cost
from loopmorph.pipelines.search.verdict import Verdict
from loopmorph.pipelines.support.progress import silent
from loopmorph.pipelines.training.task import Classification

# ---- one candidate


def test_a_candidate_that_passes_every_gate_is_accepted(plain: Program) -> None:
    checker = FakeChecker()
    verdict = judge(plain, meter=FakeMeter({"conv1": 0.25, "conv2": 0.5}), checker=checker).judge(candidate(SMALLER))
    assert (verdict.outcome, verdict.reason, verdict.score) == ("accepted", "", 1.0)
    assert checker.checked == ["conv1", "conv2"]  # its reader follows
    assert (verdict.ms_before, verdict.ms_after, verdict.saved) == (2000.0, 750.0, 1250.0)


@pytest.mark.parametrize(
    ("larger_is_better", "score", "outcome"),
    [
        (True, 0.9, "fake"),
        (True, 1.0, "accepted"),
        (True, float("nan"), "fake"),
        (False, 1.1, "fake"),
        (False, 0.9, "accepted"),
    ],
)
def test_the_proxy_decides_in_its_direction(plain: Program, larger_is_better: bool, score: float, outcome: str) -> None:
    checker = FakeChecker()
    proxy = FakeProxy({(GROUP,): score}, larger_is_better)
    verdict = judge(plain, proxy, checker=checker).judge(candidate(GROUP))
    assert verdict.outcome == outcome
    if outcome == "fake":
        relation = "<" if larger_is_better else ">"
        assert verdict.reason == f"Fake score {score:.6g} {relation} 1"
        assert not checker.checked  # the cheap gate comes first


@dataclasses.dataclass
class Doubtful(FakeProxy):
    """Scores everything, and says that it cannot be compared."""

    def score(self, network: Network) -> Score:
        return dataclasses.replace(super().score(network), doubt="the original's is 0")


def test_a_proxy_that_cannot_judge_admits_nothing(plain: Program, tmp_path: Path) -> None:
    judging = judge(plain, Doubtful(), drawn=[GROUP, LOOPS])
    with (
        closing(StudyFile("key", tmp_path)) as study,
        pytest.warns(LoopmorphWarning, match="legality cannot be judged, .*: the original's is 0"),
    ):
        found, _ = search(plain, judging, study, 2, 0, silent)
    assert [entry.verdict.outcome for entry in found] == ["fake", "accepted"]
    assert found[0].verdict.reason == "Fake score cannot judge: the original's is 0"
    assert not judging.is_legal(parse_steps(GROUP))


def test_loop_steps_alone_need_no_score(plain: Program) -> None:
    proxy = FakeProxy()
    assert judge(plain, proxy).judge(candidate(LOOPS)).outcome == "accepted"
    assert proxy.asked == []


def test_only_what_saves_enough_is_worth_it() -> None:
    assert Verdict((), "accepted", "", 1.0, 100.0, 97.0).saved == 3.0
    assert Verdict((), "accepted", "", 1.0, 100.0, 99.0).saved is None
    assert Verdict((), "fake", "", 1.0, 100.0, 1.0).saved is None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (IllegalTransform("layer 'conv2'", "no module can stand for it"), "structure"),
        (CompilationFailed("worker killed by SIGSEGV"), "failed"),
        (ArgumentError("iter", "what a pass has offered and does not take"), "failed"),
    ],
)
def test_what_goes_wrong_costs_one_candidate(
    plain: Program, error: IllegalTransform | CompilationFailed, outcome: str
) -> None:
    verdict = judge(plain, checker=FakeChecker({"conv2": error})).judge(candidate(GROUP))
    assert (verdict.outcome, verdict.reason) == (outcome, str(error))


def test_wrong_numbers_are_told_loudly_and_never_a_candidate(plain: Program) -> None:
    wrong = FakeChecker({"conv2": WrongResult("layer 'conv2': compiled code differs from PyTorch by 1.0")})
    with pytest.warns(MiscompiledWarning, match=r"layer 'conv2': compiled code differs .*\(after morph-group"):
        verdict = judge(plain, checker=wrong).judge(candidate(GROUP))
    assert verdict.outcome == "wrong" and verdict.saved is None


def test_what_could_not_be_drawn_is_told_apart(plain: Program) -> None:
    step = candidate(GROUP).neural
    refused = Candidate("conv2", step, (), IllegalTransform("layer 'conv2'", "tied"))
    odd = Candidate("conv2", step, (), ArgumentError("factor", "out of range"))
    outcomes = [judge(plain).judge(each).outcome for each in (refused, odd)]
    assert outcomes == ["structure", "failed"]


# ---- candidates together


def test_the_best_of_each_layer_go_together(plain: Program) -> None:
    entries = [judged(TAPS, 10, 9), judged(GROUP, 10, 2), judged(SMALLER, 10, 5), judged(LOOPS, 10, 8)]
    meter = FakeMeter(networks={(GROUP, SMALLER): 0.4})
    steps = Greedy().combine(entries, judge(plain, meter=meter), silent)
    assert [str(step) for step in steps] == [GROUP, SMALLER]


def test_what_is_not_legal_together_is_left_out_and_the_next_best_tried(plain: Program) -> None:
    proxy = FakeProxy({(GROUP, SMALLER): 0.5})
    meter = FakeMeter(networks={(GROUP, "morph-bottleneck{layer=conv1 iter=kh factor=3}"): 0.4})
    entries = [
        judged(SMALLER, 10, 5),
        judged(GROUP, 10, 2),
        judged("morph-bottleneck{layer=conv1 iter=kh factor=3}", 9, 8),
    ]
    steps = Greedy().combine(entries, judge(plain, proxy, meter), silent)
    assert [str(step) for step in steps] == [GROUP, "morph-bottleneck{layer=conv1 iter=kh factor=3}"]


def test_what_the_network_does_not_admit_any_more_is_left_out(plain: Program) -> None:
    quarter = "morph-bottleneck{layer=conv1 iter=co factor=8}"
    entries = [judged(quarter, 10, 1), judged("morph-group{layer=conv2 iters=co,ci factor=4}", 10, 2)]
    meter = FakeMeter(networks={(quarter,): 0.5})
    assert [str(s) for s in Greedy().combine(entries, judge(plain, meter=meter), silent)] == [quarter]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({(SMALLER,): 0.5, (SMALLER, LOOPS): 0.4}, [SMALLER, LOOPS]),
        ({(SMALLER,): 0.4, (SMALLER, LOOPS): 0.5}, [SMALLER]),
        ({(SMALLER,): 0.99, (SMALLER, LOOPS): 1.2}, []),
    ],
)
def test_the_whole_network_has_the_last_word(
    plain: Program, times: dict[tuple[str, ...], float], expected: list[str]
) -> None:
    entries = [judged(f"{SMALLER},{LOOPS}", 10, 2)]
    steps = Greedy().combine(entries, judge(plain, meter=FakeMeter(networks=times)), silent)
    assert [str(step) for step in steps] == expected


def test_without_anything_worthwhile_the_original_stays(plain: Program) -> None:
    assert Greedy().combine([judged(GROUP, 10, 9.9)], judge(plain), silent) == ()


# ---- who looks on


def test_how_a_search_stands(plain: Program) -> None:
    gate = judge(plain).gate
    assert standing_of(gate, []) == Standing("fake", {}, "nothing faster yet")
    refused = Judged(candidate(GROUP), Verdict((GROUP,), "fake"))
    tried = [judged(GROUP, 10, 2), judged(TAPS, 10, 1), judged(LOOPS, 9, 8), refused]
    assert standing_of(gate, tried) == Standing("fake", {"accepted": 3, "fake": 1}, "10 ms saved in 2 layers")


def test_how_a_joint_choice_stands(plain: Program) -> None:
    gate = judge(plain).gate
    nothing = Selection((), (), 0.0, Cost(), 0.0, 0.0)
    few, losses = JointLoss(0.1, 1.0, 0.0, 2.0), (JointLoss(0.2, 1.0, 0.0, 2.0), JointLoss(0.3, 1.0, 0.0, 2.0))
    trials = [
        Trial("additive", nothing, (), losses=losses, milliseconds=2.0),
        Trial("switch", nothing, (), losses=(few, few), milliseconds=9.0),
        Trial("random", nothing, (), losses=(few,), milliseconds=1.0),
        Trial("greedy", nothing, (), failure="it crashed"),
        Trial("uniform", nothing, ()),
    ]
    outcomes = {"judged": 3, "failed": 1}
    assert standing_of_trials(gate, trials, 2, 3.0) == Standing("fake", outcomes, "KL 0.3 nats at 2 ms")
    assert standing_of_trials(gate, trials, 2, None).best == "KL 0.1 nats at 9 ms"
    assert standing_of_trials(gate, trials, 2, 1.0).best == "none that keeps the limit yet"


def test_who_looks_on_sees_every_candidate(plain: Program, tmp_path: Path) -> None:
    seen: list[int] = []
    with closing(StudyFile("key", tmp_path)) as study:
        search(plain, judge(plain, drawn=[GROUP, LOOPS]), study, 2, 0, silent, lambda tried: seen.append(len(tried)))
    assert seen == [1, 2]


# ---- the whole search


def tried(plain: Program, study: StudyFile, proxy: FakeProxy, drawn: list[str]) -> list[str]:
    found, interrupted = search(plain, judge(plain, proxy, drawn=drawn), study, len(drawn), 0, silent)
    assert not interrupted
    return [entry.verdict.outcome for entry in found]


def test_a_study_goes_on_where_it_ended(plain: Program, tmp_path: Path) -> None:
    proxy = FakeProxy({(GROUP,): 0.5})
    study = StudyFile("key", tmp_path)
    assert tried(plain, study, proxy, [GROUP, SMALLER]) == ["fake", "accepted"]
    study.close()
    again, later = StudyFile("key", tmp_path), FakeProxy({(TAPS,): 0.5})
    assert tried(plain, again, later, [GROUP, SMALLER, TAPS]) == ["fake", "accepted", "fake"]
    assert later.asked == [(TAPS,), ()] or later.asked == [(), (TAPS,)]
    assert StudyFile("another key", tmp_path).get([GROUP]) is None
    again.close()


def test_what_failed_is_tried_again(plain: Program, tmp_path: Path) -> None:
    study = StudyFile("key", tmp_path)
    study.put(Record.of(Verdict((GROUP,), "failed", "worker killed by SIGKILL")))
    refused = study.put(Record.of(Verdict((SMALLER,), "structure", "tied")))
    assert study.get([GROUP]) is None
    assert study.get([SMALLER]) == refused and refused.verdict == Verdict((SMALLER,), "structure", "tied")
    assert study.get([SMALLER], "network") is None
    study.execute("UPDATE records SET record = 'nonsense'")
    assert study.get([SMALLER]) is None
    study.close()


def test_a_study_is_known_by_all_that_it_depends_on(plain: Program) -> None:
    def about(program: Program, shift: float = 0, label: int = 0, threads: int = 1) -> dict[str, str]:
        images, labels = torch.full((2, 3, 8, 8), shift), torch.full((2,), label)
        return identify(program, (images,), labels, source="zeros", legality="fisher", threads=threads)

    first = about(plain)
    assert about(plain) == first and first["data"].startswith("zeros ") and first["threads"] == "1"
    changed = dict(plain.imported)
    changed["conv1.weight"] = changed["conv1.weight"] + 1
    others = {
        "weights": about(dataclasses.replace(plain, imported=changed)),
        "data": about(plain, shift=1.0),
        "threads": about(plain, threads=2),
        "network": about(plain.apply(GROUP)),
    }
    for name, other in others.items():
        assert [each for each in first if other[each] != first[each]] == [name]
    assert about(plain, label=1)["data"] != first["data"]
    assert len({Identity("a", each).key for each in (first, *others.values())}) == 5
    assert Identity("a", first).key == Identity("b", first).key


# ---- the report


def test_the_report_says_all_of_it(plain: Program) -> None:
    proxy = FakeProxy({(GROUP,): 3.0})
    meter = FakeMeter({"conv2": 0.5}, {(GROUP,): 0.25})
    made = plain.apply(GROUP)
    task = Classification(Batch(torch.randn(4, 3, 8, 8), torch.arange(4), 10, "random images"))
    verdicts = [Verdict((), outcome) for outcome in ("accepted", "fake", "fake", "structure", "failed", "wrong")]
    found = Found(plain, made, inherit(plain, made, "slice", task.inputs), verdicts, True)
    judging = judge(plain, proxy, meter)
    asked = Asked("net", 2, native_target(), 7)
    report = summarise(found, asked, task, Chosen(judging.gate), judging, silent)
    content = json.loads(report.to_json())
    expected = {
        "model": "net",
        "threads": 2,
        "seed": 7,
        "data": "random images",
        "baseline_ms": 1000.0,
        "optimized_ms": 250.0,
        "speedup": 4.0,
        "fake_original": 1.0,
        "fake_optimized": 3.0,
        "fake_standard_error": 0.0,
        "rejected_fake": 2,
        "rejected_structure": 1,
        "failed": 1,
        "wrong": 1,
        "candidates": 6,
        "legal": True,
        "legality": "fake",
        "interrupted": True,
    }
    assert {name: content[name] for name in expected} == expected
    (layer,) = content["layers"]
    assert (layer["name"], layer["transforms"], layer["ms_before"], layer["ms_after"]) == ("conv2", [GROUP], 1000, 500)
    assert layer["macs_before"] == 2 * layer["macs_after"]
    assert report.fake_original == 1.0 and report.rejected_fake == 2
    doubtful = summarise(found, asked, task, Chosen(judging.gate), judge(plain, Doubtful(), meter), silent)
    assert doubtful.legal is None and doubtful.doubt == "the original's is 0"
    assert content["fisher_original"] is content["fisher_optimized"] is None and content["rejected_fisher"] == 0
    with pytest.raises(AttributeError, match="no attribute 'other_original'"):
        _ = report.other_original


@pytest.mark.parametrize(
    "error",
    [CompilationFailed("worker killed after its time limit of 60 s"), WrongResult("compiled code differs by 1.0")],
    ids=["no code", "wrong code"],
)
def test_a_result_whose_code_fails_is_there_with_all_else(plain: Program, error: LoopmorphError) -> None:
    made = plain.apply(GROUP)
    task = Classification(Batch(torch.randn(4, 3, 8, 8), torch.arange(4), 10, "random images"))
    found = Found(plain, made, inherit(plain, made, "slice", task.inputs), [], False)
    judging = judge(plain, FakeProxy({(GROUP,): 3.0}), checker=FakeChecker({"": error}))
    with pytest.warns(NotMeasuredWarning, match=f"could not be compiled, checked and measured whole: {error}"):
        report = summarise(found, Asked("net", 1, native_target(), 0), task, Chosen(judging.gate), judging, silent)
    assert report.failure == json.loads(report.to_json())["failure"] == str(error)
    assert (report.speedup, report.max_abs_error, report.interrupted) == (None, None, False)
    assert (report.legal, report.fake_optimized) == (True, 3.0) and report.inherited_error is not None
    assert [layer.transforms for layer in report.layers] == [(GROUP,)]


def test_without_a_gate_legality_is_null_and_the_report_says_why(plain: Program) -> None:
    made = plain.apply(GROUP)
    task = Classification(Batch(torch.randn(4, 3, 8, 8), torch.arange(4), 10, "random images"))
    found = Found(plain, made, inherit(plain, made, "slice", task.inputs), [], False)
    gate = Gate("none", "it was asked for")
    report = summarise(found, Asked("net", 1, native_target(), 0), task, Chosen(gate), judge(plain, gate=gate), silent)
    assert (report.legal, report.doubt) == (None, "legality 'none' judges nothing")
    content = json.loads(report.to_json())
    assert (content["legality"], content["legality_reason"]) == ("none", "it was asked for")
    assert content["kl"] is content["predicted_loss"] is content["fisher_original"] is None


def test_trials_are_points_by_the_clock_of_the_whole_network() -> None:
    def trial(origin: str, ms: float | None, whole: bool = True) -> TrialReport:
        return TrialReport(origin, (origin,), (), 0.0, 0.0, 0.1, whole, None, 1.0, 0.5, 2.0, ms)

    trials = trial("switch", 2.0), trial("additive", 3.0), trial("untimed", None), trial("few images", 1.0, whole=False)
    joint = JointReport(2.0, 2.0, True, trials[0], "kl", 0.0, 0.0, 0.0, False, 3, 4.0, {"greedy": trials[1]}, trials)
    assert list(trial_points(joint, 8.0)) == [
        FrontPoint("switch", 4.0, 1.0, 0.5, 2.0, "trial"),
        FrontPoint("greedy", 6.0, 1.0, 0.5, 2.0, "baseline"),
    ]


def test_reports_are_data_of_any_proxy() -> None:
    scores = {"a": ScoreReport("A", 1.0, 2.0), "b": ScoreReport("B", rejected=3)}
    report = Report("m", "d", scores, 1, 1, 1, 1, ())
    content = json.loads(report.to_json())
    assert (content["a_optimized"], content["b_original"], content["rejected_b"]) == (2.0, None, 3)
    assert "scores" not in content
    overflowing = Report("m", "d", {"a": ScoreReport("A", float("nan"), float("inf"))}, 1, 1, 1, 1, ())
    content = json.loads(overflowing.to_json(), parse_constant=pytest.fail)
    assert content["a_original"] is content["a_optimized"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SearchSettings(batch_size=0), "'batch_size': expected an integer of at least 1, got 0"),
        (SearchSettings(repeats=-1), "'repeats': expected an integer of at least 1, got -1"),
        (SearchSettings(tune=0.0), "'tune': expected a positive number of seconds"),
        (
            SearchSettings(inherit="median"),
            "'inherit': .* salient, least-squares, least-error or repair, got 'median'",
        ),
        (SearchSettings(target="zen55"), "'target': no processor 'zen55' is known; did you mean 'zen5'"),
    ],
)
def test_wrong_settings(settings: SearchSettings, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        settings.check()


def test_nothing_is_warned_of_without_a_reason(plain: Program) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge(plain).judge(candidate(GROUP)).outcome == "accepted"
