"""What a joint choice asks of others: replies that cannot be are refused, and nothing depends on who has done what."""

from __future__ import annotations

import functools
import json
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from joint_tables import GivenTruth, blocks_table, interacting
from search_fakes import judge
from trained_networks import calibration, pattern_batch

from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.history import Step, parse_steps
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.calibration import Prediction
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.joint_signals import JointMeasurement
from loopmorph.pipelines.legality.predicted_loss import Judged, PredictedLoss
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.joint.joint import JointChoice, choose_jointly
from loopmorph.pipelines.search.joint.joint_loss import Compared, CompareJob
from loopmorph.pipelines.search.joint.knapsack import Limits
from loopmorph.pipelines.search.joint.truth import JudgedTruth
from loopmorph.pipelines.search.judge import Judge, LocalJudge
from loopmorph.pipelines.search.performing import parse_job, reply
from loopmorph.pipelines.search.variants.harm_job import HarmJob, MakesGroupHarm
from loopmorph.pipelines.search.variants.kinds import Proposal
from loopmorph.pipelines.search.variants.time_job import Timed, VariantTimeJob
from loopmorph.pipelines.search.workers.dispatcher import Dispatcher
from loopmorph.pipelines.search.workers.job import Job, Nonsense, failed_reply, job_text, parse_reply
from loopmorph.pipelines.search.workers.pool import Done, Lost, LostWorkerWarning, Pool
from loopmorph.pipelines.training.task import Classification

GROUP = "morph-group{layer=block1.conv1 iters=co,ci factor=2}"
SPATIAL = "morph-bottleneck{layer=block2.conv2 iter=oh factor=2}"
TIED = "morph-bottleneck{layer=linear iter=co factor=2}"
TIME = VariantTimeJob(GROUP, ("block1.conv1",))
HARM = HarmJob(
    tuple(
        Proposal("any", parse_steps(text), frozenset([layer]), unit=layer)
        for text, layer in ((GROUP, "block1.conv1"), (TIED, "linear"), (SPATIAL, "block2.conv2"))
    ),
    ("harm", "fisher-change", "residual"),
)
COMPARE = CompareJob(SPATIAL, 0.5)


@pytest.fixture(scope="module")
def judging(trained: Program) -> LocalJudge:
    images = pattern_batch(96)
    held_out = Batch(images.images[64:], images.labels[64:], images.classes, "patterns")
    loss = PredictedLoss((images.images[:64],), held_out, calibration(), "cpu")
    makes_harm = MakesGroupHarm(Classification(pattern_batch(64)), 0, "cpu")
    return replace(judge(trained, gate=Gate("none")), loss=loss, makes_harm=makes_harm)


@pytest.fixture(scope="module")
def told(judging: LocalJudge) -> Callable[[Job[Any]], str]:
    """The reply to a job, which is done once."""
    return functools.cache(lambda job: reply(judging, job_text(job)))


# ---- replies


@pytest.mark.parametrize("job", [TIME, HARM, COMPARE])
def test_what_is_done_elsewhere_is_what_is_done_here(judging: LocalJudge, job: Job[Any]) -> None:
    text = job_text(job)
    assert job_text(parse_job(text)) == text
    result = job.perform(judging)
    assert parse_reply(job, reply(judging, text)) == result != job.failed("no")
    assert parse_reply(job, failed_reply(text, "it was killed")) == job.failed("it was killed")


def test_refusals_are_results(judging: LocalJudge) -> None:
    time, compare = VariantTimeJob(TIED, ("linear",)), CompareJob(TIED, 1.0)
    for found in (
        parse_reply(time, reply(judging, job_text(time))),
        parse_reply(compare, reply(judging, job_text(compare))),
    ):
        assert "tied to the network's output" in found.refused
    _, tied, _ = HARM.perform(judging).variants
    assert "tied to the network's output" in tied.refused and tied.scores == {}


