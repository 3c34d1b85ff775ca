"""Linear, cubic and antialiased interpolation with PyTorch's own places and weights, float32 for float32 tensors.

Which element is read, and how much it counts, depends on sizes alone: one vector per axis made of `arange`, known at
import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import along, wide
from loopmorph.pipelines.ingress.decompositions.ratio import Ratio, Resize, both_overloads, ratios

_aten = torch.ops.aten
_Axis = Callable[[torch.Tensor, int, Ratio], torch.Tensor]


def _resizing(axis_rule: _Axis, rank: int) -> Resize:
    """The rule of one interpolation of floats over `rank` axes, from what it does along one."""

    def resize(x: torch.Tensor, sizes: Sequence[int | None], factors: Sequence[float | None], align: bool) -> object:
        if not x.is_floating_point():
            return NotImplemented
        result = wide(x)
        for k, ratio in reversed(list(enumerate(ratios(x, rank, sizes, factors, align)))):
            result = axis_rule(result, x.dim() - rank + k, ratio)
        return result.to(x.dtype) if result is not x else x.clone()

    return resize


def _centres(ratio: Ratio) -> torch.Tensor:
    """The place between elements that each output is read at: ATen's `area_pixel_compute_source_index`."""
    numbers = torch.arange(ratio.outputs, dtype=torch.float64)
    places = numbers * ratio.scale if ratio.align else (numbers + 0.5) * ratio.scale - 0.5
    return places if ratio.double else places.to(torch.float32)


def _linear(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
    """`aten.upsample_linear1d`, `bilinear2d`, `trilinear3d`."""
    if ratio.outputs == ratio.extent:
        return x
    centre = _centres(ratio).clamp(min=0)
    first = torch.clamp(centre.floor(), max=ratio.extent - 1)
    weight = along((centre - first).clamp(0, 1).to(x.dtype), axis, x.dim())
    places = first.to(torch.int64)
    after = torch.clamp(places + 1, max=ratio.extent - 1)
    return x.index_select(axis, places) * (1 - weight) + x.index_select(axis, after) * weight


def _cubic(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
    """`aten.upsample_bicubic2d`, whose cubic has -0.75 as its slope."""
    centre = _centres(ratio)
    first = torch.clamp(centre.floor(), max=ratio.extent - 1)
    after = (centre - first).clamp(0, 1)
    distances = (after + 1, after, 1 - after, 2 - after)
    total = None
    for k, distance in enumerate(distances):
        place = torch.clamp(first.to(torch.int64) + (k - 1), 0, ratio.extent - 1)
        weight = _cubic_outside(distance, -0.75) if k in (0, 3) else _cubic_inside(distance, -0.75)
        term = x.index_select(axis, place) * along(weight.to(x.dtype), axis, x.dim())
        total = term if total is None else total + term
    assert total is not None
    return total


def _cubic_inside(distance: torch.Tensor, slope: float) -> torch.Tensor:
    return ((slope + 2) * distance - (slope + 3)) * distance * distance + 1


def _cubic_outside(distance: torch.Tensor, slope: float) -> torch.Tensor:
    return ((slope * distance - 5 * slope) * distance + 8 * slope) * distance - 4 * slope


# -- antialiased


def _antialiased(reach: int, weigh: Callable[[torch.Tensor], torch.Tensor]) -> _Axis:
    def resize(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
        """`aten._upsample_{bilinear,bicubic}2d_aa` along one axis: a weighted sum of each output's window."""
        if ratio.outputs == ratio.extent:
            return x
        wider = max(ratio.scale, 1.0)
        numbers = torch.arange(ratio.outputs, dtype=torch.float64 if ratio.double else torch.float32)
        centres = ((numbers + 0.5) * ratio.scale).unsqueeze(1)
        first = (centres - reach / 2 * wider + 0.5).to(torch.int64).clamp(min=0)
        end = (centres + reach / 2 * wider + 0.5).to(torch.int64).clamp(max=ratio.extent)
        places = first + torch.arange(math.ceil(reach * wider) + 1)
        inside = places < end
        weights = torch.where(inside, weigh(((places - centres + 0.5) * (1 / wider)).abs()), 0.0)
        weights = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
        window = x.index_select(axis, torch.minimum(places, end - 1).reshape(-1)).unflatten(axis, places.shape)
        shape = [*places.shape, *[1] * (x.dim() - 1 - axis)]
        return torch.where(inside.view(shape), window * weights.view(shape), 0.0).sum(axis + 1)

    return resize


def _where_pytorch_is_right(resize: Resize) -> Resize:
    def rule(x: torch.Tensor, size: Sequence[int | None], factors: Sequence[float | None], align: bool) -> object:
        """Declines a result one element wide, every row of which PyTorch fills with the first row's value."""
        result = resize(x, size, factors, align)
        fills = isinstance(result, torch.Tensor) and result.shape[-1] == 1 and result.shape[-2] != x.shape[-2]
        return NotImplemented if fills else result

    return rule


def _triangle(distance: torch.Tensor) -> torch.Tensor:
    return torch.where(distance < 1, 1 - distance, 0.0)


def _cubic_filter(distance: torch.Tensor) -> torch.Tensor:
    outside = torch.where(distance < 2, _cubic_outside(distance, -0.5), 0.0)
    return torch.where(distance < 1, _cubic_inside(distance, -0.5), outside)


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    **both_overloads(_aten.upsample_linear1d, 1, _resizing(_linear, 1), aligns=True),
    **both_overloads(_aten.upsample_bilinear2d, 2, _resizing(_linear, 2), aligns=True),
    **both_overloads(_aten.upsample_trilinear3d, 3, _resizing(_linear, 3), aligns=True),
    **both_overloads(_aten.upsample_bicubic2d, 2, _resizing(_cubic, 2), aligns=True),
    **both_overloads(
        _aten._upsample_bilinear2d_aa,
        2,
        _where_pytorch_is_right(_resizing(_antialiased(2, _triangle), 2)),
        aligns=True,
    ),
    **both_overloads(
        _aten._upsample_bicubic2d_aa,
        2,
        _where_pytorch_is_right(_resizing(_antialiased(4, _cubic_filter), 2)),
        aligns=True,
    ),
}
