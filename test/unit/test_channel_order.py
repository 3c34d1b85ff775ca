"""Orders of channels: exact where that can be counted out, as they were planted, and never worse than none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.oracle import channel_order
from loopmorph.pipelines.oracle.channel_order import GroupedLayer, order_channels
from loopmorph.pipelines.oracle.grouped_error import RIDGE, Moments, principal_moments

Parts = Sequence[Sequence[int]]


def random_layer(seed: int, outputs: int = 6, channels: int = 6, taps: int = 2, groups: int = 2) -> GroupedLayer:
    rng = np.random.default_rng(seed)
    reads = channels * taps
    samples = rng.standard_normal((100, reads)) @ rng.standard_normal((reads, reads))
    weight = rng.standard_normal((outputs, channels, taps))
    return GroupedLayer(samples.T @ samples / 100, weight, groups, "in", "out")


def planted(seed: int, channels: int, groups: int, taps: int, noise: float = 0.0) -> GroupedLayer:
    """A layer that is grouped but for some noise, with its channels and outputs shuffled."""
    rng = np.random.default_rng(seed)
    gram, weight = np.zeros((channels * taps,) * 2), noise * rng.standard_normal((channels, channels, taps))
    for part in np.split(np.arange(channels), groups):
        rows = tap_rows(part, taps)
        samples = rng.standard_normal((3 * len(rows), len(rows)))
        gram[np.ix_(rows, rows)] = samples.T @ samples / len(samples)
        weight[np.ix_(part, part)] = rng.standard_normal((len(part), len(part), taps))
    inputs, outputs = rng.permutation(channels), rng.permutation(channels)
    rows = tap_rows(inputs, taps)
    return GroupedLayer(gram[np.ix_(rows, rows)], weight[outputs][:, inputs], groups, "in", "out")


def tap_rows(channels: Sequence[int] | np.ndarray, taps: int) -> np.ndarray:
    return (np.asarray(channels)[:, None] * taps + np.arange(taps)).ravel()


def reference_error(layer: GroupedLayer, inputs: Parts, outputs: Parts) -> float:
    """tr W_O (G - G[:, I] (G[I, I] + ridge)^-1 G[I, :]) W_O^T over all groups, relative to tr W G W^T."""
    gram = layer.gram
    flat = layer.weight.reshape(len(layer.weight), -1)
    taps = layer.weight[0, 0].size
    ridge = RIDGE * np.trace(gram) / len(gram)
    error = 0.0
    for channels, computed in zip(inputs, outputs, strict=True):
        rows = tap_rows(list(channels), taps)
        inverse = np.linalg.inv(gram[np.ix_(rows, rows)] + ridge * np.eye(len(rows)))
        left = gram - gram[:, rows] @ inverse @ gram[rows]
        error += np.trace(flat[list(computed)] @ left @ flat[list(computed)].T)
    return float(error / np.trace(flat @ gram @ flat.T))


def parts(order: Sequence[int], groups: int) -> Parts:
    return np.array(order).reshape(groups, -1).tolist()


def halves(count: int) -> list[Parts]:
    """All ways to cut 0 .. count-1 in two, as (first, second)."""
    everything = range(count)
    return [(h, [k for k in everything if k not in h]) for h in itertools.combinations(everything, count // 2)]


# ---- against all that there is


@pytest.mark.parametrize("seed", range(6))
def test_outputs_are_assigned_exactly(seed: int) -> None:
    layer = random_layer(seed, groups=3)
    found = order_channels([layer], fixed=["in"])
    inputs = parts(range(6), 3)
    every = (parts(order, 3) for order in itertools.permutations(range(6)))
    best = min(reference_error(layer, inputs, outputs) for outputs in every)
    assert found.orders["in"] == tuple(range(6))
    assert found.after[0] == pytest.approx(best, rel=1e-9)
    assert reference_error(layer, inputs, parts(found.orders["out"], 3)) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("outputs", "channels"), [(4, 4), (4, 6), (6, 4)])
def test_both_sides_against_all_halves(seed: int, outputs: int, channels: int) -> None:
    layer = random_layer(seed, outputs, channels, taps=1 + seed % 3)
    found = order_channels([layer])
    pairs = itertools.product(halves(channels), halves(outputs))
    best = min(reference_error(layer, inputs, computed) for inputs, computed in pairs)
    assert found.after[0] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_inputs_against_all_halves(seed: int) -> None:
    layer = random_layer(seed)
    found = order_channels([layer], fixed=["out"])
    best = min(reference_error(layer, inputs, parts(range(6), 2)) for inputs in halves(6))
    assert found.orders["out"] == tuple(range(6))
    assert found.after[0] == pytest.approx(best, rel=1e-9)


def test_errors_are_those_of_the_definition() -> None:
    layer = random_layer(0, outputs=8, channels=12, taps=3, groups=4)
    found = order_channels([layer])
    before = reference_error(layer, parts(range(12), 4), parts(range(8), 4))
    after = reference_error(layer, parts(found.orders["in"], 4), parts(found.orders["out"], 4))
    assert found.before[0] == pytest.approx(before, rel=1e-9)
    assert found.after[0] == pytest.approx(after, rel=1e-9)


def test_marginals_are_differences_of_what_is_explained() -> None:
    layer = random_layer(1, outputs=4, channels=6, taps=2)
    moments = Moments.of(layer.gram, layer.weight)
    groups, outputs = np.array([[0, 2, 5], [1, 3, 4]]), np.array([[1, 3], [0, 2]])

    def explained(g: int, channels: Sequence[int]) -> float:
        return float(moments.explained(np.sort(channels)[None])[0, outputs[g]].sum())

    expected = [
        [
            explained(g, groups[g]) - explained(g, groups[g][groups[g] != c])
            if c in groups[g]
            else explained(g, [*groups[g], c]) - explained(g, groups[g])
            for c in range(6)
        ]
        for g in range(2)
    ]
    np.testing.assert_allclose(moments.marginals(groups, outputs), expected, rtol=1e-8)


def test_some_outputs_are_explained_as_all_are() -> None:
    moments = Moments.of(GOOD.gram, GOOD.weight)
    groups, outputs = np.array([[0, 2, 5], [1, 3, 4]]), np.array([[1, 3], [0, 5]])
    every = np.take_along_axis(moments.explained(groups), outputs, axis=1)
    np.testing.assert_allclose(moments.explained_of(groups, outputs), every, rtol=1e-12)


# ---- structure


@pytest.mark.parametrize(("channels", "groups", "taps"), [(8, 2, 1), (16, 4, 3), (32, 4, 9)])
def test_a_planted_structure_is_found(channels: int, groups: int, taps: int) -> None:
    found = order_channels([planted(0, channels, groups, taps)])
    assert found.before[0] > 0.3
    assert found.after[0] < 1e-3


def test_features_in_the_place_of_taps_find_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_order, "FEATURES", 32)
    found = order_channels([planted(0, 16, 4, 9, noise=0.01)])
    assert found.after[0] < 2e-3 < 0.3 < found.before[0]


def test_features_explain_at_most_what_taps_do() -> None:
    layer = random_layer(2, taps=5)
    exact = Moments.of(layer.gram, layer.weight)
    channels = np.array([[1, 3, 4]])
    before = np.zeros(6)
    for kept in range(1, 5):
        explained = principal_moments(exact, layer.weight, kept).explained(channels)
        assert explained.sum() > before.sum()
        assert (explained <= exact.explained(channels) * (1 + 1e-3)).all()
        before = explained


@pytest.mark.parametrize("fixed", [[], ["in"], ["out"], ["in", "out"]])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_never_worse_and_fixed_sides_stay(fixed: list[str], groups: int) -> None:
    for seed in range(2):
        layer = random_layer(seed, outputs=8, channels=12, taps=2, groups=groups)
        found = order_channels([layer], fixed)
        assert found.after[0] <= found.before[0]
        assert {name: sorted(order) for name, order in found.orders.items()} == {"in": [*range(12)], "out": [*range(8)]}
        assert all(found.orders[name] == tuple(range(len(found.orders[name]))) for name in fixed)


def test_a_layer_that_is_grouped_already_stays() -> None:
    rng = np.random.default_rng(0)
    weight = np.kron(np.eye(2), np.ones((4, 4)))[..., None] * rng.standard_normal((8, 8, 1))
    found = order_channels([GroupedLayer(np.eye(8), weight, 2, "in", "out")])
    assert found.orders == {"in": tuple(range(8)), "out": tuple(range(8))}
    assert found.before == found.after


# ---- several layers


def chain(seed: int, groups: tuple[int, int] = (2, 2)) -> list[GroupedLayer]:
    first, second = random_layer(seed, taps=1, groups=groups[0]), random_layer(seed + 50, taps=1, groups=groups[1])
    return [
        GroupedLayer(first.gram, first.weight, groups[0], "stream", "inner"),
        GroupedLayer(second.gram, second.weight, groups[1], "inner", "stream"),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_dimension_between_two_layers_is_chosen_for_both(seed: int) -> None:
    layers = chain(seed)
    found = order_channels(layers, fixed=["stream"])
    stays = parts(range(6), 2)
    both = [reference_error(layers[0], stays, h) + reference_error(layers[1], h, stays) for h in halves(6)]
    assert sum(found.after) == pytest.approx(min(both), rel=1e-9)
    assert found.orders["stream"] == tuple(range(6))


def test_shared_dimensions_are_worth_more_than_inner_ones_alone() -> None:
    layers = chain(1)
    inner, both = order_channels(layers, fixed=["stream"]), order_channels(layers)
    assert sum(both.after) < sum(inner.after) < sum(inner.before)
    orders = {name: parts(order, 2) for name, order in both.orders.items()}
    expected = (
        reference_error(layers[0], orders["stream"], orders["inner"]),
        reference_error(layers[1], orders["inner"], orders["stream"]),
    )
    assert both.after == pytest.approx(expected, rel=1e-9)


def test_layers_with_other_numbers_of_groups_share_an_order() -> None:
    layers = chain(1, groups=(2, 3))
    found = order_channels(layers)
    expected = [
        reference_error(layer, parts(found.orders[layer.inputs], n), parts(found.orders[layer.outputs], n))
        for layer, n in zip(layers, (2, 3), strict=True)
    ]
    assert found.after == pytest.approx(expected, rel=1e-9)
    assert sum(found.after) < sum(found.before)


def test_a_layer_that_reads_and_writes_one_dimension() -> None:
    layer = random_layer(4)
    found = order_channels([GroupedLayer(layer.gram, layer.weight, 2, "stream", "stream")])
    best = min(reference_error(layer, h, h) for h in halves(6))
    assert found.after[0] == pytest.approx(best, rel=1e-9)


def test_importance_decides_between_layers() -> None:
    one, other = chain(2)
    alone = order_channels([one], fixed=["stream"])
    heavy = GroupedLayer(one.gram, one.weight, 2, "stream", "inner", importance=1e6)
    assert order_channels([heavy, other], fixed=["stream"]).after[0] == pytest.approx(alone.after[0], rel=1e-6)


# ---- matrices that are no good


def test_dead_channels_and_singular_matrices() -> None:
    layer = random_layer(5, outputs=8, channels=8, taps=2)
    gram = layer.gram.copy()
    gram[2:6] = gram[:, 2:6] = 0  # channels 1 and 2 are always 0
    gram[8:10], gram[:, 8:10] = gram[10:12], gram[:, 10:12]  # channel 4 is channel 5
    gram[8:10, 8:10] = gram[10:12, 10:12]
    found = order_channels([GroupedLayer(gram, layer.weight, 4, "in", "out")])
    assert np.isfinite(found.after).all()
    assert found.after[0] < found.before[0]


@pytest.mark.parametrize("what", ["gram", "weight"])
def test_layers_that_compute_nothing_keep_their_order(what: str) -> None:
    layer = random_layer(0)
    gram = 0 * layer.gram if what == "gram" else layer.gram
    weight = 0 * layer.weight if what == "weight" else layer.weight
    found = order_channels([GroupedLayer(gram, weight, 2, "in", "out")])
    assert found.orders == {"in": tuple(range(6)), "out": tuple(range(6))}
    assert found.before == found.after == (0.0,)


GOOD = random_layer(0)
BAD = [
    (dict(gram=GOOD.gram[:4, :4]), r"'gram': of layer 0: expected the shape \(12, 12\) of its weight, got \(4, 4\)"),
    (dict(gram=np.full((12, 12), np.nan)), "'gram': of layer 0: it holds values that are not finite"),
    (dict(gram=np.triu(GOOD.gram)), "'gram': of layer 0: it is not symmetric"),
    (dict(gram=-GOOD.gram), "'gram': one of them is not positive semi-definite"),
    (dict(weight=np.full((6, 6, 2), np.inf)), "'weight': of layer 0: it holds values that are not finite"),
    (dict(weight=np.zeros(6)), r"'weight': of layer 0: expected \(outputs, channels, ...taps\), got the shape \(6,\)"),
    (dict(groups=4), "'groups': of layer 0: expected a divisor of its 6 outputs and 6 channels, got 4"),
    (dict(importance=0.0), "'importance': of layer 0: expected a positive number, got 0.0"),
    (dict(groups=0), "'groups': of layer 0: expected a divisor of its 6 outputs and 6 channels, got 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_layers(options: dict[str, object], message: str) -> None:
    fields = {"gram": GOOD.gram, "weight": GOOD.weight, "groups": 2, "inputs": "in", "outputs": "out", **options}
    with pytest.raises(ArgumentError, match=message):
        order_channels([GroupedLayer(**fields)])


def test_bad_dimensions() -> None:
    with pytest.raises(ArgumentError, match="'layers': expected at least one"):
        order_channels([])
    with pytest.raises(ArgumentError, match="'fixed': no layer has a dimension 'stream'; they have in, out"):
        order_channels([GOOD], fixed=["stream"])
    narrow = random_layer(0, channels=4)
    other = GroupedLayer(narrow.gram, narrow.weight, 2, "out", "last")
    with pytest.raises(ArgumentError, match="'layers': dimension 'out' has 6 channels, in layer 1 4"):
        order_channels([GOOD, other])


def test_it_tells_how_far_it_is() -> None:
    told: list[tuple[str, int, int]] = []
    order_channels(chain(0), tell=lambda *step: told.append(step))
    assert told[:2] == [("order of channels, sweep 1", 0, 2), ("order of channels, sweep 1", 1, 2)]
