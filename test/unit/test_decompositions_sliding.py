"""Sliding windows in core operations: `unfold`, `im2col`, and `col2im`, which adds up what overlaps."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same

from loopmorph.pipelines.ingress.decompositions import sliding

PAIRS = list(itertools.product([(1, 1), (2, 3), (3, 2)], [(1, 1), (2, 1)], [(0, 0), (1, 2)], [(1, 1), (2, 3), (3, 3)]))


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_columns(batched: bool, dtype: torch.dtype) -> None:
    x = torch.randint(-8, 8, (2, 3, 11, 10) if batched else (3, 11, 10)).to(dtype)
    for kernel, dilation, padding, stride in [*PAIRS, ((3, 3), (1, 1), (1, 1), (3, 3))]:
        columns = F.unfold(x, kernel, dilation, padding, stride)
        assert_same(sliding.im2col(x, kernel, dilation, padding, stride), columns, exact=True)
        folded = F.fold(columns, (11, 10), kernel, dilation, padding, stride)
        assert_same(sliding.col2im(columns, (11, 10), kernel, dilation, padding, stride), folded)


def test_nan_stays_in_its_window() -> None:
    columns = torch.randn(1, 9, 16)
    columns[0, 4, 5] = math.nan
    expected = F.fold(columns, (6, 6), 3)
    assert_same(sliding.col2im(columns, [6, 6], [3, 3], [1, 1], [0, 0], [1, 1]), expected)


@pytest.mark.parametrize(("dim", "size", "step"), itertools.product((0, 1, 2, -1), (1, 2), (1, 2, 3)))
def test_unfold(dim: int, size: int, step: int) -> None:
    x = torch.randn(2, 3, 11, 10)
    assert_same(sliding.unfold(x, dim, size, step), x.unfold(dim, size, step), exact=True)


def test_unfold_long_windows() -> None:
    x = torch.randn(2, 11, 3)
    assert_same(sliding.unfold(x, 1, 9, 1), x.unfold(1, 9, 1), exact=True)
    assert_same(sliding.unfold(x[0, 0, 0], 0, 1, 1), x[0, 0, 0].unfold(0, 1, 1), exact=True)


def round_trip(x: torch.Tensor) -> torch.Tensor:
    return F.fold(F.unfold(x, 3, padding=1, stride=2), (7, 6), 3, padding=1, stride=2) + x.unfold(2, 1, 1).squeeze(-1)


def test_the_exporter_uses_the_rules() -> None:
    names = assert_decomposes(round_trip, torch.randn(1, 2, 7, 6))
    assert not {each for each in names if any(op in each for op in ("unfold", "col", "index"))}


def test_compiled() -> None:
    assert_compiles(round_trip, torch.randn(1, 2, 7, 6))
