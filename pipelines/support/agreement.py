"""How far what was computed is from what PyTorch computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from loopmorph.passes.errors import WrongResult

TOLERANCE = 1e-4  # largest difference from PyTorch that is accepted, as a share of the largest output


def relative_error(result: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray) -> float:
    """Largest difference over the largest finite value expected.

    Elements that are equal, also NaN or infinite, do not count; where one side alone is not finite, or shapes differ,
    the error is infinite or NaN, which no limit admits.
    """
    a, b = (torch.as_tensor(each).double() for each in (result, expected))
    if a.shape != b.shape:
        return float("inf")
    same = (a == b) | (a.isnan() & b.isnan())
    if bool(same.all()):
        return 0.0
    scale = float(b[b.isfinite()].abs().max()) if bool(b.isfinite().any()) else 0.0
    difference = float((a - b)[~same].abs().max())
    return difference / scale if scale > 0 else float("inf")


def largest_error(results: Sequence[torch.Tensor | np.ndarray], expected: Sequence[torch.Tensor | np.ndarray]) -> float:
    """The largest `relative_error` of several outputs, a NaN if there is one; infinite where their numbers differ."""
    if len(results) != len(expected):
        return float("inf")
    errors = list(map(relative_error, results, expected))
    return next((error for error in errors if math.isnan(error)), max(errors, default=0.0))


def require_close(result: torch.Tensor, expected: torch.Tensor, where: str) -> float:
    """The relative error.

    Raises:
        WrongResult: shapes differ, or the error exceeds `TOLERANCE`.
    """
    if result.shape != expected.shape:
        raise WrongResult(f"{where}: compiled shape {tuple(result.shape)}, PyTorch's {tuple(expected.shape)}")
    error = relative_error(result, expected)
    if not error <= TOLERANCE:
        raise WrongResult(f"{where}: compiled code differs from PyTorch by {error:.1e} of the largest output")
    return error


@dataclass(frozen=True)
class Agreement:
    """When an output counts as PyTorch's.

    Attributes:
        tolerance: largest difference of finite elements, as a share of the largest one.
        spreads: whether NaN and infinity may reach elements that PyTorch keeps finite, as they do in Winograd's tiles.
        indeterminate: whether NaN may stem from a difference of infinities or their product with 0, whose order or
            presence the mathematics does not fix.
    """

    tolerance: float = TOLERANCE
    spreads: bool = False
    indeterminate: bool = False

    def disagreement(
        self,
        result: torch.Tensor,
        expected: torch.Tensor,
        nearby: Sequence[torch.Tensor] = (),
        usual: torch.Tensor | None = None,
    ) -> str | None:
        """What is wrong with a result; None where nothing is.

        Args:
            result: what was computed.
            expected: what PyTorch computes.
            nearby: what PyTorch computes for inputs and weights that hardly differ. Where these outputs differ from
                `expected`, the network amplifies rounding, and ten times as much is admitted.
            usual: what PyTorch computes for usual inputs: differences count as a share of its largest element, too.
        """
        if result.shape != expected.shape or result.dtype != expected.dtype:
            got, wanted = (f"{tuple(t.shape)} {t.dtype}" for t in (result, expected))
            return f"it gives {got}, PyTorch {wanted}"
        if not expected.is_floating_point():
            share = max((_share(each != expected) for each in nearby), default=0.0)
            wrong = result != expected
            return f"{int(wrong.sum())} of {wrong.numel()} elements differ" if _share(wrong) > 10 * share else None
        near = [each.double() for each in nearby]
        least = 0.0 if usual is None or not usual.isfinite().any() else float(usual[usual.isfinite()].abs().max())
        a, b = result.double(), expected.double()
        return self._special(a, b, near) or self._finite(a, b, near, least)

    def _special(self, a: torch.Tensor, b: torch.Tensor, near: Sequence[torch.Tensor]) -> str | None:
        fixed = b.isinf() if self.indeterminate else ~b.isfinite()
        finite = b.isfinite()
        for each in near:
            fixed, finite = fixed & ~each.isfinite(), finite & each.isfinite()
        lost = fixed & a.isfinite()
        if lost.any():
            return f"{int(lost.sum())} of {a.numel()} elements are finite where PyTorch has NaN or infinity"
        if (fixed & a.isinf() & b.isinf() & (a != b)).any():
            return "an infinity has the wrong sign"
        made = finite & ~a.isfinite()
        if made.any() and not self.spreads:
            return f"{int(made.sum())} of {a.numel()} elements are NaN or infinite where PyTorch has finite ones"
        return None

    def _finite(self, a: torch.Tensor, b: torch.Tensor, near: Sequence[torch.Tensor], least: float) -> str | None:
        compared = a.isfinite() & b.isfinite()
        for each in near:
            compared &= each.isfinite()
        if not compared.any():
            return None
        a, b = a[compared], b[compared]
        scale, error = float(b.abs().max()), float((a - b).abs().max())
        slack = max((float((each[compared] - b).abs().max()) for each in near), default=0.0)
        if error <= self.tolerance * max(scale, least) + 10 * slack:
            return None
        return f"it differs by {error / scale:.1e} of the largest output" if scale else f"it gives {error:.1e}, not 0"


def _share(mask: torch.Tensor) -> float:
    return float(mask.double().mean()) if mask.numel() else 0.0
