"""Writes at given places in core operations: the last one stays, sums and extremes, masks, unpooling."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same
from test_decompositions_indexing import INDICES, places

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.decompositions import scattering as s

aten = torch.ops.aten
DTYPES = [torch.float32, torch.int64, torch.bfloat16]
SHAPES = [(4, 5, 3), (2, 3, 2), (4, 1, 3), (1, 4, 1)]


def numbers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (torch.randn(shape) * 4).round().to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_scatter(dim: int, dtype: torch.dtype) -> None:
    x, src = numbers(dtype, 4, 5, 3), numbers(dtype, 4, 5, 3)
    for shape in SHAPES:
        index = places(0, x.shape[dim], *shape)
        assert_same(s.scatter_value(x, dim, index, 7), x.scatter(dim, index, 7), exact=True)
        assert_same(s.scatter(x, dim, index, src), x.scatter(dim, index, src), exact=True)
        assert_same(s.scatter_add(x, dim, index, src), x.scatter_add(dim, index, src))
        for reduce in ("sum", "prod", "mean", "amax", "amin"):
            for include in (True, False):
                ours = s.scatter_reduce(x, dim, index, src, reduce, include_self=include)
                assert_same(ours, x.scatter_reduce(dim, index, src, reduce, include_self=include))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_one_index_tensor(dim: int, dtype: torch.dtype) -> None:
    x, src = numbers(dtype, 4, 5, 3), numbers(dtype, 4, 5, 3)
    index = places(0, x.shape[dim], x.shape[dim])
    assert_same(s.index_add(x, dim, index, src, alpha=2), x.index_add(dim, index, src, alpha=2))
    assert_same(s.index_copy(x, dim, index, src), x.index_copy(dim, index, src), exact=True)
    negative = index[:1] - x.shape[dim]
    assert_same(s.index_fill(x, dim, negative, 5), x.index_fill(dim, negative, 5), exact=True)
    for reduce in ("prod", "mean", "amax", "amin") if dtype != torch.bfloat16 else ():
        for include in (True, False):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # index_reduce is in beta
                expected = x.index_reduce(dim, index, src, reduce, include_self=include)
            assert_same(s.index_reduce(x, dim, index, src, reduce, include_self=include), expected)


@pytest.mark.parametrize(
    "indices", INDICES, ids=lambda i: "-".join("." if t is None else str(list(t.shape)) for t in i)
)
def test_index_put(indices: list[torch.Tensor | None]) -> None:
    x = torch.randn(4, 5, 6, 3)
    for values in (torch.randn_like(aten.index.Tensor(x, indices)), torch.tensor(3.0)):
        assert_same(s.index_put(x, indices, values), aten.index_put(x, indices, values), exact=True)
        assert_same(s.index_put(x, indices, values, True), aten.index_put(x, indices, values, True))


def test_masks() -> None:
    x = torch.randn(4, 5, 3)
    mask = x[..., 0] > 0
    for values in (torch.tensor(1.0), torch.tensor([1.0, 2, 3])):
        for accumulate in (False, True):
            expected = aten.index_put(x, [mask], values, accumulate)
            assert_same(s.index_put(x, [mask], values, accumulate), expected, exact=True)
    assert s.index_put(x, [mask], torch.randn(int(mask.sum()), 3)) is NotImplemented
    source = torch.randn(60)
    assert_same(s.masked_scatter(x, mask[..., None], source), x.masked_scatter(mask[..., None], source), exact=True)


def test_put() -> None:
    x, index, source = torch.randn(4, 5, 3), places(-60, 60, 2, 2), torch.randn(2, 2)
    assert_same(s.put(x, index, source), x.put(index, source), exact=True)
    assert_same(s.put(x, index, source, True), x.put(index, source, True))


def test_a_tensor_without_axes() -> None:
    x, index, src = torch.tensor(3.0), torch.tensor(0), torch.tensor(5.0)
    assert_same(s.scatter(x, 0, index, src), x.scatter(0, index, src), exact=True)
    assert_same(s.index_add(x, 0, index, src), x.index_add(0, index, src), exact=True)


@pytest.mark.parametrize("offset", [-2, 0, 1, 3])
@pytest.mark.parametrize("axes", [(0, 1), (2, 1), (-1, 0)])
def test_diagonal_scatter(offset: int, axes: tuple[int, int]) -> None:
    x = torch.randn(3, 4, 5)
    src = torch.randn_like(x.diagonal(offset, *axes))
    expected = torch.diagonal_scatter(x, src, offset, *axes)
    assert_same(s.diagonal_scatter(x, src, offset, *axes), expected, exact=True)


@pytest.mark.parametrize("batched", [True, False])
def test_max_unpool(batched: bool) -> None:
    x = torch.randn(*([2] if batched else []), 3, 8, 9)
    values, where = F.max_pool2d(x, 3, 2, return_indices=True)
    assert_same(s.max_unpool(values, where, (8, 9)), aten.max_unpool2d(values, where, (8, 9)), exact=True)


def test_too_many_comparisons_are_refused() -> None:
    with pytest.raises(ImportRefused, match=r"^scatter: 400000000 comparisons \(20000 x 20000\); up to 134217728"):
        s.scatter(torch.zeros(20000), 0, torch.zeros(20000, dtype=torch.int64), torch.zeros(20000))


INDEX = torch.tensor([[0, 2, 1], [3, 3, 0]])


def written(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, [0, 2]] = 1.0
    y[x > 0] = 5.0
    y[1, 2] = 7.0
    return y


EXPORTED: dict[str, Callable[..., Any]] = {
    "scatter": lambda x: x.scatter(0, INDEX, 1.0) + x.scatter(0, INDEX, x * 2),
    "scatter_add": lambda x: x.scatter_add(0, INDEX, x),
    "scatter_reduce": lambda x: x.scatter_reduce(0, INDEX, x, "amax"),
    "index_add": lambda x: x.index_add(1, torch.tensor([0, 0, 2]), x[:, :3]),
    "index_copy": lambda x: x.index_copy(1, torch.tensor([0, 2]), x[:, 3:]),
    "index_fill": lambda x: x.index_fill(1, torch.tensor([0, 2]), -1),
    "masked_scatter": lambda x: x.masked_scatter(x > 0, x.flatten()),
    "written": written,
    "unpooled": lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(EXPORTED[name], torch.randn(4, 5))
    left = ("index_put", "index_add", "index_copy", "scatter.", "scatter_add", "scatter_reduce", "unpool", "masked")
    assert not {each for each in names if any(operation in each for operation in left) and "select" not in each}


@pytest.mark.parametrize("name", ["scatter_add", "written", "unpooled"])
def test_compiled(name: str) -> None:
    assert_compiles(EXPORTED[name], torch.randn(4, 6))
