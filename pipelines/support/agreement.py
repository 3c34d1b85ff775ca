"""How far what was computed is from what PyTorch computes."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
