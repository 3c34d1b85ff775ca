"""Interpolation with PyTorch's own arithmetic of places and weights, which is float32 for float32 tensors.

Which element is read, and how much it counts, depends on sizes alone: one vector per axis made of `arange`, known at
import. Factors of nearest interpolation that are whole numbers need no such vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.padding import pad_by_edge
from loopmorph.pipelines.ingress.decompositions.windows import every, interleave

_aten = torch.ops.aten
_Axis = Callable[[torch.Tensor, int, "Ratio"], torch.Tensor]


@dataclass(frozen=True)
class Ratio:
    """How one axis is resized.

    Attributes:
        extent: elements before.
        outputs: elements after.
        factor: what the user gave as `scale_factor`, if that counts.
        align: whether the first and last elements lie at the same places before and after.
        double: whether PyTorch computes distances and weights in float64, as it mostly does for float64 tensors.
    """

    extent: int
    outputs: int
    factor: float | None
    align: bool
    double: bool

    @property
    def scale(self) -> float:
        """The distance of two places that are read, rounded as PyTorch does: ATen's `area_pixel_compute_scale`."""
        rounded: Any = np.float64 if self.double else np.float32
        if self.align:
            return float(rounded(self.extent - 1) / rounded(self.outputs - 1)) if self.outputs > 1 else 0.0
        if self.factor is not None and self.factor > 0:
            return float(rounded(1.0 / self.factor))
        return float(rounded(self.extent) / rounded(self.outputs))


