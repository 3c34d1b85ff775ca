"""Products and distances in core operations: every norm, scalings, a convolution along time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.decompositions import products

NORMS = [0.0, 1.0, 2.0, 1.5, 3.0, math.inf]


@pytest.mark.parametrize("p", NORMS)
def test_distances(p: float) -> None:
    x, y = torch.randn(2, 5, 3), torch.randn(2, 4, 3)
    assert_same(products.distances(x, y, p), torch.cdist(x, y, p))
    assert_same(products.distances_within(x[0], p), F.pdist(x[0], p))
    assert_same(products.distance(x, x[:1], p), torch.dist(x, x[:1], p))


def test_too_many_pairs_are_refused() -> None:
    x = torch.zeros(20000, 2)
    with pytest.raises(ImportRefused, match=r"^cdist: 800000000 comparisons \(40000 x 20000\); up to 134217728"):
        products.distances(x, x, 2)
    with pytest.raises(ImportRefused, match=r"^pdist: 800000000 comparisons"):
        products.distances_within(x)


@pytest.mark.parametrize(("alpha", "beta"), itertools.product((1, 2, 0), (1, 0.5, 0)))
def test_addmv(alpha: float, beta: float) -> None:
    x, matrix, vector = torch.full((4,), math.nan if beta == 0 else 1.0), torch.randn(4, 3), torch.randn(3)
    expected = torch.addmv(x, matrix, vector, alpha=alpha, beta=beta)
    assert_same(products.addmv(x, matrix, vector, alpha=alpha, beta=beta), expected)


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_conv_tbc(pad: int) -> None:
    x, weight, bias = torch.randn(7, 2, 3), torch.randn(3, 3, 4), torch.randn(4)
    assert_same(products.conv_tbc(x, weight, bias, pad), torch.conv_tbc(x, weight, bias, pad))


@pytest.mark.parametrize("bias", [None, torch.randn(4)])
def test_linear_of_rows_that_lie_apart(bias: torch.Tensor | None) -> None:
    x, weight = torch.randn(2, 5, 3), torch.randn(4, 5)
    assert_same(products.linear(x.mT, weight, bias), F.linear(x.mT, weight, bias))
    assert products.linear(x.mT.contiguous(), weight, bias) is NotImplemented


EXPORTED: dict[str, Callable[..., Any]] = {
    "cdist": lambda x: torch.cdist(x, x.flip(1)),
    "pdist": lambda x: F.pdist(x[0]),
    "dist": lambda x: torch.dist(x, x * 2, 1.0),
    "addmv": lambda x: torch.addmv(x[0, :, 0], x[0], x[1, 0], alpha=2),
    "linear": lambda x: F.linear(x.transpose(1, 2), torch.linspace(-1, 1, 20).view(4, 5), torch.ones(4)),
    "conv_tbc": lambda x: torch.conv_tbc(x, torch.ones(2, 3, 2), torch.ones(2)),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(EXPORTED[name], torch.randn(2, 5, 3))
    assert not {each for each in names if name in each or "bmm" in each}


@pytest.mark.parametrize("name", EXPORTED)
def test_compiled(name: str) -> None:
    assert_compiles(EXPORTED[name], torch.randn(2, 5, 3))
