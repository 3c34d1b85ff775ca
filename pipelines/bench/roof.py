"""The analytic roof of a network: the least time of a call, whoever computes it as it was given."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import nn

from loopmorph.pipelines.measure.peak import Peak


def moved_bytes(model: nn.Module, inputs: Iterable[np.ndarray], outputs: Iterable[np.ndarray]) -> int:
    """Bytes that a call has to move at least: weights, inputs and outputs once each.

    Statistics of BatchNorm, which become part of the weights, do not count.
    """
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return weights + sum(array.nbytes for arrays in (inputs, outputs) for array in arrays)


def roof_ms(macs: int, moved: int, peak: Peak) -> float:
    """Milliseconds that a call takes at least.

    Args:
        macs: products that must be made.
        moved: bytes that must be moved.
        peak: what the machine does in a second.
    """
    return max(2 * macs / peak.gflops, moved / peak.bandwidth) / 1e6