def resizing(axis_rule: _Axis, rank: int, *, floating: bool) -> Callable[..., object]:
    """The rule of one interpolation over `rank` axes, from what it does along one axis."""

    def resize(x: torch.Tensor, sizes: Sequence[int | None], factors: Sequence[float | None], align: bool) -> object:
        if floating and not x.is_floating_point():
            return NotImplemented
        wide = x.to(torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x
        for k in reversed(range(rank)):
            axis = x.dim() - rank + k
            extent, size, factor = x.shape[axis], sizes[k], factors[k]
            outputs = int(extent * factor) if size is None and factor is not None else size
            assert outputs is not None  # PyTorch takes either a size or a factor
            wide = axis_rule(wide, axis, Ratio(extent, outputs, factor, align, x.dtype == torch.float64))
        return wide.to(x.dtype) if wide is not x else x.clone()

    return resize


def _vec(resize: Callable[..., object], rank: int, *, aligns: bool) -> Callable[..., object]:
    def vec(x: torch.Tensor, size: Sequence[int] | None, *rest: Any) -> object:
        """The `vec` overload: a size for every axis, or a factor."""
        align, factors = rest if aligns else (False, *rest)
        return resize(x, size or [None] * rank, factors or [None] * rank, align)

    return vec


def _default(resize: Callable[..., object], rank: int, *, aligns: bool) -> Callable[..., object]:
    def default(x: torch.Tensor, size: Sequence[int], *rest: Any) -> object:
        """The `default` overload: a size for every axis, and the factors that gave it, if they count."""
        align, factors = (rest[0], rest[1:]) if aligns else (False, rest)
        return resize(x, size, [*factors, *[None] * (rank - len(factors))], align)

    return default


# -- nearest


def _nearest(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
    """`aten.upsample_nearest1d`, `3d`: element `floor(i * scale)`, the product in float32."""
    return _read(x, axis, ratio, lambda library: _floor(library, _numbers(library, ratio) * ratio.scale))


def _nearest_of_two(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
    """`aten.upsample_nearest2d`, which takes `i` or `i // 2` for the same and for doubled sizes, whatever factor."""
    if ratio.outputs == ratio.extent:
        return x
    if ratio.outputs == 2 * ratio.extent:
        return _repeat(x, axis, 2)
    return _nearest(x, axis, replace(ratio, double=False))


def _nearest_exact(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
    """`aten._upsample_nearest_exact1d`, `3d`: `floor((i + 0.5) * scale - 0.5 + 0.5)`, rounded before the last sum."""

    def places(library: Any) -> Any:
        centre = (_numbers(library, ratio) + 0.5) * ratio.scale - 0.5
        return _floor(library, library.asarray(centre, dtype=library.float32) + 0.5)

    return _read(x, axis, ratio, places)


def _nearest_exact_of_two(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
    """`aten._upsample_nearest_exact2d`: element `floor((i + 0.5) * scale)`, the product in float32."""
    scale = replace(ratio, double=False).scale
    return _read(x, axis, ratio, lambda library: _floor(library, (_numbers(library, ratio) + 0.5) * scale))


def _numbers(library: Any, ratio: Ratio) -> Any:
    """0, 1, ... of `outputs` elements; a float32 times them is exact in float64."""
    return library.arange(ratio.outputs, dtype=library.float64)


def _floor(library: Any, values: Any) -> Any:
    return library.floor(library.asarray(values, dtype=library.float32))


def _read(x: torch.Tensor, axis: int, ratio: Ratio, places: Callable[[Any], Any]) -> torch.Tensor:
    """The elements at `places(library)`, floats, at most the last; a repetition or a stride where they are one."""
    known = np.clip(places(np), None, ratio.extent - 1).astype(np.int64)
    up, down = max(ratio.outputs // ratio.extent, 1), max(ratio.extent // ratio.outputs, 1)
    numbers = np.arange(ratio.outputs)
    if ratio.extent * up == ratio.outputs and np.array_equal(known, numbers // up):
        return _repeat(x, axis, up)
    if np.array_equal(known, known[0] + numbers * down):
        return every(x, axis, int(known[0]), down, ratio.outputs)
    return x.index_select(axis, torch.clamp(places(torch), max=ratio.extent - 1).to(torch.int64))


def _repeat(x: torch.Tensor, axis: int, times: int) -> torch.Tensor:
    if times == 1:
        return x
    repeated = x.unsqueeze(axis + 1).expand([*x.shape[: axis + 1], times, *x.shape[axis + 1 :]])
    return repeated.reshape([*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :]])


# -- linear and cubic


def _centres(ratio: Ratio) -> torch.Tensor:
    """The place between elements that each output is read at: ATen's `area_pixel_compute_source_index`."""
    numbers = torch.arange(ratio.outputs, dtype=torch.float64)
    places = numbers * ratio.scale if ratio.align else (numbers + 0.5) * ratio.scale - 0.5
    return places if ratio.double else places.to(torch.float32)


def _linear(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
    """`aten.upsample_linear1d`, `bilinear2d`, `trilinear3d`."""
    if ratio.outputs == ratio.extent:
        return x
    doublings = ratio.outputs // ratio.extent
    if not ratio.align and ratio.scale in (0.5, 0.25, 0.125) and ratio.outputs == ratio.extent / ratio.scale:
        return _linear_by_phases(x, axis, doublings)
    centre = _centres(ratio).clamp(min=0)
    first = torch.clamp(centre.floor(), max=ratio.extent - 1)
    weight = _along((centre - first).clamp(0, 1).to(x.dtype), x, axis)
    places = first.to(torch.int64)
    after = torch.clamp(places + 1, max=ratio.extent - 1)
    return x.index_select(axis, places) * (1 - weight) + x.index_select(axis, after) * weight


def _linear_by_phases(x: torch.Tensor, axis: int, factor: int) -> torch.Tensor:
    """A whole factor: outputs `factor` apart have the same weights, and read neighbouring elements."""
    extent, edged = x.shape[axis], pad_by_edge(x, axis, 1, 1)
    parts = []
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5
        start = 0 if place < 0 else 1
        weight = place + 1 if place < 0 else place
        parts.append(edged.narrow(axis, start, extent) * (1 - weight) + edged.narrow(axis, start + 1, extent) * weight)
    return interleave(parts, axis)


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
        term = x.index_select(axis, place) * _along(weight.to(x.dtype), x, axis)
        total = term if total is None else total + term
    assert total is not None
    return total


def _cubic_inside(distance: torch.Tensor, slope: float) -> torch.Tensor:
    return ((slope + 2) * distance - (slope + 3)) * distance * distance + 1


def _cubic_outside(distance: torch.Tensor, slope: float) -> torch.Tensor:
    return ((slope * distance - 5 * slope) * distance + 8 * slope) * distance - 4 * slope


# -- antialiased


def _antialiased(reach: int, weigh: Callable[[torch.Tensor], torch.Tensor]) -> _Axis:
    def along(x: torch.Tensor, axis: int, ratio: Ratio) -> torch.Tensor:
        """`aten._upsample_{bilinear,bicubic,lanczos}2d_aa` along one axis: a matrix of weights."""
        if ratio.outputs == ratio.extent:
            return x
        wider = max(ratio.scale, 1.0)
        numbers = torch.arange(ratio.outputs, dtype=torch.float64 if ratio.double else torch.float32)
        centres = ((numbers + 0.5) * ratio.scale).unsqueeze(1)
        first = (centres - reach / 2 * wider + 0.5).to(torch.int64).clamp(min=0)
        end = (centres + reach / 2 * wider + 0.5).to(torch.int64).clamp(max=ratio.extent)
        elements = torch.arange(ratio.extent)
        weights = weigh(((elements - centres + 0.5) * (1 / wider)).abs())
        weights = torch.where((elements >= first) & (elements < end), weights, 0.0)
        weights = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
        return (x.movedim(axis, -1) @ weights.t()).movedim(-1, axis)

    return along


def _where_pytorch_is_right(resize: Callable[..., object]) -> Callable[..., object]:
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


def _along(vector: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    return vector.view([-1] + [1] * (x.dim() - 1 - axis))


def _both(name: str, rank: int, axis_rule: _Axis, *, aligns: bool) -> dict[OpOverload, Callable[..., object]]:
    """The rules of both overloads of an operation."""
    packet, resize = getattr(_aten, name), resizing(axis_rule, rank, floating=aligns)
    resize = _where_pytorch_is_right(resize) if name.endswith("_aa") else resize
    return {packet.vec: _vec(resize, rank, aligns=aligns), packet.default: _default(resize, rank, aligns=aligns)}


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    **_both("upsample_nearest1d", 1, _nearest, aligns=False),
    **_both("upsample_nearest2d", 2, _nearest_of_two, aligns=False),
    **_both("upsample_nearest3d", 3, _nearest, aligns=False),
    **_both("_upsample_nearest_exact1d", 1, _nearest_exact, aligns=False),
    **_both("_upsample_nearest_exact2d", 2, _nearest_exact_of_two, aligns=False),
    **_both("_upsample_nearest_exact3d", 3, _nearest_exact, aligns=False),
    **_both("upsample_linear1d", 1, _linear, aligns=True),
    **_both("upsample_bilinear2d", 2, _linear, aligns=True),
    **_both("upsample_trilinear3d", 3, _linear, aligns=True),
    **_both("upsample_bicubic2d", 2, _cubic, aligns=True),
    **_both("_upsample_bilinear2d_aa", 2, _antialiased(2, _triangle), aligns=True),
    **_both("_upsample_bicubic2d_aa", 2, _antialiased(4, _cubic_filter), aligns=True),
}
