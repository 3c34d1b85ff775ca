"""The additive model against brute force: the optimum, its proof, what is refused, the whole front."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_tables import blocks_table, choices, table, variant

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.search.joint.knapsack import (
    MILLISECONDS,
    Limits,
    Problem,
    Selection,
    is_within,
    least,
    selection_of,
    solve,
)
from loopmorph.pipelines.search.joint.pareto import front
from loopmorph.pipelines.search.variants.dominance import undominated
from loopmorph.pipelines.search.variants.table import VariantTable

LAYERS = ("a", "b", "c")
# Of two layers as well, so that the layers are no separate classes; whole numbers, so that sums are exact.
PLACES = ("a", "b", "c", "a b", "b c", "a b c")


@st.composite
def tables(draw: st.DrawFn) -> VariantTable:
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from(PLACES), st.integers(-30, 5), st.integers(0, 20), st.integers(-300, 50)),
            max_size=9,
        )
    )
    return table(*(variant(place, time, loss, parameters=size) for place, time, loss, size in rows))


def every_choice(made: VariantTable) -> list[Selection]:
    """All choices of which no two variants share a layer."""
    found = []
    indices = range(len(made.variants))
    for count in range(len(LAYERS) + 1):
        for chosen in itertools.combinations(indices, count):
            layers = [layer for each in chosen for layer in made.variants[each].layers]
            if len(layers) == len(set(layers)):
                found.append(selection_of(Problem(made), chosen))
    return found


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(40, 110), st.integers(500, 1100))
def test_the_least_loss_within_limits_is_found_and_proved(made: VariantTable, time: int, size: int) -> None:
    limits = Limits(milliseconds=time, parameters=size)
    allowed = [each for each in every_choice(made) if is_within(each, limits)]
    found = solve(Problem(made, limits))
    if not allowed:
        assert found is None
        return
    assert found is not None and is_within(found, limits)
    assert found.loss == min(each.loss for each in allowed)
    assert found.gap == 0 and found.bound == pytest.approx(found.loss, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(0, 40))
def test_the_least_time_within_a_loss_is_found(made: VariantTable, loss: int) -> None:
    limits = Limits(loss=loss)
    expected = min(each.cost.milliseconds for each in every_choice(made) if is_within(each, limits))
    found = solve(Problem(made, limits), MILLISECONDS)
    assert found is not None and is_within(found, limits)
    assert found.cost.milliseconds == expected and found.bound == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(tables(), st.lists(st.integers(1, 8), min_size=9, max_size=9))
def test_other_losses_take_the_place_of_the_variants_own(made: VariantTable, weights: list[int]) -> None:
    losses = tuple(w * each.loss for w, each in zip(weights, made.variants, strict=False))
    problem = Problem(made, Limits(milliseconds=80), losses)
    allowed = [selection_of(problem, each.indices) for each in every_choice(made) if each.cost.milliseconds <= 80]
    found = solve(problem)
    assert (found is None) == (not allowed)
    assert found is None or found.loss == min(each.loss for each in allowed)


@settings(max_examples=30, deadline=None)
@given(tables())
def test_the_front_is_the_whole_front(made: VariantTable) -> None:
    points = {(each.cost.milliseconds, each.loss) for each in every_choice(made)}
    efficient = {
        point for point in points if not any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in points)
    }
    found = [(each.cost.milliseconds, each.loss) for each in front(Problem(made))]
    assert found == sorted(efficient, reverse=True)


def test_points_of_the_front_are_on_it() -> None:
    made = blocks_table(3, 5, seed=0)
    whole = {each.indices: each for each in front(Problem(made))}
    some = front(Problem(made), points=5)
    assert 3 <= len(some) <= 6
    ends = front(Problem(made), points=1)
    assert ends[0].loss == 0 and ends[-1].cost.milliseconds == min(e.cost.milliseconds for e in whole.values())
    for each in some:
        nearest = min(whole.values(), key=lambda other: abs(other.cost.milliseconds - each.cost.milliseconds))
        assert each.loss == pytest.approx(nearest.loss, rel=1e-3)


def test_the_best_choices_are_different_and_ascend() -> None:
    made = blocks_table(2, 5, seed=1)
    problem = Problem(made, Limits(milliseconds=30))
    kept = undominated(
        [each.layers for each in made.variants],
        np.stack([problem.values("loss"), problem.values(MILLISECONDS)], axis=1),
    )
    expected = sorted(
        math.fsum(made.variants[k].loss for k in each)
        for each in choices(made)
        if set(each) <= set(kept.tolist()) and is_within(selection_of(problem, each), problem.limits)
    )
    found: list[Selection] = []
    while len(found) < 6 and (another := solve(problem)) is not None:
        found.append(another)
        problem = replace(problem, excluded=(*problem.excluded, frozenset(another.indices)))
    assert len({each.indices for each in found}) == len(found)
    assert [each.loss for each in found] == pytest.approx(expected[: len(found)])
    assert len(found) == min(6, len(expected))


def test_what_does_not_go_together_is_not_chosen_together() -> None:
    made = table(variant("a", -10, 1), variant("b", -10, 1), variant("a", -10, 5), variant("b", -10, 7))
    problem = Problem(made, Limits(milliseconds=80))
    assert least(problem).indices == (0, 1)
    apart = Problem(made, Limits(milliseconds=80), apart=(frozenset({0, 1}),))
    assert least(apart).indices == (1, 2)
    alone = Problem(made, Limits(milliseconds=80), apart=(frozenset({0}), frozenset({1})))
    assert least(alone).indices == (2, 3)


def test_a_choice_near_another_brings_in_few() -> None:
    made = table(*(variant(place, -10, loss) for place in "abcd" for loss in (1, 5)))
    parent = frozenset({1, 3, 5, 7})
    found = solve(Problem(made, Limits(milliseconds=60), near=parent, most_new=1))
    assert found is not None and (len(set(found.indices) - parent), found.loss) == (1, 16)


def test_an_excluded_choice_is_not_made_again_but_what_holds_it_is() -> None:
    made = table(variant("a", -10, 1), variant("b", -10, 1))
    first = least(Problem(made, Limits(milliseconds=90)))
    second = solve(Problem(made, Limits(milliseconds=90), excluded=(frozenset(first.indices),)))
    both = solve(Problem(made, Limits(milliseconds=90), excluded=(frozenset({0}), frozenset({1}))))
    assert second is not None and both is not None
    assert {first.indices, second.indices} == {(0,), (1,)} and both.indices == (0, 1)
    without_nothing = Problem(made, Limits(), excluded=(frozenset(),))
    assert solve(without_nothing) is None  # in losses alone, nothing is better than either
    other = solve(without_nothing, reduced=False)
    assert other is not None and len(other.indices) == 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(milliseconds=50), r"'milliseconds': 50 is out of reach: the least that the variants reach is 70$"),
        (Limits(parameters=100), r"'parameters': 100 is out of reach: the least that the variants reach is 400$"),
        (
            Limits(milliseconds=75, parameters=500),
            r"'milliseconds': 75 is out of reach beside parameters 500: .* 90$",
        ),
        (Limits(milliseconds=0), r"'milliseconds': expected a positive number as its limit, got 0$"),
        (Limits(memory=math.nan), r"'memory': expected a positive number as its limit, got nan$"),
        (Limits(milliseconds=math.inf), r"'milliseconds': expected a positive number as its limit, got inf$"),
        (Limits(loss=-1), r"'loss': expected a positive number as its limit, got -1$"),
    ],
)
def test_limits_out_of_reach_are_refused_and_the_least_is_told(limits: Limits, reason: str) -> None:
    made = table(variant("a", -20, 3, parameters=0), variant("b", -10, 1), variant("a", 0, 1, parameters=-600))
    with pytest.raises(ArgumentError, match=reason):
        least(Problem(made, limits))


def test_limits_that_exclude_each_other_are_told_apart() -> None:
    made = table(variant("a", -20, 3), variant("a", 5, 1, parameters=-600), variant("a", 6, 1, memory=-(10**5)))
    limits = Limits(milliseconds=80, parameters=400, memory=9e5)
    with pytest.raises(ArgumentError, match=r"'milliseconds': its limit and those of the others \(parameters 400"):
        least(Problem(made, limits))


def test_of_nothing_nothing_is_chosen() -> None:
    empty = table()
    assert least(Problem(empty)).indices == () and front(Problem(empty))[0].cost.milliseconds == 100
    with pytest.raises(ArgumentError, match=r"'milliseconds': 50 is out of reach: .* is 100$"):
        least(Problem(empty, Limits(milliseconds=50)))


def test_only_what_another_stands_for_is_left_out() -> None:
    made = [
        variant("a b", -10, 2),  # stays
        variant("a b", -10, 2),  # equal to the first
        variant("a b", -9, 1),  # less harm
        variant("a", -10, 2),  # of fewer layers: stands for the first two
        variant("c", 1, 0),  # no better than nothing
        variant("b", -1, 3),
    ]
    problem = Problem(table(*made))
    measures = [[each.loss, each.change.milliseconds] for each in problem.table.variants]
    layers = [each.layers for each in made]
    numbers = np.array(measures, dtype=float)
    assert undominated(layers, numbers).tolist() == [2, 3, 5]
    assert undominated(layers, numbers, never=[3]).tolist() == [0, 2, 3, 5]
    assert undominated(layers, numbers, always=[4]).tolist() == [2, 3, 4, 5]
