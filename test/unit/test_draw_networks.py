"""Random rewrites of whole networks: reproducible, distinct, legal, from barely touched to rewritten everywhere."""

from __future__ import annotations

from itertools import islice

import torch
from torch import nn

import loopmorph as lm
from loopmorph.passes.history import layer_of
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.random_networks import draw_networks


def draw(program: Program, count: int, seed: int = 0) -> list[Program]:
    return list(islice(draw_networks(program, seed, native_target()), count))


def test_the_seed_alone_decides_and_a_longer_draw_begins_with_the_shorter_one(residual: Program) -> None:
    drawn = [network.steps for network in draw(residual, 4)]
    assert [network.steps for network in draw(residual, 2)] == drawn[:2]
    assert [network.steps for network in draw(residual, 4, seed=1)] != drawn
    assert len(set(drawn)) == 4


def test_networks_have_few_to_many_neural_steps_and_one_a_layer(residual: Program) -> None:
    drawn = draw(residual, 8)
    for network in drawn:
        assert all(step.kind == "neural" for step in network.history)
        layers = [layer_of(step) for step in network.history]
        assert len(set(layers)) == len(layers)
    counts = [len(network.steps) for network in drawn]
    assert min(counts) <= 2 and max(counts) >= 4


def test_networks_can_be_built(residual: Program) -> None:
    for network in draw(residual, 3):
        assert network.to_module()(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_a_network_without_contractions_gives_none() -> None:
    assert draw(lm.import_model(nn.ReLU(), (torch.randn(1, 3, 4, 4),)), 1) == []


def test_an_exhausted_space_ends() -> None:
    program = lm.import_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), (torch.randn(1, 1, 2, 2),))
    drawn = draw(program, 1000)
    assert 1 <= len(drawn) < 20 and len({network.steps for network in drawn}) == len(drawn)
