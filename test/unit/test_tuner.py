"""Tuning the networks of a search: which code they get, what that costs, and what a report says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from search_fakes import GROUP, judge
from torch import nn

from loopmorph.passes.analysis.choice import Choice
from loopmorph.passes.history import parse_steps
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherit import inherit
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.gates import Chosen
from loopmorph.pipelines.search.joint.trial_store import Forgetful
from loopmorph.pipelines.search.joint.truth import JudgedTruth
from loopmorph.pipelines.search.report import Report
from loopmorph.pipelines.search.summary import Asked, Found, summarise
from loopmorph.pipelines.search.tuner import Tuned, TunedPair, Tuner
from loopmorph.pipelines.search.tuning_report import TuningReport, report_tuning
from loopmorph.pipelines.search.variants.table import Cost, Variant, VariantTable
from loopmorph.pipelines.support.progress import silent
from loopmorph.pipelines.training.task import Classification
from loopmorph.pipelines.tuning.choice_cache import ChoiceCache
from loopmorph.pipelines.tuning.tune import Budget, TunedLayer, tune_layers
from loopmorph.tools.tuning_lines import tuning_lines

LANES = native_target().lanes
ENOUGH = 120.0
SMALLER = "morph-bottleneck{layer=0 iter=co factor=2}"


@pytest.fixture(scope="module")
def program() -> Program:
    """Three layers with two register blocks each; the first two change together."""
    torch.manual_seed(0)
    widths = (LANES, 2 * LANES, LANES, LANES)
    layers = [nn.Conv2d(*each, 1, bias=False) for each in pairwise(widths)]
    return import_model(nn.Sequential(*layers).eval(), (torch.randn(1, LANES, 1, 2),))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChoiceCache]:
    """Where what one test has measured serves the next."""
    with closing(ChoiceCache(tmp_path_factory.mktemp("choices"))) as cache:
        yield cache


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@dataclass
class NetworkMeter:
    """Seconds of whole networks by their steps, 1.0 where nothing is said; remembers what was asked of it."""

    seconds: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)

    def layer(self, original: Network, rewritten: Network, layer: str) -> PairTime:
        return PairTime(1.0, 1.0)

    def network(self, original: Network, rewritten: Network) -> PairTime:
        self.asked.append((original.steps, rewritten.steps))
        return PairTime(*(self.seconds.get(steps, 1.0) for steps in self.asked[-1]))


def chosen(steps: tuple[str, ...]) -> list[str]:
    """The layers that `morph-choose` is on."""
    return [text.split()[0].partition("layer=")[2] for text in steps if text.startswith("morph-choose{")]


# ---- which code networks get


def test_networks_are_timed_with_tuned_code_against_the_tuned_original(
    program: Program, worker: Worker, cache: ChoiceCache
) -> None:
    meter, store, smaller = NetworkMeter({(SMALLER,): 0.5}), Forgetful(), parse_steps(SMALLER)
    judging = replace(judge(program, gate=Gate("none")), meter=meter)
    truth = JudgedTruth(judging, 8.0, store, tuner=Tuner(program, ENOUGH, worker, cache))
    assert truth.milliseconds(smaller) == 8.0
    ((baseline, (first, *others)),) = meter.asked
    assert chosen(baseline) == ["0", "1", "2"] and first == SMALLER and chosen(tuple(others)) == ["0", "1", "2"]
    assert others[2] == baseline[2]  # a layer that no step has changed has one code
    assert truth.milliseconds(smaller) == 8.0 and len(meter.asked) == 1
    untuned = JudgedTruth(judging, 8.0, store)
    assert untuned.milliseconds(smaller) == 4.0 and meter.asked[1:] == [((), (SMALLER,))]


def test_programs_share_the_seconds_and_what_was_measured(program: Program, worker: Worker, cache: ChoiceCache) -> None:
    budget = Budget(ENOUGH)
    layers = tune_layers(program, budget, worker, cache)
    assert [each.layer for each in layers] == ["0", "1", "2"]
    with Worker() as idle:
        nothing = Budget(0.0)
        assert tune_layers(program, nothing, idle, cache) == layers
        other = tune_layers(program.apply(SMALLER), nothing, idle)
        assert other == () and idle.pid is None and nothing.left < 0
    assert all(each.by_model.block and each.choice.block for each in layers) and 0 < budget.left < ENOUGH


def test_after_an_interrupt_nothing_more_is_measured(program: Program, tmp_path: Path) -> None:
    told: list[int] = []

    def interrupt_once(stage: str, done: int, of: int) -> None:
        told.append(done)
        if len(told) == 1:
            raise KeyboardInterrupt

    with Worker() as idle, closing(ChoiceCache(tmp_path)) as nothing:
        tuner = Tuner(program, ENOUGH, idle, nothing, interrupt_once)
        with pytest.raises(KeyboardInterrupt):
            tuner.original()
        assert tuner.original().layers == tuner.tuned(program.apply(SMALLER)).layers == ()
        assert tuner.original().program is program and idle.pid is None and len(told) > 1


# ---- what is said of it


def test_a_tuned_result_is_compared_with_the_tuned_original(plain: Program) -> None:
    choice = TunedLayer("conv1", Choice("direct", "1x4x1"), Choice("direct", "1x2x1"))
    made, other = plain.apply(GROUP), plain.after([choice.step])
    result = made.after([choice.step])
    tuned = TunedPair(3.0, Tuned(plain, (choice,), other), Tuned(made, (choice,), result))
    task = Classification(Batch(torch.randn(4, 3, 8, 8), torch.arange(4), 10, "random images"))
    found = Found(plain, result, inherit(plain, made, "slice", task.inputs), [], False, tuned=tuned)
    judging = replace(judge(plain), meter=NetworkMeter({(): 8, other.steps: 6, made.steps: 4, result.steps: 2}))
    made_of_it = summarise(found, Asked("net", 1, native_target(), 0), task, Chosen(judging.gate), judging, silent)
    assert (made_of_it.baseline_ms, made_of_it.optimized_ms, made_of_it.speedup) == (6000, 2000, 3)
    tuning = made_of_it.tuning
    assert tuning is not None and [each.name for each in tuning.result.layers] == ["conv1"]
    assert (tuning.original.untuned_ms, tuning.original.tuned_ms, tuning.original.speedup) == (8000, 6000, 8 / 6)
    assert (tuning.result.untuned_ms, tuning.result.tuned_ms, tuning.result.speedup) == (4000, 2000, 2)


def test_a_table_of_slower_code_has_other_times_alone() -> None:
    row = Variant(("x",), frozenset("a"), Cost(-2.0, -100, -10, -1), 0.5)
    made = VariantTable("net", "kl", "cpu", 1, Cost(8.0, 1000, 100, 10), (row,))
    scaled = made.scaled(0.75)
    assert scaled.original == Cost(6.0, 1000, 100, 10)
    assert scaled.variants == (replace(row, change=Cost(-1.5, -100, -10, -1)),)


def report(program: Program, times: dict[str, PairTime]) -> TuningReport:
    """Of two layers of which one is faster otherwise."""
    model, other = Choice("winograd2", "1x4x2"), Choice("direct", "1x4x4")
    layers = TunedLayer("0", other, model), TunedLayer("1", model, model)
    tuned = Tuned(program, layers, program), Tuned(program, layers[1:], program)
    return report_tuning(TunedPair(9.0, *reversed(tuned)), times)


def test_a_report_says_what_tuning_gained_and_of_which_layers(program: Program) -> None:
    made = report(program, {"original": PairTime(0.004, 0.003), "result": PairTime(0.002, 0.001)})
    content = json.loads(Report("m", "d", {}, 1, 1, 1, 1, (), tuning=made).to_json())["tuning"]
    layer = {"name": "0", "algorithm": "direct", "register_block": "1x4x4"}
    layer |= {"default_algorithm": "winograd2", "default_register_block": "1x4x2"}
    times = {"untuned_ms": 2.0, "tuned_ms": 1.0, "speedup": 2.0}
    assert content["seconds"] == 9.0 and content["result"] == {**times, "layers_measured": 2, "layers": [layer]}
    assert (content["original"]["tuned_ms"], content["original"]["layers"]) == (3.0, [])
    assert tuning_lines(made) == [
        "gained by 9 s of tuning each: original 4 ms -> 3 ms (1.33x); result 2 ms -> 1 ms (2.00x)",
        "1 of 2 tuned layers of the result are computed in another way: 0 winograd2 1x4x2 -> direct 1x4x4",
    ]


def test_what_an_interrupt_left_out_is_not_timed(program: Program) -> None:
    made = report(program, {"original": PairTime(0.004, 0.003)})
    assert made.result.tuned_ms is made.result.speedup is None and made.result.layers_measured == 2
    assert tuning_lines(made)[0].endswith("original 4 ms -> 3 ms (1.33x); result not timed")


def test_a_long_list_of_layers_is_cut(program: Program) -> None:
    made = report(program, {})
    many = replace(made.result, layers=made.result.layers * 8)
    assert tuning_lines(replace(made, result=many))[1].endswith("; 2 more in report.json")
