"""Candidates: reproducible, distinct, and only what the passes themselves offer."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from networks import Dense, Residual, image

import loopmorph as lm
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search_space import Candidate, candidate_layers, draw_candidates


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    return lm.import_model(Residual().eval(), (image(),))


def draw(program: Program, seed: int, count: int = 20) -> list[Candidate]:
    return list(islice(draw_candidates(program, seed), count))


def test_the_seed_alone_decides_the_candidates(program: Program) -> None:
    first = [str(c) for c in draw(program, 3)]
    assert [str(c) for c in draw(program, 3)] == first
    assert [str(c) for c in draw(program, 4)] != first


def test_a_longer_draw_begins_with_the_shorter_one(program: Program) -> None:
    assert [str(c) for c in draw(program, 0, 20)][:8] == [str(c) for c in draw(program, 0, 8)]


def test_candidates_are_distinct_and_about_contractions(program: Program) -> None:
    texts = [str(c) for c in draw(program, 0)]
    assert len(set(texts)) == len(texts)
    layers = {c.layer for c in draw(program, 0)}
    assert layers <= set(candidate_layers(program))
    assert "bn1" not in candidate_layers(program)


def test_a_candidate_that_was_not_refused_applies(program: Program) -> None:
    for candidate in draw(program, 1):
        if candidate.refusal is None:
            applied = program.apply(str(candidate))
            assert applied.steps == tuple(str(step) for step in candidate.steps)


def test_refusals_are_kept_with_their_reason() -> None:
    torch.manual_seed(0)
    dense = lm.import_model(Dense().eval(), (image(),))
    refusals = [str(c.refusal) for c in draw(dense, 0, 40) if c.refusal is not None]
    assert any("a concatenation or copy, which it cannot follow" in reason for reason in refusals)
