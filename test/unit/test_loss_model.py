"""Losses predicted from signals: the monotone curve, its interval, the choice of signals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopmorph.pipelines.legality.loss_model import (
    FOLDS,
    NOISE,
    CrossFit,
    Floats,
    LossModel,
    choose_fit,
    points,
    stabilised,
)


def column(*values: float) -> Floats:
    return np.array(values, dtype=float)[:, None]


def predicted(model: LossModel, *values: float) -> list[float]:
    return points(model.predict(column(*values))).tolist()


def simulated(count: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Signals (count, 1) over three decades, and losses that grow and scatter with them; some are negative."""
    signals = np.exp(generator.uniform(math.log(0.002), math.log(2), count))
    losses = NOISE * np.sinh(2 * np.log1p(10 * signals) + generator.normal(0, 0.7, count))
    return signals[:, None], losses


def test_losses_in_order_are_met_exactly() -> None:
    losses = [-0.1, 0.0, 0.4, 3.0]
    model = LossModel.fit(column(0.01, 0.02, 0.3, 1.0), np.array(losses))
    assert predicted(model, 0.01, 0.02, 0.3, 1.0) == pytest.approx(losses)


def test_between_two_networks_it_is_a_straight_line_over_the_logarithm() -> None:
    model = LossModel.fit(column(0.01, 1.0), np.array([0.2, 5.0]))
    middle = (stabilised(np.array(0.2)) + stabilised(np.array(5.0))) / 2
    assert predicted(model, 0.1) == pytest.approx([float(points(middle))])


def test_what_is_out_of_order_is_drawn_together_at_its_mean() -> None:
    model = LossModel.fit(column(0.001, 0.01, 1.0, 10.0), np.array([0.0, 2.0, 1.0, 6.0]))
    pooled = float(points(stabilised(np.array([2.0, 1.0])).mean()))
    assert predicted(model, 0.1) == pytest.approx([pooled])  # the middle of 0.01 and 1 over the logarithm
    assert predicted(model, 0.001)[0] < predicted(model, 0.01)[0] < pooled < predicted(model, 1.0)[0]


def test_equal_signals_are_one_place() -> None:
    model = LossModel.fit(column(0.1, 0.1, 0.1, 1.0), np.array([0.0, 0.0, 0.6, 0.3]))
    assert predicted(model, 0.1) == pytest.approx([float(points(stabilised(np.array([0.0, 0.0, 0.6])).mean()))])


def test_it_is_constant_beyond_the_ends() -> None:
    model = LossModel.fit(column(0.1, 1.0), np.array([0.5, 2.0]))
    assert predicted(model, 0.0, 0.01, 5.0) == pytest.approx([0.5, 0.5, 2.0])


def test_signals_that_are_all_equal_or_zero_give_the_mean() -> None:
    mean = float(points(stabilised(np.array([0.0, 1.0])).mean()))
    for value in (0.0, 0.3):
        assert predicted(LossModel.fit(column(value, value), np.array([0.0, 1.0])), value) == pytest.approx([mean])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100), st.floats(-1, 50)), min_size=2, max_size=12),
    low=st.tuples(st.floats(0, 20), st.floats(0, 200)),
    more=st.tuples(st.floats(0, 20), st.floats(0, 200)),
)
def test_worse_signals_never_predict_less(
    rows: list[tuple[float, float, float]], low: tuple[float, float], more: tuple[float, float]
) -> None:
    table = np.array(rows)
    model = LossModel.fit(table[:, :2], table[:, 2])
    here, there = np.array([low]), np.array([low]) + np.array([more])
    assert model.predict(here)[0] <= model.predict(there)[0] + 1e-9
    assert stabilised(table[:, 2]).min() - 1e-9 <= model.predict(here)[0] <= stabilised(table[:, 2]).max() + 1e-9


def test_the_unit_of_a_signal_does_not_matter() -> None:
    signals, losses = simulated(20, np.random.default_rng(0))
    other = LossModel.fit(1000 * signals, losses)
    at = np.array([[0.0005], [0.01], [0.3]])
    assert other.predict(1000 * at) == pytest.approx(LossModel.fit(signals, losses).predict(at))


@pytest.mark.parametrize("count", [12, 40])
def test_intervals_hold_the_share_that_they_promise(count: int) -> None:
    """Of 20 networks each, predicted by 30 calibrations; usual, not guaranteed, is the level itself."""
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(30):
        fit = CrossFit.fit(*simulated(count, generator))
        for signals, loss in zip(*simulated(20, generator), strict=True):
            low, high = fit.interval(signals, 0.9)
            inside += low <= loss <= high
    assert 0.87 <= inside / 600 <= 0.95


def test_the_interval_widens_with_the_signal() -> None:
    fit = CrossFit.fit(*simulated(60, np.random.default_rng(2)))
    ends = [fit.interval(np.array([signal]), 0.9) for signal in (0.01, 0.1, 1.0)]
    widths = [high - low for low, high in ends]
    assert widths[0] < widths[1] < widths[2]


def test_a_higher_level_is_a_wider_interval_around_what_is_expected() -> None:
    fit = CrossFit.fit(*simulated(40, np.random.default_rng(3)))
    at = np.array([0.2])
    (low, high), (lower, higher) = fit.interval(at, 0.5), fit.interval(at, 0.95)
    assert lower < low <= fit.expected(at) <= high < higher


def test_too_few_networks_bound_nothing() -> None:
    signals, losses = simulated(9, np.random.default_rng(4))
    inside = np.sort(signals[:, 0])[4:5]
    assert all(map(math.isfinite, CrossFit.fit(signals, losses).interval(inside, 0.9)))
    assert CrossFit.fit(signals[:8], losses[:8]).interval(inside, 0.9) == (-math.inf, math.inf)


def test_beyond_all_networks_the_worst_of_them_is_the_least() -> None:
    fit = CrossFit.fit(column(*range(1, 13)), np.array([0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 9.0, 2.5, 3.0]))
    for value in (12.5, math.inf):
        at = np.array([value])
        low, high = fit.interval(at, 0.9)
        assert fit.is_beyond(at) and fit.expected(at) == 9.0 and high == math.inf and low <= 9.0
    assert not fit.is_beyond(np.array([12.0]))


def test_many_networks_are_left_out_in_parts() -> None:
    signals, losses = simulated(100, np.random.default_rng(5))
    assert len(CrossFit.fit(signals, losses).parts) == FOLDS
    assert len(CrossFit.fit(signals[:20], losses[:20]).parts) == 20


def test_the_signals_that_predict_best_are_chosen() -> None:
    generator = np.random.default_rng(6)
    first, second, noise = (np.exp(generator.normal(0, 1, 40)) for _ in range(3))
    both = NOISE * np.sinh(2 + np.log(first) + np.log(second))
    named = {"noise": noise, "first": first, "second": second}
    assert choose_fit(named, both).names == ("first", "second")
    assert choose_fit(named, NOISE * np.sinh(2 + np.log(second))).names == ("second",)
