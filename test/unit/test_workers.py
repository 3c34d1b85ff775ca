"""Many workers: whatever becomes of them, a search finds what it finds with one, and a study what it finds at once."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from search_fakes import GROUP, LOOPS, SMALLER, TAPS, FakeChecker, FakeMeter, FakeProxy, candidate, judge
from study_files import opened

from loopmorph.passes.errors import ArgumentError, CompilationFailed, IllegalTransform, LoopmorphWarning
from loopmorph.passes.history import parse_steps
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.judge import LocalJudge
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.optuna_study import read_studies
from loopmorph.pipelines.search.performing import parse_job, reply
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.sent_program import SentProgram
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.study import CANDIDATE, Study
from loopmorph.pipelines.search.variants.harm import FISHER_DROP
from loopmorph.pipelines.search.variants.harm_job import HarmJob, MakesGroupHarm
from loopmorph.pipelines.search.variants.kinds import Proposal
from loopmorph.pipelines.search.verdict import Verdict
from loopmorph.pipelines.search.workers import dask_pool
from loopmorph.pipelines.search.workers.candidate_job import CandidateJob
from loopmorph.pipelines.search.workers.job import Job, Nonsense, job_text, parse_reply
from loopmorph.pipelines.search.workers.judging import Judging
from loopmorph.pipelines.search.workers.open_workers import check_cluster, side_by_side, workers
from loopmorph.pipelines.search.workers.pool import Done, Lost, LostWorkerWarning, Pool
from loopmorph.pipelines.search.workers.transport import InTurn, Transport
from loopmorph.pipelines.training.task import classification

BOTH = f"{SMALLER},{LOOPS}"
TIED = "morph-bottleneck{layer=linear iter=co factor=2}"
DRAWN = (GROUP, LOOPS, TIED, SMALLER, TAPS, BOTH)
OUTCOMES = ["fake", "accepted", "structure", "accepted", "failed", "accepted"]


@pytest.fixture(scope="module")
def judging(plain: Program) -> LocalJudge:
    """Refuses GROUP, fails over TAPS; the times of all others are known."""
    checker = FakeChecker()
    meter = FakeMeter({"conv1": 0.25, "conv2": 0.5})
    found = judge(plain, FakeProxy({(GROUP,): 0.5}), meter, checker)

    def fail_over_taps(steps: Sequence[object]) -> list[object]:
        if TAPS in map(str, steps):
            raise CompilationFailed("worker killed by SIGSEGV")
        return LocalJudge.layer_times(found, steps)

    found.layer_times = fail_over_taps
    return found


def candidates() -> list[Candidate]:
    untied = Candidate("conv2", None, candidate("morph-split{layer=conv2 iter=oh factor=2}").loops)
    return [*map(candidate, DRAWN), Candidate("conv2", None, untied.loops, IllegalTransform("layer 'conv2'", "tied"))]


Found = list[tuple[str, Verdict]]


def judged(transport: Transport, study: Study, order: random.Random | None = None) -> Found:
    found = Judging(iter(candidates()), study, transport, order)
    found.run(lambda _: None)
    return told(found)


def told(found: Judging) -> Found:
    return [(str(entry.candidate), entry.verdict) for entry in found.in_order]


@dataclass(eq=False)
class Nothing:
    """A study that keeps nothing."""

    def get(self, steps: Sequence[str], kind: str = CANDIDATE) -> None:
        return None

    def put(self, record: object) -> object:
        return record

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def expected(judging: LocalJudge) -> Found:
    found = judged(InTurn(judging), Nothing())
    assert [verdict.outcome for _, verdict in found] == [*OUTCOMES, "structure"]
    assert [text for text, _ in found[:-1]] == list(DRAWN)
    return found


# ---- workers that do not do what they should


@dataclass(eq=False)
class Worker:
    """A place in this process, which does its jobs, dies over them, hangs, or sends something else than replies."""

    judge: LocalJudge
    fate: str
    name: str = "the worker x"
    done: list[CandidateJob] = field(default_factory=list)
    closed: bool = False

    @property
    def may_time(self) -> bool:
        return self.fate != "foreign"

    def begin(self, job: CandidateJob, done: Done) -> None:
        self.done.append(job)
        text = reply(self.judge, job_text(job))
        mixed_up = CandidateJob(job.steps[:1] if len(job.steps) > 1 else (LOOPS, LOOPS), timed=False)
        other = reply(self.judge, job_text(mixed_up))
        if self.fate == "dies":
            done(Lost("killed by SIGKILL"))
        elif self.fate != "hangs":
            done(
                {
                    "lies": text.replace('"outcome": "', '"outcome": "accepted", "was": "'),
                    "babbles": "{",
                    "mixes up": other,
                }.get(self.fate, text)
            )

    def lost(self) -> str:
        return "no reply within 1 s" if self.fate == "hangs" else ""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("fates", "lost"),
    [
        (["good"], 0),
        (["good", "good", "good"], 0),
        (["foreign", "good"], 0),
        (["dies", "good"], 1),
        (["hangs", "good", "hangs"], 2),
        (["lies", "good"], 1),
        (["mixes up", "babbles", "foreign", "good"], 2),
    ],
)
def test_any_workers_find_what_one_finds(
    judging: LocalJudge, expected: Found, fates: list[str], lost: int, recwarn: pytest.WarningsRecorder
) -> None:
    places = [Worker(judging, fate, f"the worker {number}") for number, fate in enumerate(fates)]
    with closing(Pool(places)) as pool:
        assert judged(pool, Nothing()) == expected
        assert [place.fate for place in pool.places] == [fate for fate in fates if fate in ("good", "foreign")]
    assert [each.category for each in recwarn] == [LostWorkerWarning] * lost
    assert all(place.closed for place in places)
    assert not any(job.timed for place in places if not place.may_time for job in place.done)
    if "foreign" in fates:
        assert any(job.admitted for place in places for job in place.done)  # what the other has begun was gone on with


def test_a_job_that_three_workers_are_lost_over_has_failed(judging: LocalJudge) -> None:
    with closing(Pool([*(Worker(judging, "dies") for _ in range(3)), Worker(judging, "good")])) as pool:
        assert pool.submit(CandidateJob((GROUP,)))
        with pytest.warns(LostWorkerWarning, match="gone on without the worker x: killed by SIGKILL"):
            _, record = pool.collect()
    assert (record.outcome, record.reason) == ("failed", "3 workers were lost over it")


def test_without_workers_there_is_an_error(judging: LocalJudge) -> None:
    pool = Pool([Worker(judging, "dies")])
    assert pool.submit(CandidateJob((GROUP,))) and not pool.submit(CandidateJob((LOOPS,)))
    with pytest.raises(CompilationFailed, match="no worker is left"), pytest.warns(LostWorkerWarning):
        pool.collect()


def replied(job: CandidateJob, judging: LocalJudge, change: Callable[[dict[str, object]], object]) -> str:
    content = json.loads(reply(judging, job_text(job)))
    change(content["result"])
    return json.dumps(content)


def numbers(**values: float) -> Callable[[dict[str, object]], object]:
    return lambda record: record["numbers"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (numbers(ms_after=-1.0), r"times of \[1000.0, -1.0\] ms"),
        (numbers(ms_after=float("inf")), r"times of \[1000.0, inf\] ms"),
        (numbers(ms_before=float("nan")), r"times of \[nan"),
        (numbers(score=float("nan")), "numbers that are not finite"),
        (numbers(price=1.0), "something else"),
        (lambda record: record["numbers"].clear(), r"times of \[None, None\] ms"),
        (lambda record: record.update(outcome="fake"), "times that were not asked for"),
        (lambda record: record.update(kind="network"), "something else"),
        (lambda record: record.update(steps=[GROUP]), "something else"),
        (lambda record: record.update(steps="x"), "a text is expected"),
        (lambda record: record.update(reason=7), "a text is expected"),
        (lambda record: record.pop("outcome"), "KeyError"),
    ],
)
def test_replies_that_cannot_be(
    judging: LocalJudge, change: Callable[[dict[str, object]], object], message: str
) -> None:
    job = CandidateJob((LOOPS,))
    assert parse_reply(job, reply(judging, job_text(job))) == job.perform(judging)
    with pytest.raises(Nonsense, match=message):
        parse_reply(job, replied(job, judging, change))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, 7, None, " " * (2 << 20)])
def test_texts_that_are_no_replies(text: object) -> None:
    with pytest.raises(Nonsense):
        parse_reply(CandidateJob((LOOPS,)), text)


def test_jobs_and_warnings_travel_as_json(judging: LocalJudge) -> None:
    admitted = CandidateJob((SMALLER,), timed=False).perform(judging)
    for job in (CandidateJob((GROUP, LOOPS)), CandidateJob((SMALLER,), admitted), CandidateJob((LOOPS,), timed=False)):
        assert parse_job(job_text(job)) == job
    text = json.dumps({**json.loads(reply(judging, job_text(CandidateJob((LOOPS,))))), "warnings": ["conv1 is odd"]})
    with pytest.warns(LoopmorphWarning, match="conv1 is odd"):
        parse_reply(CandidateJob((LOOPS,)), text)


# ---- one study, stopped and shared


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_what_was_stopped_ends_as_if_it_had_not_been(
    judging: LocalJudge, expected: Found, stop: int, tmp_path: Path
) -> None:
    path, order = tmp_path / "study.log", random.Random(stop)
    with closing(opened(path)) as study:
        begun = Judging(iter(candidates()), study, InTurn(judging), order)

        def interrupt(done: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            begun.run(interrupt)
        assert len(told(begun)) == stop and set(told(begun)) <= set(expected)
    with closing(opened(path)) as study, closing(opened(path)) as other:
        assert judged(InTurn(judging), study, random.Random(7)) == expected
        assert judged(InTurn(judging), other) == expected


def test_two_searches_on_one_study_find_the_same(plain: Program, tmp_path: Path) -> None:
    path, inner = tmp_path / "study.log", []

    def own(seconds: float) -> InTurn:
        """Every search measures other times."""
        return InTurn(judge(plain, FakeProxy({(GROUP,): 0.5}), FakeMeter({"conv1": seconds, "conv2": 0.5})))

    def begin_another(done: int) -> None:
        if done == 3:
            with closing(opened(path)) as other:
                inner.extend(judged(own(0.375), other, random.Random(1)))

    with closing(opened(path)) as study:
        outer = Judging(iter(candidates()), study, own(0.25), random.Random(0))
        outer.run(begin_another)
    assert len(inner) == len(DRAWN) + 1 and told(outer) == inner
    times = {verdict.ms_after for _, verdict in inner if verdict.outcome == "accepted"}
    assert {250.0, 375.0} & times and len(read_studies(path)[0].records) == len(inner)


# ---- real processes


@pytest.fixture
def setup(plain: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JudgeSetup:
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path / "cache"))
    gate = Gate("none", "it was asked for")
    return JudgeSetup(SentProgram.of(plain), gate, native_target(), 1, 0, 1)


@dataclass
class Killing:
    """A pool of which the worker that gets the second job is killed while it has it."""

    pool: dask_pool.DaskPool
    killed: list[dask_pool.DaskPlace] = field(default_factory=list)

    def submit(self, job: Job[Any]) -> bool:
        before = set(self.pool._busy)
        begun = self.pool.submit(job)
        if begun and before and not self.killed:
            (place,) = set(self.pool._busy) - before
            (pid,) = self.pool.client.run(os.getpid, workers=[place.address]).values()
            os.kill(pid, signal.SIGKILL)
            self.killed.append(place)
        return begun

    def collect(self) -> tuple[Any, Any]:
        return self.pool.collect()

    def close(self) -> None:
        self.pool.close()


def test_a_cluster_judges_and_one_of_its_workers_is_killed(
    plain: Program, setup: JudgeSetup, recwarn: pytest.WarningsRecorder
) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with (
        distributed.LocalCluster(n_workers=2, silence_logs=50, **options) as cluster,
        workers(judge=None, setup=setup, cluster=cluster.scheduler_address) as pool,
    ):
        assert [place.may_time for place in pool.places] == [True, True]
        for nanny in cluster.workers.values():
            nanny.close_gracefully()  # no worker in the place of one that is killed
        transport = Killing(pool)
        found = Judging(iter([candidate(LOOPS), candidate(TIED)]), Nothing(), transport)
        found.run(lambda _: None)
        assert [verdict.outcome for _, verdict in told(found)] == ["accepted", "structure"]
        (killed,) = transport.killed
        assert [place.address for place in pool.places] == [each for each in pool.addresses if each != killed.address]
        makes_harm = MakesGroupHarm(classification(plain, None, 8, seed=0), 0, "cpu")
        job = HarmJob((Proposal("group", parse_steps(GROUP), frozenset(["conv2"])),), (FISHER_DROP, "fisher"))
        with side_by_side(replace(setup, harm=makes_harm), cluster=cluster.scheduler_address) as others:
            (there,) = others.ask(job).result().variants
    (here,) = makes_harm(plain).measure(job.group)
    assert there.structure == here.structure and there.scores == pytest.approx(here.scores)
    (warning,) = [str(each.message) for each in recwarn if each.category is LostWorkerWarning]
    assert f"gone on without {killed.name}" in warning


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_pool, "_CONNECT", 0.3)
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "tcp://"):
        with pytest.raises(ArgumentError, match=f"'cluster': no Dask scheduler answers at '{address}'"):
            check_cluster(address)
    with pytest.raises(ArgumentError, match="'jobs': a cluster has as many workers as it has; expected 1 there, got 2"):
        SearchSettings(cluster="tcp://127.0.0.1:1", jobs=2).check()
    with pytest.raises(ArgumentError, match="'jobs': expected an integer of at least 1, got 0"):
        SearchSettings(jobs=0).check()
    SearchSettings(target_speedup=2.0, jobs=2).check()


def test_too_many_jobs_are_told(setup: JudgeSetup) -> None:
    count = (os.cpu_count() or 1) + 1
    with (
        pytest.warns(LoopmorphWarning, match=f"{count} jobs of 1 threads on .* cores disturb each other's times"),
        workers(judge=None, setup=setup, jobs=count) as pool,
    ):
        assert len(pool.places) == count
