"""The joint choice on truths that are given: it finds the best network, stands beside baselines, and resumes."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from joint_tables import GivenTruth, blocks_table, choices, interacting, table, variant
from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.history import Step
from loopmorph.pipelines.search.joint.assembly import IsApplicable, assemble, steps_of
from loopmorph.pipelines.search.joint.at_latency import AtLatency
from loopmorph.pipelines.search.joint.baselines import at_random, baselines, greedy, uniform
from loopmorph.pipelines.search.joint.coefficients import Observation, fit_coefficients
from loopmorph.pipelines.search.joint.joint import JointChoice, choose_jointly
from loopmorph.pipelines.search.joint.joint_loss import JointLoss
from loopmorph.pipelines.search.joint.knapsack import Limits, Problem, is_within, least, selection_of
from loopmorph.pipelines.search.joint.switches import offspring
from loopmorph.pipelines.search.joint.trials import Trial, Trials
from loopmorph.pipelines.search.variants.table import Variant

BOTTLENECK = "morph-bottleneck{{layer={} iter=co factor={}}}"


def true_optimum(truth: GivenTruth, limit: float) -> float:
    """The least joint loss of all choices that keep a limit of measured milliseconds."""
    found = math.inf
    for indices in choices(truth.table):
        steps = steps_of(truth.table, indices)
        if truth.milliseconds(steps) <= limit:
            found = min(found, truth.joint(truth.chosen(steps)))
    return found


def sequence(choice: JointChoice) -> list[tuple[object, ...]]:
    return [(each.origin, each.selection.indices, each.losses, each.milliseconds) for each in choice.trials]


# ---- the whole


@pytest.mark.parametrize("seed", range(3))
def test_of_two_blocks_the_true_optimum_is_found(seed: int) -> None:
    """20 variants each; the joint loss is no sum, and the whole is slower than the table says."""
    made = blocks_table(2, 20, seed)
    truth = GivenTruth(made, interacting(made, seed), noise=0.05, slower=1.04)
    limit = made.original.milliseconds / 2
    choice = choose_jointly(made, truth, Limits(milliseconds=limit), seed=seed)
    assert choice.reached and choice.trial.milliseconds is not None and choice.trial.milliseconds <= limit
    assert choice.trial.kl == pytest.approx(true_optimum(truth, limit))
    assert choice.additive.gap == 0


def test_of_more_blocks_the_choice_is_better_than_the_additive_one_and_every_baseline() -> None:
    made = blocks_table(3, 8, seed=2)
    truth = GivenTruth(made, interacting(made, 2), noise=0.02, slower=0.97)
    choice = choose_jointly(made, truth, Limits(milliseconds=made.original.milliseconds / 2.5), seed=1)
    additive = truth.joint([made.variants[each] for each in choice.additive.indices])
    assert choice.trial.kl < additive
    assert set(choice.baselines) > {"greedy", "random 1"} and len(choice.baselines) == 4
    for each in choice.baselines.values():
        assert each.milliseconds is not None and len(each.losses) == 2
        assert each.kl >= choice.trial.kl or each.milliseconds > (choice.limits.milliseconds or 0)


def test_the_same_seed_gives_the_same_trials_and_an_interrupted_one_its_beginning() -> None:
    made = blocks_table(2, 6, seed=2)
    limits = Limits(milliseconds=made.original.milliseconds / 2)

    def chosen(stop_after: int | None = None, seed: int = 5) -> JointChoice:
        truth = GivenTruth(made, interacting(made, 2), noise=0.05, stop_after=stop_after)
        return choose_jointly(made, truth, limits, seed=seed)

    whole = chosen()
    assert sequence(chosen()) == sequence(whole) != sequence(chosen(seed=6))
    for stop_after in (3, 11):
        part = chosen(stop_after)
        assert part.interrupted and not whole.interrupted
        known = [each for each in sequence(part) if each[2]]
        assert [each[:2] for each in known] == [each[:2] for each in sequence(whole)[: len(known)]]
        assert part.trial.kl == min(each.kl for each in part.trials if is_finished(each, part))


def is_finished(trial: Trial, choice: JointChoice) -> bool:
    limit = choice.limits.milliseconds or math.inf
    return len(trial.losses) == 2 and trial.milliseconds is not None and trial.milliseconds <= limit


def test_interrupted_before_anything_was_judged_it_gives_the_additive_choice() -> None:
    made = blocks_table(2, 6, seed=0)
    truth = GivenTruth(made, interacting(made, 0), stop_after=0)
    choice = choose_jointly(made, truth, Limits(milliseconds=30))
    assert choice.interrupted and choice.trial.selection.indices == choice.additive.indices


@pytest.mark.usefixtures("python_handles_interrupts")
@pytest.mark.parametrize("limit", [30.0, None])
def test_an_interrupt_within_mlir_leaves_what_there_is(limit: float | None) -> None:
    made = blocks_table(2, 6, seed=0)

    class Interrupted(GivenTruth):
        """One interrupt comes while MLIR calls back, which makes another error of it."""

        def loss(self, steps: Sequence[Step], level: int) -> JointLoss:
            if len(self.asked) == 5:
                with ir.Context(), ir.Location.unknown():
                    ir.Module.create().operation.walk(interrupt)
            return super().loss(steps, level)

    choice = choose_jointly(made, Interrupted(made, interacting(made, 0)), Limits(milliseconds=limit), max_loss=1.0)
    assert choice.interrupted and sum(len(each.losses) for each in choice.trials) == 5


def interrupt(_: ir.Operation) -> ir.WalkResult:
    os.kill(os.getpid(), signal.SIGINT)
    return ir.WalkResult.ADVANCE


def test_a_budget_leaves_the_additive_choice_and_the_baselines() -> None:
    made = blocks_table(3, 8, seed=2)
    truth = GivenTruth(made, interacting(made, 2))
    choice = choose_jointly(made, truth, Limits(milliseconds=40), seconds=1e-9)
    origins = {each.origin for each in choice.trials}
    assert origins == {"additive", *choice.baselines} - _shared(choice) and choice.trial.losses


def _shared(choice: JointChoice) -> set[str]:
    """The baselines that are the additive choice itself."""
    return {name for name, each in choice.baselines.items() if each.origin != name}


def test_a_limit_that_no_measured_network_keeps_is_told() -> None:
    made = blocks_table(2, 6, seed=0)
    fastest = min(selection_of(Problem(made), each).cost.milliseconds for each in choices(made))
    truth = GivenTruth(made, interacting(made, 0), slower=1.5)
    choice = choose_jointly(made, truth, Limits(milliseconds=fastest))
    assert not choice.reached and choice.trial.milliseconds == pytest.approx(1.5 * fastest)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            {"limits": Limits(milliseconds=1)},
            r"'milliseconds': 1 is out of reach: the least .* is ",
        ),
        ({"limits": Limits()}, "'limits': neither a latency nor a loss was given"),
        ({"limits": Limits(milliseconds=30), "seconds": 0}, "'seconds': expected a positive number of seconds, got 0"),
        ({"limits": Limits(milliseconds=30), "seed": 0.5}, "'seed': expected an integer"),
        ({"limits": Limits(parameters=1), "max_loss": 1.0}, r"'parameters': 1 is out of reach"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_judged(given: dict[str, Any], reason: str) -> None:
    made = blocks_table(2, 6, seed=0)
    truth = GivenTruth(made, interacting(made, 0))
    with pytest.raises(ArgumentError, match=reason):
        choose_jointly(made, truth, **given)
    assert truth.asked == []


@pytest.mark.parametrize("seed", range(2))
def test_within_a_loss_the_fastest_legal_network_is_found(seed: int) -> None:
    made = blocks_table(2, 8, seed)
    truth = GivenTruth(made, interacting(made, seed), slower=1.02)
    choice = choose_jointly(made, truth, Limits(), max_loss=0.5, seed=seed)
    legal = [
        truth.milliseconds(steps)
        for steps in (steps_of(made, each) for each in choices(made))
        if 20 * truth.joint(truth.chosen(steps)) <= 0.5
    ]
    assert choice.trial.losses[-1].high <= 0.5
    assert choice.trial.milliseconds is not None and min(legal) <= choice.trial.milliseconds <= 1.05 * min(legal)
    assert choice.baselines and choice.limits.milliseconds == choice.trial.milliseconds


@pytest.mark.parametrize("asked", [{"limits": Limits(milliseconds=40)}, {"limits": Limits(), "max_loss": 0.5}])
def test_baselines_can_be_left_out(asked: dict[str, Any]) -> None:
    made = blocks_table(2, 8, seed=1)
    choice = choose_jointly(made, GivenTruth(made, interacting(made, 1)), **asked, with_baselines=False)
    assert choice.steps and not choice.baselines
    assert {each.origin for each in choice.trials} <= {"additive", "coefficients", "switch"}


def test_where_nothing_is_legal_the_original_is_the_choice() -> None:
    made = blocks_table(2, 4, seed=0)
    truth = GivenTruth(made, lambda chosen: 100.0 * len(chosen))
    choice = choose_jointly(made, truth, Limits(), max_loss=0.5)
    assert choice.steps == () and choice.trial.selection.cost == made.original


# ---- assembling


def test_a_variant_that_the_network_does_not_admit_is_dropped_and_not_chosen_with_the_other_again() -> None:
    cheap = [variant(f"b{k}.c1", -10, 0.01, BOTTLENECK.format(f"b{k}.c1", 2)) for k in range(3)]
    dear = [variant(f"b{k}.c2", -10, 0.05, BOTTLENECK.format(f"b{k}.c2", 4)) for k in range(3)]
    made = table(*cheap, *dear)
    truth = GivenTruth(made, lambda chosen: sum(each.loss for each in chosen))
    truth.refused = {cheap[2].steps[0]: cheap[0].steps[0]}
    choice = choose_jointly(made, truth, Limits(milliseconds=70))
    dropped = choice.trials[0]
    assert (dropped.dropped, dropped.selection.indices) == ((2,), (0, 1))
    assert choice.trial.kl == pytest.approx(0.07) and choice.trial.dropped == ()
    assert not {0, 2} <= set(choice.trial.selection.indices)


def test_steps_stand_in_program_order_and_how_loops_run_comes_last() -> None:
    first = "morph-split{layer=a iter=ow factor=4}"
    made = table(
        Variant(
            (first, "morph-bottleneck{layer=a iter=ow.0 factor=2}", "morph-interchange{layer=a order=n,co}"),
            frozenset("a"),
            variant("a", 0, 0).change,
            0.0,
        ),
        variant("b", 0, 0, BOTTLENECK.format("b", 2)),
    )
    texts = [str(step) for step in steps_of(made, (1, 0))]
    assert texts == [first, *made.variants[0].steps[1:2], *made.variants[1].steps, *made.variants[0].steps[2:]]


def test_culprits_are_found_one_by_one() -> None:
    made = table(*(variant(place, -1, 1, BOTTLENECK.format(place, 2)) for place in "abc"))
    a, b, c = (each.steps[0] for each in made.variants)

    def admits(refused: Sequence[set[str]]) -> IsApplicable:
        return lambda steps: not any(each <= {str(step) for step in steps} for each in refused)

    alone = assemble(made, (0, 1, 2), admits([{b}]))
    assert (alone.kept, alone.dropped, alone.apart) == ((0, 2), (1,), (frozenset({1}),))
    pair = assemble(made, (0, 1, 2), admits([{b, c}]))
    assert (pair.kept, pair.apart) == ((0, 1), (frozenset({1, 2}),))
    three = assemble(made, (0, 1, 2), admits([{a, b, c}]))
    assert (three.kept, three.apart) == ((0, 1), (frozenset({0, 1, 2}),))


def test_few_questions_find_what_does_not_go_together() -> None:
    made = blocks_table(100, 1, seed=0)
    texts = [",".join(each.steps) for each in made.variants]
    refused = [{texts[17]}, {texts[40], texts[90]}]
    asked: list[int] = []

    def admits(steps: Sequence[Step]) -> bool:
        asked.append(len(steps))
        return not any(each <= {str(step) for step in steps} for each in refused)

    found = assemble(made, range(100), admits)
    assert (found.dropped, found.apart) == ((17, 90), (frozenset({17}), frozenset({40, 90})))
    assert found.kept == tuple(k for k in range(100) if k not in (17, 90)) and len(asked) < 45


def test_what_cannot_be_judged_costs_one_trial() -> None:
    made = blocks_table(2, 6, seed=0)

    class Failing(GivenTruth):
        def milliseconds(self, steps: Sequence[Step]) -> float:
            if [str(step) for step in steps] == doomed:
                raise CompilationFailed("the worker was killed")
            return super().milliseconds(steps)

    doomed: list[str] = []
    limits = Limits(milliseconds=30)
    doomed += map(str, steps_of(made, least(Problem(made, limits)).indices))
    choice = choose_jointly(made, Failing(made, interacting(made, 0)), limits)
    assert choice.trials[0].failure == "the worker was killed"
    assert choice.reached and not choice.trial.failure


# ---- baselines


def test_uniform_choices_are_the_same_step_everywhere() -> None:
    made = table(
        *(variant(place, -10, 1, BOTTLENECK.format(place, 2), "bottleneck") for place in "ab"),
        *(variant(place, -20, 3, BOTTLENECK.format(place, 4), "bottleneck") for place in "abc"),
        variant("a", -30, 9, "morph-group{layer=a iters=co,ci factor=2}", "group"),
        variant("a b", -1, 1, BOTTLENECK.format("a", 2), "bottleneck"),  # shares a layer with the first
    )
    found = uniform(Problem(made), "bottleneck")
    assert {name: each.indices for name, each in found.items()} == {
        "uniform bottleneck co 2": (0, 1),
        "uniform bottleneck co 4": (2, 3, 4),
    }
    judged = baselines(Problem(made, Limits(milliseconds=75)), Random(0))
    assert judged["uniform bottleneck co 4"].indices == (2, 3, 4)
    assert judged["uniform group co,ci 2"].indices == (5,)  # it is not fast enough, and stands there all the same
    assert "uniform bottleneck co 2" not in judged


def test_greedy_takes_the_most_milliseconds_for_a_loss_first() -> None:
    made = table(variant("a", -10, 1), variant("a", -30, 4), variant("b", -18, 2), variant("a b", -45, 20))
    expected = {95: (0,), 75: (0, 2), 60: (1, 2), 51: None}
    for limit, indices in expected.items():
        found = greedy(Problem(made, Limits(milliseconds=limit)))
        assert (None if found is None else found.indices) == indices


@pytest.mark.parametrize("seed", range(4))
def test_a_random_choice_keeps_the_limits(seed: int) -> None:
    made = blocks_table(5, 10, seed)
    problem = Problem(made, Limits(milliseconds=made.original.milliseconds / 2))
    first, again = (at_random(problem, Random(seed)) for _ in range(2))
    assert first is not None and first == again and is_within(first, problem.limits)
    assert at_random(Problem(made, Limits(milliseconds=1)), Random(seed)) is None


# ---- coefficients and switches


def test_coefficients_are_learned_from_assembled_networks() -> None:
    made = blocks_table(4, 8, seed=3)
    layers = sorted({layer for each in made.variants for layer in each.layers})
    draw = Random(1)
    true = {layer: math.exp(draw.gauss(0.0, 0.5)) for layer in layers}
    observations = []
    for _ in range(200):
        chosen = at_random(Problem(made, Limits(milliseconds=draw.uniform(35, 60))), draw)
        assert chosen is not None
        loss = 3 * sum(
            each.loss * sum(true[layer] for layer in each.layers) / len(each.layers) for each in chosen.variants
        )
        observations.append(Observation(chosen.indices, loss * math.exp(draw.gauss(0.0, 0.02))))
    found = fit_coefficients(made, observations)
    expected = np.array([true[layer] * 3 for layer in layers])
    assert np.corrcoef(np.log(expected), [math.log(found.of_layer[layer]) for layer in layers])[0, 1] > 0.9
    known = fit_coefficients(made, observations[:3])
    assert np.trace(found.spread @ found.spread.T) < 0.6 * np.trace(known.spread @ known.spread.T)


def test_without_observations_every_layer_counts_alike() -> None:
    made = blocks_table(2, 4, seed=0)
    said_nothing = [Observation((), 0.0), Observation((0,), math.inf), Observation((0,), 0.0)]
    found = fit_coefficients(made, said_nothing)
    assert set(found.of_layer.values()) == {1.0} and found.scale == 1.0
    assert found.losses(made) == pytest.approx([each.loss for each in made.variants])
    draws = [found.sampled(Random(seed)).of_layer for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_offspring_keep_the_limits_and_bring_in_two_at_most() -> None:
    made = blocks_table(5, 8, seed=1)
    problem = Problem(made, Limits(milliseconds=made.original.milliseconds / 2))
    parent = least(problem)
    problem = replace(problem, excluded=(frozenset(parent.indices),))
    brood = list(offspring(problem, fit_coefficients(made, []), parent, Random(0), 12))
    assert len({each.indices for each in brood}) == 12 and parent.indices not in {each.indices for each in brood}
    for each in brood:
        assert len(set(each.indices) - set(parent.indices)) <= 2 and is_within(each, problem.limits)
    tiny = table(variant("a", -10, 1), variant("a", -10, 2))
    few = Problem(tiny, Limits(milliseconds=95), excluded=(frozenset({0}),))
    assert len(list(offspring(few, fit_coefficients(tiny, []), selection_of(few, (0,)), Random(0), 5))) == 1


@pytest.mark.parametrize("seed", range(3))
def test_switches_never_make_it_worse(seed: int) -> None:
    made = blocks_table(3, 6, seed)
    truth = GivenTruth(made, interacting(made, seed, 5.0), noise=0.3)  # few images say little
    search = AtLatency(Trials(made, truth), Limits(milliseconds=made.original.milliseconds / 2), seed, lambda: False)
    search.settle()
    before = search.best()
    search.switch()
    after = search.best()
    assert before is not None and after is not None and after.kl <= before.kl
    assert after.milliseconds is not None and after.milliseconds <= search.limit


# ---- what is kept


def test_trials_of_one_latency_serve_the_next() -> None:
    made = blocks_table(2, 6, seed=0)
    truth = GivenTruth(made, interacting(made, 0))
    trials = Trials(made, truth)
    for limit in (30, 25, 30):
        choose_jointly(made, truth, Limits(milliseconds=limit), trials=trials)
    assert len(set(truth.asked)) == len(truth.asked)
