"""Padding in core operations: negative amounts crop; reflected, repeated and circular edges of one to three axes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same

from loopmorph.pipelines.ingress.decompositions.padding import DECOMPOSITIONS

aten = torch.ops.aten
AMOUNTS = {
    1: list(itertools.product((0, 1, 3, -1), repeat=2)),
    2: [(1, 2, 0, 0), (3, 0, 0, 4), (-1, 2, 1, -1), (0, 0, -2, -1), (2, -1, -1, 3), (0, 0, 0, 0)],
    3: [(1, 2, 3, 0, 1, 1), (-1, 2, 0, -1, 1, -1), (0, 0, 0, 0, -1, 2)],
}
CASES = [(rank, pad) for rank, pads in AMOUNTS.items() for pad in pads]


@pytest.mark.parametrize(("rank", "pad"), CASES, ids=str)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_edges(rank: int, pad: Sequence[int], mode: str, dtype: torch.dtype) -> None:
    name = {"reflect": f"reflection_pad{rank}d", "replicate": f"replication_pad{rank}d", "circular": "_pad_circular"}
    x = torch.randn(2, 3, *(5, 6, 7)[:rank]).to(dtype)
    rule = DECOMPOSITIONS[getattr(aten, name[mode]).default]
    assert_same(rule(x, pad), F.pad(x, pad, mode), exact=True)
    if mode != "circular":
        assert_same(rule(x[0], pad), F.pad(x[0], pad, mode), exact=True)


@pytest.mark.parametrize("pad", [(-1, 1), (-1, 1, -1, 2), (0, 0, 0, 0, -1, 0), (-2, -1, 3, -5), (0, -1, 0, 0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool], ids=str)
def test_negative_amounts_crop(pad: Sequence[int], dtype: torch.dtype) -> None:
    x = torch.randint(0, 2, (2, 3, 6, 5)).to(dtype)
    rule = DECOMPOSITIONS[aten.constant_pad_nd.default]
    assert_same(rule(x, pad, 1), F.pad(x, pad, value=1), exact=True)


def test_positive_amounts_stay_as_they_are() -> None:
    assert DECOMPOSITIONS[aten.constant_pad_nd.default](torch.ones(2, 3), [1, 2]) is NotImplemented


EXPORTED: dict[str, Callable[..., Any]] = {
    "crop": lambda x: F.pad(x, (-1, 1, -1, 2)),
    "reflect": lambda x: F.pad(x, (3, 2, 1, -1), mode="reflect"),
    "replicate": lambda x: F.pad(x, (3, 2, 1, -1), mode="replicate"),
    "circular": lambda x: F.pad(x, (3, 2, 1, -1), mode="circular"),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(EXPORTED[name], torch.randn(1, 2, 6, 7), exact=True)
    core = {"aten.slice.Tensor", "aten.cat.default", "aten.flip.default", "aten.expand.default"}
    assert names <= {*core, "aten.constant_pad_nd.default"}


@pytest.mark.parametrize("name", ["crop", "reflect"])
def test_compiled(name: str) -> None:
    assert_compiles(EXPORTED[name], torch.randn(1, 2, 6, 7))
