"""The weights that a chosen network was judged with are those of the result: it is fitted once, whatever ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from joint_tables import GivenTruth, blocks_table, interacting, table, variant
from search_fakes import judge
from trained_networks import calibration, pattern_batch

from loopmorph.passes.history import Step, parse_steps
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.legality.calibration import Prediction
from loopmorph.pipelines.legality.joint_signals import JointMeasurement
from loopmorph.pipelines.legality.predicted_loss import Fitted, Judged, PredictedLoss
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.oracle.inherit import Inherited
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search import optimize as searches
from loopmorph.pipelines.search.gates import choose_gate
from loopmorph.pipelines.search.job import Request, SearchJob
from loopmorph.pipelines.search.joint.at_latency import AtLatency
from loopmorph.pipelines.search.joint.joint import choose_jointly
from loopmorph.pipelines.search.joint.knapsack import Limits, Problem, selection_of
from loopmorph.pipelines.search.joint.trials import Trials
from loopmorph.pipelines.search.joint.truth import JudgedTruth
from loopmorph.pipelines.search.judge import LayerTime
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.points import Points
from loopmorph.pipelines.search.remote_judge import RemoteJudge
from loopmorph.pipelines.search.sent_program import SentProgram
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.study import StudyFile
from loopmorph.pipelines.search.variants.table import VariantTable
from loopmorph.pipelines.support.progress import silent
from loopmorph.pipelines.training.task import make_task

FIRST = "morph-bottleneck{layer=block1.conv1 iter=co factor=2}"
SPLIT = "morph-split{layer=block2.conv2 iter=ow factor=2}"  # a variant may have steps that change no value
SECOND = "morph-group{layer=block2.conv2 iters=co,ci factor=2}"
THIRD = "morph-bottleneck{layer=block2.conv1 iter=co factor=2}"

pytestmark = pytest.mark.usefixtures("own_cache")


# ---- which weights are kept


@dataclass
class KeepingTruth(GivenTruth):
    """Has the weights of the network that was judged last, if that was on all images.

    Attributes:
        times: by a part of the steps, what the network takes in place of what the table says.
    """

    times: dict[str, float] = field(default_factory=dict)

    def fitted(self, steps: Sequence[Step]) -> Fitted | None:
        texts = tuple(map(str, steps))
        if self.asked[-1] != (self.levels - 1, texts):
            return None
        measured = JointMeasurement(Score(0.1), 1.0, None, None, 10, ())
        return Fitted(texts, {}, {}, (), Judged(measured, Prediction(1.0, 0.5, 2.0, 0.9, False, ("kl",))))

    def milliseconds(self, steps: Sequence[Step]) -> float:
        named = [ms for text, ms in self.times.items() if any(text in str(step) for step in steps)]
        return max(named, default=super().milliseconds(steps))


def kept(trials: Trials) -> list[tuple[str, ...]]:
    """The steps of the networks whose weights there are."""
    return [found.steps for each in trials.all if (found := trials.fitted(each)) is not None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "asked", [{"limits": Limits(milliseconds=25)}, {"limits": Limits(), "max_loss": 0.5}], ids=["latency", "loss"]
)
def test_the_weights_of_the_choice_are_kept_and_few_others(seed: int, asked: dict[str, Any]) -> None:
    made = blocks_table(2, 8, seed)
    trials = Trials(made, KeepingTruth(made, interacting(made, seed), noise=0.05, slower=1.02))
    choice = choose_jointly(made, trials.truth, **asked, seed=seed, trials=trials)
    whole = [each for each in choice.trials if each.is_whole(2)]
    assert len(whole) > 2 and choice.fitted is not None
    assert choice.fitted.steps == tuple(map(str, choice.steps)) and len(kept(trials)) <= 2


def test_a_milder_network_that_is_too_slow_takes_no_place_of_the_best() -> None:
    made = table(*(variant(place, -10, loss) for place, loss in (("a", 0.3), ("b", 0.2), ("c", 0.1), ("d", 0.4))))
    truth = KeepingTruth(made, lambda chosen: sum(each.loss for each in chosen), times={"=b ": 96.0, "=c ": 97.0})
    trials = Trials(made, truth)
    search = AtLatency(trials, Limits(milliseconds=95), 0, lambda: False)
    trials.rank = search.rank
    fast, slow, slower, worse = (trials.assembled(selection_of(Problem(made), (k,)), "given") for k in range(4))
    trials.judged(search.timed(fast), trials.last)
    for each in (slow, slower, worse):
        trials.judged(each, trials.last)
        assert kept(trials)[0] == made.variants[0].steps  # the best one that was timed
    assert kept(trials)[1:] == [made.variants[2].steps]  # the mildest of those that were not
    for each in (slow, slower):
        search.timed(trials.assembled(each.selection, "given"))
    assert search.best() == trials.assembled(fast.selection, "given") and trials.fitted(fast) is not None


def test_each_of_several_speed_ups_has_its_own_weights() -> None:
    made = blocks_table(2, 8, seed=1)
    trials = Trials(made, KeepingTruth(made, interacting(made, 1)))
    for milliseconds in (40, 25, 32):
        choice = choose_jointly(made, trials.truth, Limits(milliseconds=milliseconds), trials=trials)
        assert choice.fitted is not None and choice.fitted.steps == tuple(map(str, choice.steps))


def test_of_what_was_judged_elsewhere_there_are_no_weights() -> None:
    made = blocks_table(2, 6, seed=0)
    assert choose_jointly(made, GivenTruth(made, interacting(made, 0)), Limits(milliseconds=30)).fitted is None


# ---- what the result has


class ShortLived(RemoteJudge):
    """Compares in a process that an interrupt ends, at the third network; what would take compiling is made up."""

    compared = 0

    def compare(self, steps: Sequence[Step], share: float = 1.0) -> Judged:
        self.compared += 1
        if self.compared > 2:
            self.close()
            raise KeyboardInterrupt
        return super().compare(steps, share)

    def score(self, steps: Sequence[Step]) -> Score | None:
        return Score(0.0)

    def network_time(self, steps: Sequence[Step], baseline: Sequence[Step] = ()) -> PairTime:
        return PairTime(1.0, 0.8)

    def layer_times(self, steps: Sequence[Step]) -> list[LayerTime]:
        return []

    def check_network(self, steps: Sequence[Step]) -> float:
        return 0.0


@pytest.fixture
def job(trained: Program, tmp_path: Path) -> Iterator[SearchJob]:
    """A job whose judge lives until the first network has been judged whole."""
    data, target = pattern_batch(160), native_target()
    settings = SearchSettings(target_speedup=1.25, repair_images=64, held_out=64, calibration=calibration())
    request = Request(trained.model, trained.example_inputs, data, 0, 1, settings, None, silent)
    task = make_task(trained, data, settings.batch_size, 0, None)
    oracle = choose_gate(trained, task, data, 0, settings)
    setup = JudgeSetup(SentProgram.of(trained), oracle.gate, target, 1, 0, torch.get_num_threads(), oracle.loss)
    with ShortLived() as judging, closing(StudyFile("key", tmp_path)) as study:
        judging.set_up(setup)
        yield SearchJob(request, trained, task, oracle, judging, target, setup, study, None, time.perf_counter())


@pytest.fixture
def repairs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The steps of the networks that are repaired in this process."""
    found: list[tuple[str, ...]] = []
    repaired = PredictedLoss.repaired

    def counted(self: PredictedLoss, original: Program, network: Program, *more: Any) -> Inherited[Program]:
        found.append(network.steps)
        return repaired(self, original, network, *more)

    monkeypatch.setattr(PredictedLoss, "repaired", counted)
    return found


