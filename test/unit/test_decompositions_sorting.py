"""Sorting in core operations: a stable order, NaN the greatest, any axis; too long an axis is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from decomposed import assert_compiles, assert_decomposes, assert_same

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.decompositions import sorting

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.bool]


def with_nan() -> torch.Tensor:
    x = torch.randn(3, 9)
    x[0, 3] = x[0, 5] = x[2, 0] = math.nan
    x[1, 2], x[1, 3] = math.inf, -math.inf
    return x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("descending", [False, True])
def test_sort(dtype: torch.dtype, descending: bool) -> None:
    for shape in ((), (1,), (7,), (2, 5), (3, 16, 2)):
        x = (torch.randn(shape) * 2).round().to(dtype)
        for dim in range(-max(len(shape), 1), max(len(shape), 1)):
            expected = torch.sort(x, dim=dim, descending=descending, stable=True)
            assert_same(sorting.sort(x, dim, descending), tuple(expected), exact=True)


@pytest.mark.parametrize("descending", [False, True])
def test_nan_is_the_greatest(descending: bool) -> None:
    x = with_nan()
    expected = tuple(torch.sort(x, dim=1, descending=descending, stable=True))
    assert_same(sorting.sort(x, 1, descending), expected, exact=True)


@pytest.mark.parametrize("dtype", DTYPES[:-1], ids=str)
def test_parts_of_the_order(dtype: torch.dtype) -> None:
    """Of equal elements PyTorch promises no place here: the values, and that the places hold them."""
    for x in ((torch.randn(3, 16, 2) * 2).round().to(dtype), with_nan().to(dtype), torch.tensor(3).to(dtype)):
        dim = 1 if x.dim() else 0
        extent = x.shape[1] if x.dim() else 1
        for k in {1, extent // 2, extent} - {0}:
            for largest in (False, True):
                values, places = sorting.topk(x, k, dim, largest)
                assert_same(values, torch.topk(x, k, dim, largest)[0], exact=True)
                assert_same(x.gather(dim, places), values, exact=True)
            values, places = sorting.kthvalue(x, k, dim, True)
            assert_same(values, torch.kthvalue(x, k, dim, True)[0], exact=True)
            assert_same(sorting.kthvalue(x, k, dim)[0], torch.kthvalue(x, k, dim)[0], exact=True)
        for keepdim in (False, True):
            assert_same(sorting.median_along(x, dim, keepdim)[0], torch.median(x, dim, keepdim)[0], exact=True)
        assert_same(sorting.median(x), torch.median(x), exact=True)


def test_median_finds_the_first_nan() -> None:
    x = with_nan()
    assert_same(sorting.median_along(x, 1), tuple(torch.median(x, 1)), exact=True)


def test_median_of_what_is_known() -> None:
    x = with_nan()
    x[1] = math.nan
    for dim, keepdim in ((0, False), (1, True), (-1, False)):
        assert_same(sorting.nanmedian_along(x, dim, keepdim)[0], torch.nanmedian(x, dim, keepdim)[0], exact=True)
    assert_same(sorting.nanmedian(x), x.nanmedian(), exact=True)
    assert_same(sorting.nanmedian(torch.arange(5)), torch.arange(5).nanmedian(), exact=True)


def test_too_long_an_axis_is_refused() -> None:
    with pytest.raises(ImportRefused, match=r"^topk: an axis of 5000 elements; up to 4096 are supported$"):
        sorting.topk(torch.randn(5000), 3)
    with pytest.raises(ImportRefused, match=r"^sort: 1677721600 comparisons \(409600 x 4096\); up to"):
        sorting.sort(torch.randn(100, 4096))


EXPORTED: dict[str, Callable[..., Any]] = {
    "sort": lambda x: torch.sort(x, dim=1),
    "stable": lambda x: torch.sort(x, dim=1, stable=True, descending=True),
    "argsort": lambda x: torch.argsort(x, 1),
    "msort": torch.msort,
    "topk": lambda x: torch.topk(x, 3, 1),
    "kthvalue": lambda x: torch.kthvalue(x, 2, 1),
    "median": lambda x: (torch.median(x), *torch.median(x, 1)),
    "quantile": lambda x: torch.quantile(x, 0.3, 1),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(EXPORTED[name], torch.randn(2, 7, 3))
    assert not {each for each in names if any(op in each for op in ("sort", "topk", "kthvalue", "median"))}


def test_compiled() -> None:
    assert_compiles(lambda x: (*torch.topk(x, 3, 1), *torch.sort(x, 2)), torch.randn(2, 6, 4))


def test_compiled_with_nan() -> None:
    def ordered(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (*torch.sort(x, 1), *torch.median(x, 1), torch.nanmedian(x, 1)[0], x.nanmedian())

    assert_compiles(ordered, with_nan())
