"""Candidates: reproducible, distinct, and only what the passes themselves offer."""

from __future__ import annotations

from itertools import islice

import pytest
from networks import image
from torch import nn

import loopmorph as lm
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.neural.group import Group
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.search_space import (
    Candidate,
    RandomDrawer,
    candidate_layers,
    draw_candidates,
    fills_vectors,
)


def draw(program: Program, seed: int, count: int = 20) -> list[Candidate]:
    return list(islice(draw_candidates(program, seed, RandomDrawer(program, native_target())), count))


def test_the_seed_alone_decides_the_candidates(residual: Program) -> None:
    first = [str(c) for c in draw(residual, 3)]
    assert [str(c) for c in draw(residual, 3)] == first
    assert [str(c) for c in draw(residual, 4)] != first


def test_a_longer_draw_begins_with_the_shorter_one(residual: Program) -> None:
    assert [str(c) for c in draw(residual, 0, 20)][:8] == [str(c) for c in draw(residual, 0, 8)]


def test_candidates_are_distinct_and_about_contractions(residual: Program) -> None:
    texts = [str(c) for c in draw(residual, 0)]
    assert len(set(texts)) == len(texts)
    layers = {c.layer for c in draw(residual, 0)}
    assert layers <= set(candidate_layers(residual))
    assert "bn1" not in candidate_layers(residual)


def test_a_candidate_that_was_not_refused_applies(residual: Program) -> None:
    for candidate in draw(residual, 1):
        if candidate.refusal is None:
            applied = residual.apply(str(candidate))
            assert applied.steps == tuple(str(step) for step in candidate.steps)


def test_refusals_are_kept_with_their_reason() -> None:
    last_layer_only = lm.import_model(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)).eval(), (image(),))
    refusals = [str(c.refusal) for c in draw(last_layer_only, 0, 40) if c.refusal is not None]
    assert any("tied to the network's output" in reason for reason in refusals)


def test_most_of_what_the_passes_offer_is_legal(residual: Program, dense: Program) -> None:
    drawn = [c for p in (residual, dense) for c in draw(p, 0, 40)]
    assert sum(c.refusal is None for c in drawn) >= 0.9 * len(drawn)
    iterators = {
        (c.neural.name, c.neural.options().get("iter", c.neural.options().get("iters"))) for c in drawn if c.neural
    }
    assert {("morph-bottleneck", "oh"), ("morph-bottleneck", "kh"), ("morph-group", ("oh", "ci"))} <= iterators
    assert ("morph-group", ("oh",)) in iterators


@pytest.mark.parametrize(
    ("step", "fills"),
    [
        (Bottleneck("a", "co", 2), True),  # 48
        (Bottleneck("a", "co", 4), False),  # 24
        (Group("a", ("co", "ci"), 4), False),  # 24 in each
        (Group("a", ("co", "ci"), 12), True),  # 8: two groups make a vector
        (Bottleneck("a", "oh", 2), True),
    ],
)
def test_channels_that_fill_no_vectors_are_told(step: Bottleneck | Group, fills: bool) -> None:
    assert fills_vectors(step, {"co": 96, "ci": 96}, lanes=16) == fills