def variants() -> VariantTable:
    """The first two make the choice; the third is as fast, and worse."""
    rows = [((FIRST,), "block1.conv1", -10.0, 0.1), ((SPLIT, SECOND), "block2.conv2", -10.0, 0.1)]
    rows += [((THIRD,), "block2.conv1", -20.0, 0.5)]
    return table(*(replace(variant(layer, ms, loss), steps=steps) for steps, layer, ms, loss in rows))


def test_a_result_has_the_weights_that_it_was_judged_with_after_the_judge_has_ended(
    job: SearchJob, repairs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def points(job: SearchJob, workers: object = None) -> Points:
        made, asked = variants(), job.request
        truth = JudgedTruth(job.judge, made.original.milliseconds)
        return Points(made, Trials(made, truth), asked.settings, 0, silent, job.oracle.gate)

    @contextmanager
    def prepared(request: Request) -> Iterator[SearchJob]:
        yield job

    monkeypatch.setattr(searches, "prepared", prepared)
    monkeypatch.setattr(searches, "points", points)
    asked = job.request
    result = searches.optimize(asked.model, asked.example_inputs, asked.data, settings=asked.settings)
    joint = result.report.joint
    assert result.report.interrupted and joint is not None and joint.chosen.whole
    assert sorted(joint.chosen.transforms) == sorted([FIRST, SPLIT, SECOND]) and repairs == []
    assert (result.report.inherit, result.report.repair.kl) == ("repair", joint.chosen.kl)

    chosen = parse_steps(",".join(joint.chosen.transforms))
    again = job.result(chosen, [], False)  # whose weights nobody has any more
    assert repairs == [joint.chosen.transforms]
    assert str(result.program) == str(again.program) and "keep=" in "".join(result.program.steps)
    assert result.report.repair == again.report.repair and result.report.layers == again.report.layers
    for name, value in again.program.parameters.items():
        assert torch.equal(result.program.parameters[name], value), name


def test_a_judge_keeps_what_was_compared_on_all_images(trained: Program) -> None:
    loss = PredictedLoss((pattern_batch(64).images,), pattern_batch(32, seed=3), calibration(), "cpu")
    judging = replace(judge(trained), loss=loss)
    first, second = parse_steps(FIRST), parse_steps(f"{SPLIT},{SECOND},{THIRD}")
    judging.compare(first, 0.5)
    judging.compare((), 1.0)
    assert judging.fitted(first) is None and judging.fitted(()) is None
    judging.compare(first, 1.0)
    assert judging.fitted(first) is not None and judging.fitted(second) is None
    judged = judging.compare(second, 1.0)
    fitted, fresh = judging.fitted(second), PredictedLoss(loss.fitted_to, loss.held_out, calibration(), "cpu")
    assert judging.fitted(first) is None and fitted is not None and fitted.judged == judged
    made = trained.after(second)
    restored, again = fresh.restored(trained, made, fitted), fresh.repaired(trained, made)
    assert str(restored.program) == str(again.program)
    assert all(torch.equal(restored.program.parameters[name], each) for name, each in again.program.parameters.items())
