"""Indexing in core operations: several index tensors, negative places, rolls, diagonals, searches and bags."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.decompositions import indexing

aten = torch.ops.aten


def places(low: int, high: int, *shape: int) -> torch.Tensor:
    return torch.randint(low, high, shape)


INDICES: list[list[torch.Tensor | None]] = [
    [None, places(-5, 5, 7)],
    [places(-4, 4, 2, 3), places(-5, 5, 3)],
    [None, places(-5, 5, 2, 1), places(-6, 6, 4)],
    [places(0, 4, 3), None, places(0, 6, 3)],
    [None, places(0, 5, 3), None, places(0, 3, 2, 3)],
    [torch.tensor(2), None, torch.tensor(-1)],
    [None, None, None, torch.tensor([0, 2])],
    [places(0, 4, 2, 2).int()],
]


@pytest.mark.parametrize(
    "indices", INDICES, ids=lambda i: "-".join("." if t is None else str(list(t.shape)) for t in i)
)
def test_index_tensors(indices: Sequence[torch.Tensor | None]) -> None:
    x = torch.randn(4, 5, 6, 3)
    assert_same(indexing.index_tensors(x, indices), aten.index.Tensor(x, indices), exact=True)


def test_masks_are_not_known() -> None:
    x = torch.randn(4, 5)
    assert indexing.index_tensors(x, [x > 0]) is NotImplemented


def test_take() -> None:
    x, index = torch.randn(4, 5, 6), places(-120, 120, 2, 3)
    assert_same(indexing.take(x, index), x.take(index), exact=True)


@pytest.mark.parametrize(("shifts", "dims"), [((2,), ()), ((2, -1), (0, 2)), ((7,), (1,)), ((-3,), ()), ((0,), (1,))])
def test_roll(shifts: Sequence[int], dims: Sequence[int]) -> None:
    x = torch.randn(4, 5, 6)
    assert_same(indexing.roll(x, shifts, dims), torch.roll(x, shifts, dims), exact=True)


@pytest.mark.parametrize("dim", [None, 0, 2, -1])
def test_repeat_interleave(dim: int | None) -> None:
    x = torch.randn(4, 5, 6)
    assert_same(indexing.repeat_interleave(x, 3, dim), torch.repeat_interleave(x, 3, dim), exact=True)


@pytest.mark.parametrize(("offset", "axes"), itertools.product((-7, -3, 0, 2, 9), ((0, 1), (1, 0), (2, 3), (-1, 1))))
def test_diagonal(offset: int, axes: tuple[int, int]) -> None:
    x = torch.randn(4, 5, 6, 3)
    assert_same(indexing.diagonal(x, offset, *axes), torch.diagonal(x, offset, *axes), exact=True)


def test_strides() -> None:
    x = torch.randn(3, 4, 5)
    for arguments in (((2, 3), (7, 2), 3), ((), (), 3), ((3, 3), (1, 1))):
        assert_same(indexing.as_strided(x, *arguments), x.as_strided(*arguments), exact=True)
    assert indexing.as_strided(x.transpose(0, 1), (2,), (1,)) is NotImplemented
    assert indexing.as_strided(x[0], (2, 3), (20, 1)) is NotImplemented


def test_channel_shuffle() -> None:
    x = torch.randn(2, 6, 4, 3)
    assert_same(indexing.channel_shuffle(x, 3), aten.native_channel_shuffle(x, 3), exact=True)


def test_one_hot() -> None:
    x = places(0, 5, 2, 3)
    assert_same(indexing.one_hot(x, 6), F.one_hot(x, 6), exact=True)
    assert indexing.one_hot(x) is NotImplemented


@pytest.mark.parametrize(("right", "out_int32"), itertools.product((False, True), repeat=2))
def test_searches(right: bool, out_int32: bool) -> None:
    boundaries, rows = torch.tensor([-1.0, 0, 0, 0.5, 2]), torch.randn(3, 5).sort(1)[0]
    x = torch.tensor([-2.0, -1, 0, 0.5, 3, math.nan, math.inf])
    options = {"right": right, "out_int32": out_int32}
    assert_same(indexing.bucketize(x, boundaries, **options), torch.bucketize(x, boundaries, **options), exact=True)
    values = torch.randn(3, 4)
    assert_same(indexing.searchsorted(rows, values, **options), torch.searchsorted(rows, values, **options), exact=True)


def test_places_among_boundaries_in_no_order_are_those_of_the_bisection() -> None:
    boundaries, values = torch.randn(37), torch.randn(4, 9)
    for right in (False, True):
        found = indexing.searchsorted(boundaries, values, right=right)
        assert_same(found, torch.searchsorted(boundaries, values, right=right), exact=True)


def test_too_many_comparisons_are_refused() -> None:
    many = torch.zeros(20000, dtype=torch.int64)
    with pytest.raises(ImportRefused, match=r"^embedding_bag: 400000000 comparisons .*; up to 134217728"):
        indexing.embedding_bag(torch.zeros(5, 1), many, many)


@pytest.mark.parametrize(("mode", "last", "padding"), itertools.product((0, 1, 2), (False, True), (-1, 2)))
@pytest.mark.parametrize("weighted", [False, True])
def test_embedding_bag(mode: int, last: bool, padding: int, weighted: bool) -> None:
    if weighted and mode:
        pytest.skip("weights are for sums")
    table, rows, weights = torch.randn(10, 4), places(0, 10, 12), torch.randn(12) if weighted else None
    offsets = torch.tensor([0, 3, 3, 7, 12] if last else [0, 3, 3, 7])
    arguments = (table, rows, offsets, False, mode, False, weights, last, padding)
    assert_same(indexing.embedding_bag(*arguments)[0], aten._embedding_bag(*arguments)[0])


INDEX = torch.tensor([[2, -1], [0, 3]])
EXPORTED: dict[str, Callable[..., Any]] = {
    "list": lambda x: x[:, [0, 3, -1]],
    "tensors": lambda x: x[INDEX, :, torch.tensor([1, -2])],
    "take": lambda x: torch.take(x, INDEX),
    "take along": lambda x: torch.take_along_dim(x, x.argmax(1, keepdim=True), 1),
    "roll": lambda x: torch.roll(x, 3) + torch.roll(x, (1, -1), (0, 2)),
    "flip and turn": lambda x: torch.rot90(x.flip(0, 2), 1, (1, 2)),
    "diagonal": lambda x: (x.diagonal(1, 1, 2), torch.diag_embed(x[0], 1), x.tril(1), x.triu(-1)),
    "repeated": lambda x: x.repeat_interleave(2, 1),
    "one hot": lambda x: F.one_hot((x > 0).long(), 2),
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([-1.0, 0, 1])),
    "bag": lambda x: F.embedding_bag(torch.tensor([[0, 2], [1, 1]]), x[0], mode="max"),
    "strides": lambda x: x.as_strided((3, 2), (2, 7), 1),
    "copied": lambda x: torch.permute_copy(x, (2, 0, 1)),
    "shuffles": lambda x: (F.pixel_shuffle(x[:, None], 1), F.channel_shuffle(x[None], 2)),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(EXPORTED[name], torch.randn(4, 5, 6), exact=True)
    left = ("aten.index.", "take", "roll", "bucketize", "bag", "one_hot", "repeat_interleave")
    assert not {each for each in names if any(operation in each for operation in left)}


def test_compiled() -> None:
    parts = ("list", "tensors", "roll", "diagonal", "repeated", "bucketize")
    assert_compiles(lambda x: tuple(EXPORTED[name](x) for name in parts[:3]), torch.randn(4, 5, 6))
    assert_compiles(lambda x: (EXPORTED["repeated"](x), EXPORTED["bucketize"](x)), torch.randn(4, 5, 6))
