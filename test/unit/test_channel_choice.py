"""The channels that least squares keeps: as counted out, as planted, and as the network says them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import Residual, image, randomized
from torch import nn

import loopmorph as lm
from loopmorph.passes.history import parse_steps
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.pipelines.oracle.channel_choice import Elimination, channel_losses
from loopmorph.pipelines.oracle.inherit import inherit
from loopmorph.pipelines.oracle.kept_channels import KnownLosses, losses_by_dimension
from loopmorph.pipelines.oracle.read_moments import read_moments
from loopmorph.pipelines.program import Program

TAPS = 2


def moments(seed: int, channels: int, mixed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrix and weight of a layer, the last `mixed` of whose channels are louder mixtures of the first ones."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((200, (channels - mixed) * TAPS))
    both = np.concatenate([own, 4 * own[:, : mixed * TAPS] @ rng.standard_normal((mixed * TAPS,) * 2)], axis=1)
    return both.T @ both / len(both), rng.standard_normal((channels * TAPS, 5))


def error(gram: np.ndarray, weight: np.ndarray, kept: Sequence[int]) -> float:
    """tr W (G - G[:, K] G[K, K]^-1 G[K, :]) W^T, relative."""
    rows = (np.array(kept)[:, None] * TAPS + np.arange(TAPS)).ravel()
    left = gram - gram[:, rows] @ np.linalg.pinv(gram[np.ix_(rows, rows)]) @ gram[rows]
    return float(np.trace(weight.T @ left @ weight) / np.trace(weight.T @ gram @ weight))


def reader(gram: np.ndarray, weight: np.ndarray) -> Elimination:
    found = Elimination.of(gram, weight, np.repeat(np.arange(len(gram) // TAPS), TAPS))
    assert found is not None
    return found


def kept(losses: np.ndarray, count: int) -> list[int]:
    return sorted(np.argsort(-losses, kind="stable")[:count].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_one_channel_is_given_up_where_that_costs_least(seed: int) -> None:
    gram, weight = moments(seed, 6, 0)
    best = min(itertools.combinations(range(6), 5), key=lambda each: error(gram, weight, each))
    assert kept(channel_losses([reader(gram, weight)], 6, 5), 5) == list(best)


def test_a_gram_matrix_that_rounding_has_left_indefinite() -> None:
    gram, weight = moments(0, 6, 2)
    own = np.linalg.eigh(gram)[1][:, :1]
    gram -= 1e-3 * np.trace(gram) / len(gram) * own @ own.T
    assert np.linalg.eigvalsh(gram)[0] < 0
    assert kept(channel_losses([reader(gram, weight)], 6, 4), 4) == kept(
        channel_losses([reader(*moments(0, 6, 2))], 6, 4), 4
    )


@pytest.mark.parametrize("seed", range(5))
def test_what_the_others_can_say_is_given_up_first(seed: int) -> None:
    gram, weight = moments(seed, 8, 3)
    found = kept(channel_losses([reader(gram, weight)], 8, 5), 5)
    assert error(gram, weight, found) < 1e-9
    contribution = [
        np.sum(weight[c : c + 2] * (gram[c : c + 2, c : c + 2] @ weight[c : c + 2])) for c in range(0, 16, 2)
    ]
    assert error(gram, weight, kept(np.array(contribution), 5)) > 1e-3


def test_the_loss_of_the_kept_is_the_exact_one() -> None:
    gram, weight = moments(0, 6, 0)
    losses = channel_losses([reader(gram, weight)], 6, 6)
    expected = [error(gram, weight, [k for k in range(6) if k != c]) for c in range(6)]
    np.testing.assert_allclose(losses, expected, rtol=1e-2)


def test_several_readers_add_up() -> None:
    layers = [moments(seed, 6, 0) for seed in (0, 1)]
    together = channel_losses([reader(*layer) for layer in layers], 6, 6)
    alone = [channel_losses([reader(*layer)], 6, 6) for layer in layers]
    np.testing.assert_allclose(together, alone[0] + alone[1])


def test_a_reader_that_says_nothing_has_no_say() -> None:
    gram, weight = moments(0, 4, 0)
    channels = np.repeat(np.arange(4), TAPS)
    assert Elimination.of(gram, 0 * weight, channels) is None
    assert Elimination.of(gram, weight, np.array([0, 0, 0, 1, 1, 2, 2, 3])) is None


def network() -> Program:
    torch.manual_seed(0)
    return lm.import_model(randomized(Residual()).eval(), (image(),))


def bottlenecks(text: str) -> list[Bottleneck]:
    return [step for step in parse_steps(text) if isinstance(step, Bottleneck)]


def test_a_channel_that_is_made_of_others_goes_and_repair_makes_up_for_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3)).eval()
    mix = torch.randn(4, 4)
    with torch.no_grad():
        model[0].weight[:4] = 3 * torch.einsum("oc,cikl->oikl", mix, model[0].weight[4:])
        model[0].bias[:4] = 3 * mix @ model[0].bias[4:]
    original = lm.import_model(model, (image(),))
    program = original.apply("morph-bottleneck{layer=0 iter=co factor=2}")
    found = inherit(original, program, "repair", [image(batch=8, seed=3)])
    assert found.errors["repair"] < 5e-3 < 0.1 < found.errors["least-squares"]


def test_moments_are_those_of_explicit_windows() -> None:
    original, x = network(), image(batch=4, seed=2)
    (found,) = read_moments(original, ["block1.conv1.weight"], [x])
    taken: list[torch.Tensor] = []
    conv = original.model.get_submodule("block1.conv1")
    handle = conv.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    with torch.no_grad():
        original.model(x)
    handle.remove()
    windows = nn.functional.unfold(taken[0], 3, padding=1).transpose(1, 2).flatten(0, 1).double()
    assert found.gram.shape == (1, windows.shape[1], windows.shape[1])
    expected = np.cov(windows.numpy().T, bias=True)
    np.testing.assert_allclose(found.gram[0], expected, atol=1e-5 * np.abs(expected).max())


def test_dimensions_that_pick_no_channels_are_left_out() -> None:
    text = "morph-bottleneck{layer=block1.conv1 iter=oh factor=2},morph-bottleneck{layer=block1.conv1 iter=ci factor=2}"
    steps = [*bottlenecks(text), Bottleneck("block1.conv1#main.7", "co", 2)]
    assert losses_by_dimension(network(), steps, [image(batch=4)]) == {}


def test_a_dimension_that_is_narrowed_twice_is_chosen_twice() -> None:
    step = "morph-bottleneck{layer=block1.conv1 iter=co factor=2}"
    original = network()
    found = inherit(original, original.apply(f"{step},{step}"), "least-squares", [image(batch=8, seed=3)]).program
    losses = losses_by_dimension(original, bottlenecks(step), [image(batch=8, seed=3)])
    labels = torch.arange(8).reshape(8, 1, 1, 1).expand(original.imported["block1.conv1.weight"].shape)
    left = found.inherit_from("block1.conv1.weight", labels)[:, 0, 0, 0].tolist()
    assert left == kept(losses["block1.conv1", "co"], 2)


def test_what_is_known_of_a_dimension_is_not_looked_at_again() -> None:
    original, steps = network(), bottlenecks("morph-bottleneck{layer=block1.conv1 iter=co factor=2}")
    more = [*steps, *bottlenecks("morph-bottleneck{layer=block1.conv1 iter=oh factor=2}")]
    known: KnownLosses = {}
    found = losses_by_dimension(original, more, [image(batch=8, seed=3)], known=known)
    assert found.keys() == {("block1.conv1", "co")} and len(known) == 2
    unfit = torch.zeros(2, 5, 16, 16)  # the network would fail on it
    again = losses_by_dimension(original, more, [unfit], known=known)
    assert again.keys() == found.keys() and all(again[key] is found[key] for key in found)
    with pytest.raises(lm.ArgumentError, match="'inputs': the network fails on them"):
        losses_by_dimension(original, [replace(steps[0], factor=4)], [unfit], known=known)


def test_images_that_the_network_does_not_take() -> None:
    original = network()
    program = original.apply("morph-bottleneck{layer=block1.conv1 iter=co factor=2}")
    with pytest.raises(lm.ArgumentError, match="'inputs': the network fails on them"):
        inherit(original, program, "least-squares", [torch.zeros(2, 5, 16, 16)])
