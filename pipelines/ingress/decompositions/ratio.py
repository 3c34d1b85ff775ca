"""How axes are resized: sizes, factors, and the distances between the places that PyTorch reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload

Resize = Callable[[torch.Tensor, Sequence[int | None], Sequence[float | None], bool], object]


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


def ratios(
    x: torch.Tensor, rank: int, sizes: Sequence[int | None], factors: Sequence[float | None], align: bool
) -> list[Ratio]:
    """How each of the last `rank` axes is resized, by a size or else by a factor."""
    result = []
    for extent, size, factor in zip(x.shape[x.dim() - rank :], sizes, factors, strict=True):
        outputs = int(extent * factor) if size is None and factor is not None else size
        assert outputs is not None  # PyTorch takes either a size or a factor
        result.append(Ratio(extent, outputs, factor, align, x.dtype == torch.float64))
    return result


def both_overloads(packet: Any, rank: int, resize: Resize, *, aligns: bool) -> dict[OpOverload, Callable[..., object]]:
    """The rules of the overloads `vec` and `default` of an interpolation; `aligns` if it takes `align_corners`."""
    return {packet.vec: _vec(resize, rank, aligns=aligns), packet.default: _default(resize, rank, aligns=aligns)}


def _vec(resize: Resize, rank: int, *, aligns: bool) -> Callable[..., object]:
    def vec(x: torch.Tensor, size: Sequence[int] | None, *rest: Any) -> object:
        """The `vec` overload: a size for every axis, or a factor."""
        align, factors = rest if aligns else (False, *rest)
        return resize(x, size or [None] * rank, factors or [None] * rank, align)

    return vec


def _default(resize: Resize, rank: int, *, aligns: bool) -> Callable[..., object]:
    def default(x: torch.Tensor, size: Sequence[int], *rest: Any) -> object:
        """The `default` overload: a size for every axis, and the factors that gave it, if they count."""
        align, factors = (rest[0], rest[1:]) if aligns else (False, rest)
        return resize(x, size, [*factors, *[None] * (rank - len(factors))], align)

    return default
