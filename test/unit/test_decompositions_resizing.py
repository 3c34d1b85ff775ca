"""Interpolation in core operations: PyTorch's own places and weights at every size, factor, rank and dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopmorph.pipelines.ingress.decompositions import nearest, resizing

aten = torch.ops.aten
NEAREST = ["upsample_nearest", "_upsample_nearest_exact"]
LINEAR = [("linear", 1), ("bilinear", 2), ("trilinear", 3), ("bicubic", 2)]


def rule(name: str) -> Callable[..., Any]:
    return {**nearest.DECOMPOSITIONS, **resizing.DECOMPOSITIONS}[getattr(aten, name).vec]


def numbered(rank: int, extent: int, dtype: torch.dtype) -> torch.Tensor:
    """An axis whose elements tell their place, last of `rank` axes."""
    return torch.arange(extent).to(dtype).view([1, 1] + [1] * (rank - 1) + [extent])


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 3),
    st.integers(1, 70),
    st.integers(1, 130),
    st.sampled_from(NEAREST),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@example(2, 14, 8, NEAREST[0], torch.float32)
@example(2, 14, 64, NEAREST[0], torch.float32)
@example(1, 2, 41, NEAREST[1], torch.float32)
@example(2, 2, 41, NEAREST[1], torch.float64)
@example(3, 14, 99, NEAREST[1], torch.float64)
def test_nearest_sizes(rank: int, extent: int, outputs: int, name: str, dtype: torch.dtype) -> None:
    x, mode = numbered(rank, extent, dtype), "nearest-exact" if "exact" in name else "nearest"
    size = [2] * (rank - 1) + [outputs]
    assert_same(rule(f"{name}{rank}d")(x, size, None), F.interpolate(x, size, mode=mode), exact=True)


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 3),
    st.integers(1, 70),
    st.floats(0.2, 5),
    st.sampled_from(NEAREST),
    st.sampled_from([torch.float32, torch.float64]),
)
@example(2, 3, 2.1, NEAREST[0], torch.float32)
@example(2, 3, 1.3, NEAREST[0], torch.float32)
@example(1, 33, 2.3, NEAREST[0], torch.float64)
@example(2, 64, 2.0078125, NEAREST[0], torch.float32)  # beyond 128 elements another kernel of ATen
def test_nearest_factors(rank: int, extent: int, factor: float, name: str, dtype: torch.dtype) -> None:
    if extent * factor < 1:
        return
    x, mode = numbered(rank, extent, dtype), "nearest-exact" if "exact" in name else "nearest"
    factors = [1.5] * (rank - 1) + [factor]
    expected = F.interpolate(x, scale_factor=tuple(factors), mode=mode)
    assert_same(rule(f"{name}{rank}d")(x, None, factors), expected, exact=True)


def test_whole_factors_of_nearest_read_no_places() -> None:
    for name, size in ((NEAREST[0], (28, 42)), (NEAREST[1], (28, 42)), (NEAREST[0], (7, 2)), (NEAREST[0], (14, 14))):
        mode = "nearest-exact" if "exact" in name else "nearest"

        def resize(x: torch.Tensor, size: Sequence[int] = size, mode: str = mode) -> torch.Tensor:
            return F.interpolate(x, size, mode=mode)

        assert "aten.index_select.default" not in assert_decomposes(resize, torch.randn(1, 2, 14, 14), exact=True)


SIZES = [(1, 1), (1, 4), (3, 1), (3, 8), (7, 14), (7, 28), (14, 7), (14, 5), (33, 99), (9, 9)]


@pytest.mark.parametrize(("mode", "rank"), LINEAR)
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_linear_and_cubic(mode: str, rank: int, align: bool, dtype: torch.dtype) -> None:
    resize = rule(f"upsample_{mode}{'' if mode[-1] == 'd' else f'{rank}d'}")
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-10, torch.bfloat16: 4e-2}[dtype]
    for extent, outputs in SIZES:
        x = torch.randn(1, 2, *[3] * (rank - 1), extent).to(dtype)
        size = [5] * (rank - 1) + [outputs]
        expected = F.interpolate(x, size, mode=mode, align_corners=align)
        torch.testing.assert_close(resize(x, size, align, None), expected, rtol=tolerance, atol=tolerance)
    for extent, factor in ((3, 1.3), (7, 2.1), (14, 0.7), (5, 2.0), (6, 4.0), (3, 1.2)):
        x = torch.randn(1, 2, *[3] * (rank - 1), extent).to(dtype)
        factors = [1.7] * (rank - 1) + [factor]
        expected = F.interpolate(x, scale_factor=tuple(factors), mode=mode, align_corners=align)
        torch.testing.assert_close(resize(x, None, align, factors), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align", [False, True])
def test_antialiased(mode: str, align: bool) -> None:
    resize = rule(f"_upsample_{mode}2d_aa")
    for extent, outputs in SIZES:
        x, size = torch.randn(1, 2, 9, extent), [5, outputs]
        result = resize(x, size, align, None)
        if outputs > 1:
            expected = F.interpolate(x, size, mode=mode, align_corners=align, antialias=True)
            torch.testing.assert_close(result, expected, rtol=2e-5, atol=2e-5)
        else:  # PyTorch fills each row with the first one's value
            assert result is NotImplemented
    x = torch.randn(1, 2, 9, 8)
    expected = F.interpolate(x, scale_factor=(0.6, 1.3), mode=mode, align_corners=align, antialias=True)
    torch.testing.assert_close(resize(x, None, align, (0.6, 1.3)), expected, rtol=2e-5, atol=2e-5)


EXPORTED: dict[str, Callable[..., Any]] = {
    "nearest, doubled": lambda x: F.interpolate(x, scale_factor=2),
    "nearest": lambda x: F.interpolate(x, 12),
    "nearest, factors": lambda x: F.interpolate(x, scale_factor=(1.3, 1.5)),
    "nearest-exact": lambda x: F.interpolate(x, 12, mode="nearest-exact"),
    "bilinear, doubled": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear": lambda x: F.interpolate(x, 12, mode="bilinear"),
    "bilinear, aligned": lambda x: F.interpolate(x, (3, 12), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, 12, mode="bicubic"),
    "antialiased": lambda x: F.interpolate(x, 5, mode="bilinear", antialias=True),
    "area": lambda x: F.interpolate(x, 5, mode="area"),
    "one axis": lambda x: F.interpolate(x[0], 10, mode="linear"),
    "recomputed factor": lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(EXPORTED[name], torch.randn(1, 2, 7, 7))
    assert not {each for each in names if "upsample" in each}


@pytest.mark.parametrize("name", ["nearest, doubled", "nearest", "bilinear", "bicubic", "antialiased"])
def test_compiled(name: str) -> None:
    assert_compiles(EXPORTED[name], torch.randn(1, 2, 7, 7))
