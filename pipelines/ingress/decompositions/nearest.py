"""Nearest interpolation with PyTorch's own arithmetic of places: repetitions, strides, or one index per element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.ratio import Ratio, Resize, both_overloads, ratios
from loopmorph.pipelines.ingress.decompositions.windows import every

_aten = torch.ops.aten
_SMALL = 128  # height and width together, up to which ATen vectorises
_Places = Callable[[Ratio, Any], Any]  # by numpy, where they are looked at, or by torch, where they are computed


def _nearest(ratio: Ratio, library: Any) -> Any:
    """`aten.upsample_nearest1d`, `3d`: element `floor(i * scale)`, the product in float32."""
    return _floor(library, _numbers(ratio, library) * ratio.scale)


def _nearest_of_two(ratio: Ratio, library: Any) -> Any:
    """`aten.upsample_nearest2d` by its vectorised kernel: `i` or `i // 2` for equal and doubled sizes, any factor."""
    if ratio.outputs in (ratio.extent, 2 * ratio.extent):
        return library.floor(_numbers(ratio, library) * (ratio.extent / ratio.outputs))
    return _nearest(replace(ratio, double=False), library)


def _nearest_exact(ratio: Ratio, library: Any) -> Any:
    """`aten._upsample_nearest_exact1d`, `3d`: `floor((i + 0.5) * scale - 0.5 + 0.5)`, rounded before the last sum."""
    centre = (_numbers(ratio, library) + 0.5) * ratio.scale - 0.5
    return _floor(library, library.asarray(centre, dtype=library.float32) + 0.5)


def _nearest_exact_of_two(ratio: Ratio, library: Any) -> Any:
    """`aten._upsample_nearest_exact2d` by its vectorised kernel: `floor((i + 0.5) * scale)`, rounded to float32."""
    return _floor(library, (_numbers(ratio, library) + 0.5) * replace(ratio, double=False).scale)


def _numbers(ratio: Ratio, library: Any) -> Any:
    """0, 1, ... of `outputs` elements; a float32 times them is exact in float64."""
    return library.arange(ratio.outputs, dtype=library.float64)


def _floor(library: Any, values: Any) -> Any:
    return library.floor(library.asarray(values, dtype=library.float32))


def _is_vectorised(x: torch.Tensor, axes: Sequence[Ratio]) -> bool:
    """Whether ATen takes its vectorised kernel for two axes: `_use_vectorized_kernel_cond_2d` of UpSampleKernel.cpp."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and x.shape[1] > 3
    return channels_last or sum(ratio.outputs for ratio in axes) <= _SMALL


def _resizing(places: _Places, rank: int, vectorised: _Places | None = None) -> Resize:
    """The rule of one interpolation over `rank` axes, from the places that it reads along one.

    Args:
        places: along one axis.
        rank: number of axes.
        vectorised: what ATen's vectorised kernel reads, where it has one.
    """

    def resize(
        x: torch.Tensor, sizes: Sequence[int | None], factors: Sequence[float | None], align: bool
    ) -> torch.Tensor:
        first, axes = x.dim() - rank, ratios(x, rank, sizes, factors, align)
        chosen = vectorised if vectorised is not None and _is_vectorised(x, axes) else places
        known = [np.clip(chosen(ratio, np), None, ratio.extent - 1).astype(np.int64) for ratio in axes]
        times = [_times(ratio, each) for ratio, each in zip(axes, known, strict=True)]
        if all(times):
            return _repeat(x, first, times)
        for k, ratio in enumerate(axes):
            if times[k] != 1:
                x = _read(x, first + k, ratio, known[k], chosen)
        return x

    return resize


def _times(ratio: Ratio, known: np.ndarray[Any, Any]) -> int:
    """How often each element is repeated; 0 where it is no plain repetition."""
    times = ratio.outputs // ratio.extent
    repeats = times * ratio.extent == ratio.outputs and np.array_equal(known, np.arange(ratio.outputs) // times)
    return times if repeats else 0


def _read(x: torch.Tensor, axis: int, ratio: Ratio, known: np.ndarray[Any, Any], places: _Places) -> torch.Tensor:
    """The elements at the known places along one axis: by a stride where there is one."""
    step = max(ratio.extent // ratio.outputs, 1)
    if np.array_equal(known, known[0] + np.arange(ratio.outputs) * step):
        return every(x, axis, int(known[0]), step, ratio.outputs)
    return x.index_select(axis, torch.clamp(places(ratio, torch), max=ratio.extent - 1).to(torch.int64))


def _repeat(x: torch.Tensor, first: int, times: Sequence[int]) -> torch.Tensor:
    """Each element of the axes from `first` on so many times, in one step."""
    lead, space = list(x.shape[:first]), x.shape[first:]
    narrow = [extent for each in space for extent in (each, 1)]
    wide = [extent for each in zip(space, times, strict=True) for extent in each]
    size = [extent * number for extent, number in zip(space, times, strict=True)]
    return x.reshape(lead + narrow).expand(lead + wide).reshape(lead + size).clone()


_EXACT_OF_TWO = _resizing(_nearest_exact, 2, _nearest_exact_of_two)
DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    **both_overloads(_aten.upsample_nearest1d, 1, _resizing(_nearest, 1), aligns=False),
    **both_overloads(_aten.upsample_nearest2d, 2, _resizing(_nearest, 2, _nearest_of_two), aligns=False),
    **both_overloads(_aten.upsample_nearest3d, 3, _resizing(_nearest, 3), aligns=False),
    **both_overloads(_aten._upsample_nearest_exact1d, 1, _resizing(_nearest_exact, 1), aligns=False),
    **both_overloads(
        _aten._upsample_nearest_exact2d, 2, _resizing(_nearest_exact, 2, _nearest_exact_of_two), aligns=False
    ),
    **both_overloads(_aten._upsample_nearest_exact3d, 3, _resizing(_nearest_exact, 3), aligns=False),
}