def at(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Puts a value where a path of names and positions leads."""
    *way, last = [int(name) if name.isdigit() else name for name in path.split("/")]

    def change(content: Any) -> None:
        for name in way:
            content = content[name]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("job", "change", "message"),
    [
        (TIME, at("layers/0/1", math.nan), "times of nan and 1000.0 ms"),
        (TIME, at("layers/0/2", -1.0), "times of 1000.0 and -1.0 ms"),
        (TIME, at("layers/0/1", math.inf), "times of inf and"),
        (TIME, at("layers/0/0", "conv1"), "times of the layers conv1, which the network has not"),
        (TIME, at("layers/0/3", -5), "-5 and"),
        (TIME, at("layers", []), "either times or a refusal"),
        (TIME, at("refused", "no"), "either times or a refusal"),
        (HARM, at("variants/0/scores/residual", math.nan), "scores that are no numbers"),
        (
            HARM,
            at("variants/0/scores", {"residual": 0.1}),
            "the signals residual, expected harm, fisher-change, residual",
        ),
        (HARM, at("variants/1/scores", {"residual": 0.1}), "the signals residual, expected none"),
        (HARM, at("variants", []), "0 variants, expected 3"),
        (HARM, at("variants/2/structure/layers", []), "it changes no layer, and is not refused"),
        (HARM, at("variants/2/structure", 7), "TypeError"),
        (COMPARE, at("loss/kl", math.nan), r"a loss of \[nan"),
        (COMPARE, at("loss/high", "much"), "a loss of"),
        (COMPARE, at("loss/accuracy", 1.5), "an accuracy of 1.5"),
        (COMPARE, at("loss", None), "either a loss or a refusal"),
        (COMPARE, at("loss/price", 1.0), "price"),
    ],
)
def test_lies_are_refused(
    told: Callable[[Job[Any]], str], job: Job[Any], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = json.loads(told(job))
    change(content["result"])
    with pytest.raises(Nonsense, match=message):
        parse_reply(job, json.dumps(content))


def test_replies_to_other_jobs_are_refused(told: Callable[[Job[Any]], str]) -> None:
    for job, other in (
        (TIME, VariantTimeJob(SPATIAL, TIME.layers)),
        (COMPARE, replace(COMPARE, share=1.0)),
        (HARM, TIME),
    ):
        with pytest.raises(Nonsense, match="it is of something else"):
            parse_reply(job, told(other))


# ---- asking


@dataclass(eq=False)
class Place:
    """A place that takes its time, or dies over its first job."""

    judge: Judge
    delays: Random
    dies: bool = False
    may_time: bool = True
    name: str = "the worker x"
    done: list[Job[Any]] = field(default_factory=list)

    def begin(self, job: Job[Any], done: Done) -> None:
        self.done.append(job)
        outcome = Lost("killed by SIGKILL") if self.dies else reply(self.judge, job_text(job))
        threading.Timer(0.01 * self.delays.random(), done, [outcome]).start()

    def lost(self) -> str:
        return ""

    def close(self) -> None: ...


def test_what_is_timed_comes_first_and_what_is_known_by_then_is_not_done(judging: LocalJudge) -> None:
    place, other = Place(judging, Random(0)), Place(judging, Random(1), may_time=False)
    order: list[object] = []
    with Dispatcher(lambda: Pool([place, other])) as dispatcher:
        harms = [dispatcher.ask(HARM, keep=order.append) for _ in range(2)]
        timed = [dispatcher.ask(TIME, keep=order.append) for _ in range(2)]
        known = dispatcher.ask(TIME, known=lambda: Timed(refused="it cannot win") if order else None)
        assert known.result() == Timed(refused="it cannot win")
        assert all(each.result() == TIME.perform(judging) for each in timed)
        assert all(each.result() == HARM.perform(judging) for each in harms)
    assert len(order) == 4 and place.done.count(TIME) == 2 and TIME not in other.done


def test_one_job_may_be_asked_for_twice_and_be_done_at_the_same_time(judging: LocalJudge) -> None:
    places = [Place(judging, Random(seed)) for seed in range(2)]
    with Dispatcher(lambda: Pool(places)) as dispatcher:
        asked = [dispatcher.ask(HARM) for _ in range(4)]
        assert all(each.result(60) == HARM.perform(judging) for each in asked)
    done = [place.done.count(HARM) for place in places]
    assert sum(done) == 4 and min(done) >= 1


def test_without_a_worker_that_may_times_are_not_waited_for(judging: LocalJudge) -> None:
    with Dispatcher(lambda: Pool([Place(judging, Random(0), may_time=False)])) as dispatcher:
        with pytest.raises(CompilationFailed, match="no worker is left that could do what is asked for"):
            dispatcher.ask(TIME).result()
        assert dispatcher.ask(HARM).result() == HARM.perform(judging)  # what comes later has others


def test_what_was_not_done_in_the_end_is_dropped(judging: LocalJudge) -> None:
    dispatcher = Dispatcher(lambda: Pool([Place(judging, Random(0))]))
    futures = [dispatcher.ask(COMPARE) for _ in range(3)]
    futures[0].result()
    dispatcher.close()
    assert futures[-1].cancelled()


# ---- a joint choice


class Given(GivenTruth):
    """A judge that says what a function of the chosen variants says."""

    def compare(self, steps: Sequence[Step], share: float = 1.0) -> Judged:
        found = self.loss(steps, 0 if share < 1 else 1)
        comparison = JointMeasurement(Score(found.kl), 1.0, None, None, 10, ())
        return Judged(comparison, Prediction(found.expected, found.low, found.high, 0.9, False, ("kl",)))

    def check_network(self, steps: Sequence[Step]) -> float:
        return 0.0

    def network_time(self, steps: Sequence[Step], baseline: Sequence[Step] = ()) -> PairTime:
        return PairTime(self.table.original.milliseconds, self.milliseconds(steps))


def sequence(choice: JointChoice) -> list[tuple[object, ...]]:
    return [(each.origin, each.selection.indices, each.losses, each.milliseconds) for each in choice.trials]


def test_workers_find_what_one_process_finds_whatever_comes_first() -> None:
    made = blocks_table(3, 8, seed=2)

    def chosen(*places: Place) -> JointChoice:
        given = Given(made, interacting(made, 2), noise=0.05)
        with Dispatcher(lambda: Pool([replace(each, judge=given) for each in places])) as dispatcher:
            truth = JudgedTruth(given, made.original.milliseconds, workers=dispatcher if places else None)
            return choose_jointly(made, truth, Limits(milliseconds=made.original.milliseconds / 2.5), seed=1)

    alone = chosen()
    assert len(alone.trials) > 12 and alone.reached
    assert sequence(chosen(Place(None, Random(0)))) == sequence(alone)
    with pytest.warns(LostWorkerWarning, match="gone on without the worker x: killed by SIGKILL"):
        assert sequence(chosen(*(Place(None, Random(k), dies=k == 2) for k in range(4)))) == sequence(alone)


def test_what_is_known_ahead_is_judged_by_workers_and_kept(judging: LocalJudge) -> None:
    steps = [parse_steps(text) for text in (GROUP, SPATIAL, TIED)]
    places = [Place(judging, Random(k)) for k in range(2)]
    blind = judge(judging.original, gate=Gate("none"))  # it cannot compare
    with Dispatcher(lambda: Pool(places)) as dispatcher:
        truth = JudgedTruth(blind, 5.0, workers=dispatcher)
        truth.begin([(each, 1) for each in (*steps, *steps)])
        first, second = truth.loss(steps[0], 1), truth.loss(steps[1], 1)
        with pytest.raises(CompilationFailed, match="tied to the network's output"):
            truth.loss(steps[2], 1)
        truth.begin([(each, 1) for each in steps[:2]])  # known by now
    assert (first, second) == tuple(CompareJob(text, 1.0).perform(judging).loss for text in (GROUP, SPATIAL))
    assert sum(len(place.done) for place in places) == 3


def test_what_workers_have_ended_over_is_left_to_the_own_judge(judging: LocalJudge) -> None:
    class Ending(Place):
        def begin(self, job: Job[Any], done: Done) -> None:
            done(failed_reply(job_text(job), "killed by SIGSEGV"))

    with Dispatcher(lambda: Pool([Ending(judging, Random(0))])) as dispatcher:
        truth = JudgedTruth(judging, 5.0, workers=dispatcher)
        asked = [(parse_steps(text), 0) for text in (GROUP, SPATIAL)]
        truth.begin(asked)
        found = [truth.loss(*each) for each in asked]
    assert [Compared(each) for each in found] == [CompareJob(t, 0.25).perform(judging) for t in (GROUP, SPATIAL)]
