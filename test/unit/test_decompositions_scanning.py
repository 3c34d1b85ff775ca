"""Cumulative operations in core operations: sums, products and extremes along any axis, NaN and infinity included."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from decomposed import assert_compiles, assert_decomposes, assert_same

from loopmorph.pipelines.ingress.decompositions.scanning import DECOMPOSITIONS

aten = torch.ops.aten
NAMES = ["cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.bool]


def rule(name: str) -> Callable[..., Any]:
    return DECOMPOSITIONS[getattr(aten, name).default]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_axis(name: str, dtype: torch.dtype) -> None:
    if name == "logcumsumexp" and not dtype.is_floating_point:
        pytest.skip("a floating type")
    for shape in ((), (1,), (0,), (7,), (2, 5), (3, 16, 2), (4, 0, 3)):
        x = (torch.randn(shape) * 2).round().to(dtype)
        for dim in range(-max(len(shape), 1), max(len(shape), 1)):
            assert_same(rule(name)(x, dim), getattr(torch, name)(x, dim))


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity(name: str) -> None:
    x = torch.randn(4, 9)
    x[0, 3] = x[0, 5] = x[2, 0] = math.nan
    x[1, 2], x[1, 3], x[3, 0] = math.inf, -math.inf, -math.inf
    assert_same(rule(name)(x, 1), getattr(torch, name)(x, 1))


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_a_given_type(name: str) -> None:
    x = torch.randint(1, 4, (3, 5))
    assert_same(rule(name)(x, 1, dtype=torch.float32), getattr(torch, name)(x, 1, dtype=torch.float32))


@pytest.mark.parametrize("name", NAMES)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(lambda x: getattr(torch, name)(x, 1), torch.randn(2, 6, 3))
    assert not {each for each in names if name in each}


def test_compiled() -> None:
    x = torch.randn(2, 6, 3)
    x[0, 1, 1] = x[1, 2, 2] = math.nan
    assert_compiles(lambda x: (x.cumsum(1), *x.cummax(2), *x.cummin(1)), x)
