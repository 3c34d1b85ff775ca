"""Pooling in core operations: windows that differ in size, ceil mode, counts, one to three axes, places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same
from hypothesis import given, settings
from hypothesis import strategies as st

from loopmorph.pipelines.ingress.decompositions.adaptive_pooling import adaptive_avg_pool, adaptive_max_pool
from loopmorph.pipelines.ingress.decompositions.pooling import DECOMPOSITIONS
from loopmorph.pipelines.ingress.decompositions.windows import adaptive_windows

aten = torch.ops.aten


def tied(*shape: int) -> torch.Tensor:
    """Numbers with many equal ones, so that the first of the greatest matters."""
    return torch.randn(shape).round(decimals=1)


def pool(name: str) -> Callable[..., Any]:
    return getattr(F, name)


@given(st.integers(1, 60), st.integers(1, 60))
def test_adaptive_windows_are_pytorchs(extent: int, outputs: int) -> None:
    parts = adaptive_windows(extent, outputs)
    for i in range(outputs):
        part = parts[i % len(parts)]
        start = part.start + i // len(parts) * part.step
        bounds = (math.floor(i * extent / outputs), math.ceil((i + 1) * extent / outputs))
        assert (start, start + part.length) == bounds


SPACES = [
    *(((extent,), (outputs,)) for extent in (1, 7, 8, 14, 40) for outputs in (1, 2, 3, 4, 7, 19)),
    *(((8, 13), size) for size in ((3, 4), (1, 1), (4, 13), (5, 1), (16, 20))),
    *[((40, 5), (19, 5)), ((14, 14), (4, 4)), ((9, 9), (5, 5)), ((12, 8), (3, 4))],
    *(((5, 8, 4), size) for size in ((1, 1, 1), (3, 3, 3), (5, 2, 4), (1, 8, 3))),
]


@pytest.mark.parametrize(("space", "size"), SPACES, ids=str)
@pytest.mark.parametrize("lead", [(2,), (2, 3)], ids=["unbatched", "batched"])
def test_adaptive_pools(space: tuple[int, ...], size: tuple[int, ...], lead: tuple[int, ...]) -> None:
    x = tied(*lead, *space)
    rank = len(space)
    assert_same(adaptive_max_pool(x, size), pool(f"adaptive_max_pool{rank}d")(x, size, return_indices=True), exact=True)
    assert_same(adaptive_avg_pool(x, size), pool(f"adaptive_avg_pool{rank}d")(x, size))


def test_adaptive_max_pool_finds_the_last_nan() -> None:
    x = tied(1, 2, 7, 7)
    x[0, 0, 1, 2] = x[0, 0, 3, 3] = x[0, 1, 0, 0] = math.nan
    x[0, 1, 3:] = -math.inf
    assert_same(adaptive_max_pool(x, (3, 2)), F.adaptive_max_pool2d(x, (3, 2), return_indices=True), exact=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_adaptive_pools_keep_the_dtype(dtype: torch.dtype) -> None:
    x = tied(1, 2, 7, 9).to(dtype)
    assert_same(adaptive_max_pool(x, (3, 4)), F.adaptive_max_pool2d(x, (3, 4), return_indices=True), exact=True)
    assert_same(adaptive_avg_pool(x, (3, 4)), F.adaptive_avg_pool2d(x, (3, 4)))


windows = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.integers(1, 2), st.booleans()).filter(
    lambda w: 2 * w[2] <= w[0]
)
spaces = st.integers(1, 3).flatmap(lambda rank: st.lists(st.integers(9, 12), min_size=rank, max_size=rank))


@settings(deadline=None, max_examples=60)
@given(spaces, windows, st.booleans())
def test_max_pools(space: list[int], window: tuple[int, int, int, int, bool], batched: bool) -> None:
    kernel, stride, padding, dilation, ceil = window
    x, rank = tied(*([2] if batched else []), 2, *space), len(space)
    rule = DECOMPOSITIONS[getattr(aten, f"max_pool{rank}d_with_indices").default]
    result = rule(x, [kernel] * rank, [stride] * rank, [padding] * rank, [dilation] * rank, ceil)
    if result is not NotImplemented:
        reference = pool(f"max_pool{rank}d")(x, kernel, stride, padding, dilation, ceil, return_indices=True)
        assert_same(result, reference, exact=True)


@settings(deadline=None, max_examples=60)
@given(spaces, windows, st.booleans(), st.booleans(), st.sampled_from([None, 3]))
def test_avg_pools(
    space: list[int], window: tuple[int, int, int, int, bool], batched: bool, include: bool, divisor: int | None
) -> None:
    kernel, stride, padding, _, ceil = window
    x, rank = tied(*([2] if batched else []), 2, *space), len(space)
    rest = (divisor,) if rank > 1 else ()
    result = DECOMPOSITIONS[getattr(aten, f"avg_pool{rank}d").default](
        x, [kernel], [stride], [padding], ceil, include, *rest
    )
    if result is not NotImplemented:
        assert_same(result, pool(f"avg_pool{rank}d")(x, kernel, stride, padding, ceil, include, *rest))


EXPORTED: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "adaptive max 1-D": (partial(F.adaptive_max_pool1d, output_size=3), (1, 2, 8)),
    "adaptive max": (partial(F.adaptive_max_pool2d, output_size=(3, 5)), (1, 2, 8, 9)),
    "adaptive max 3-D": (partial(F.adaptive_max_pool3d, output_size=(2, 2, 3)), (1, 2, 4, 5, 5)),
    "adaptive average 1-D": (partial(F.adaptive_avg_pool1d, output_size=3), (1, 2, 8)),
    "adaptive average": (partial(F.adaptive_avg_pool2d, output_size=(3, 5)), (2, 8, 9)),
    "adaptive average 3-D": (partial(F.adaptive_avg_pool3d, output_size=(2, 2, 3)), (1, 2, 4, 5, 5)),
    "max 1-D": (partial(F.max_pool1d, kernel_size=3, stride=2, padding=1), (2, 2, 9)),
    "max, ceil": (partial(F.max_pool2d, kernel_size=3, stride=2, ceil_mode=True), (1, 2, 8, 8)),
    "max, one window over the edge": (partial(F.max_pool2d, kernel_size=2, stride=2, padding=1, dilation=2), (2, 8, 7)),
    "max 3-D": (partial(F.max_pool3d, kernel_size=2, padding=1), (1, 2, 4, 5, 5)),
    "average 1-D": (partial(F.avg_pool1d, kernel_size=3, stride=2, padding=1), (2, 2, 9)),
    "average, ceil": (partial(F.avg_pool2d, kernel_size=3, stride=2, ceil_mode=True), (1, 2, 8, 8)),
    "average, divisor": (partial(F.avg_pool2d, kernel_size=3, divisor_override=2), (1, 2, 8, 8)),
    "average 3-D": (partial(F.avg_pool3d, kernel_size=2), (1, 2, 4, 5, 5)),
    "power average": (partial(F.lp_pool2d, norm_type=2.0, kernel_size=3), (1, 2, 8, 8)),
}


@pytest.mark.parametrize(("function", "shape"), EXPORTED.values(), ids=EXPORTED.keys())
def test_the_exporter_uses_the_rules(function: Callable[..., Any], shape: tuple[int, ...]) -> None:
    names = assert_decomposes(function, tied(*shape))
    left = {name for name in names if "pool" in name}
    assert left <= {"aten.max_pool2d_with_indices.default", "aten.avg_pool2d.default"}


def test_plain_pools_stay_as_they_are() -> None:
    x = tied(1, 2, 8, 8)
    assert DECOMPOSITIONS[aten.avg_pool2d.default](x, [2, 2]) is NotImplemented
    plain = assert_decomposes(partial(F.max_pool2d, kernel_size=3, stride=2, padding=1), x)
    assert plain == {"aten.max_pool2d_with_indices.default", "<built-in function getitem>"}
    assert assert_decomposes(partial(F.adaptive_avg_pool2d, output_size=1), x) == {"aten.mean.dim"}
    divisible = partial(F.adaptive_avg_pool2d, output_size=(4, 2))
    assert assert_decomposes(divisible, x) == {"aten.avg_pool2d.default"}


COMPILED = [
    "adaptive max",
    "adaptive average",
    "adaptive max 3-D",
    "max 1-D",
    "max, ceil",
    "max 3-D",
    "average 3-D",
]


@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name: str) -> None:
    function, shape = EXPORTED[name]
    assert_compiles(function, tied(*shape))


def test_compiled_places_of_nan() -> None:
    x = tied(1, 2, 8, 9)
    x[0, 0, 1, 2] = x[0, 0, 2, 2] = x[0, 1, 7, 0] = math.nan
    assert_compiles(lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), x)


def test_many_parts_along_one_axis_are_read_by_place() -> None:
    x = tied(1, 2, 41, 3)
    names = assert_decomposes(lambda x: F.adaptive_max_pool2d(x, (20, 3)), x)
    assert "aten.index_select.default" in names


def test_products_of_cases() -> None:
    for kernel, stride, padding in itertools.product((2, 3), (1, 2), (0, 1)):
        x = torch.randint(-9, 9, (1, 1, 7, 6))
        result = DECOMPOSITIONS[aten.max_pool2d_with_indices.default](x, [kernel] * 2, [stride] * 2, [padding] * 2)
        if result is not NotImplemented:
            reference = F.max_pool2d(x.double(), kernel, stride, padding, return_indices=True)
            assert_same(result, (reference[0].long(), reference[1]), exact=True)
