"""Which channels to keep: those from which what reads them can best be restored by least squares.

A layer with the weights W, on what it reads with the second moments G = E[u u^T], loses

    tr W (G - G[:, K] G[K, K]^-1 G[K, :]) W^T

of its mean square when it may read the channels K alone and its weights are refitted. Channels are given up a few at a
time, those whose going adds least to that, and the inverse follows by a downdate: the backward elimination of Hassibi
and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon" (NIPS 1992), for blocks of weights as
in Kurtic, Frantar and Alistarh, "ZipLM" (NeurIPS 2023), where a block is all that a layer multiplies a channel with.
Of several readers (a residual stream) the relative errors are added up.

Where a channel has many taps it is judged by the principal components of what they say (see `principal_moments`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are first used

from loopmorph.pipelines.oracle.grouped_error import Moments, diagonal_blocks, principal_moments, traces

FEATURES = 512  # of all channels together, on which they are judged
_LARGER = 100.0  # the next ridge, where one is too small
_AT_ONCE = 32  # of the channels that are left one in so many is given up before they are judged again


def channel_losses(readers: Sequence[Elimination], extent: int, kept: int) -> np.ndarray:
    """What each channel's going adds to the relative errors of its readers, refitted; the least goes first.

    Args:
        readers: all that read them; afterwards they read what is kept.
        extent: how many channels there are.
        kept: how many are to stay; these are judged by what would be lost if one of them went as well.

    Returns:
        float64, (extent,): the channels to keep are those with the greatest values. A channel that goes later never has
        a smaller value than one before. All 0 where nobody reads any.
    """
    losses, alive = np.zeros(extent), np.ones(extent, dtype=bool)
    worst = 0.0
    while True:
        present = sum((part.losses(extent) for part in readers), np.zeros(extent))
        losses[alive] = np.maximum(worst, present[alive])
        left = np.flatnonzero(alive)
        surplus = len(left) - kept
        if surplus <= 0:
            return losses
        count = min(surplus, max(1, len(left) // _AT_ONCE))
        gone = left[np.argsort(losses[left], kind="stable")[:count]]
        worst = float(losses[gone].max())
        alive[gone] = False
        for part in readers:
            part.remove(gone)


@dataclass(eq=False)
class Elimination:
    """A linear reader of channels, of which some have been given up.

    Attributes:
        inverse: of the second moments of what is left, its unknowns side by side for each channel.
        fitted: (outputs, unknowns) the refitted weights.
        channels: which channel each group of `taps` unknowns is of; -1 for none.
        taps: unknowns of each channel.
        power: the mean square of its outputs.
    """

    inverse: np.ndarray
    fitted: np.ndarray
    channels: np.ndarray
    taps: int
    power: float

    @staticmethod
    def of(gram: np.ndarray, weight: np.ndarray, channels: np.ndarray) -> Elimination | None:
        """A linear layer, or an independent part of one.

        Args:
            gram: (unknowns, unknowns) float64, E[u u^T] of what it reads.
            weight: (unknowns, outputs) float64.
            channels: (unknowns,) int64: which channel each unknown is of; -1 for none, since it stays.

        Returns:
            None where it says nothing, or does not multiply each channel with equally many weights.
        """
        counts = np.unique(channels[channels >= 0], return_counts=True)[1]
        taps = int(counts.max(initial=0))
        if not taps or (counts != taps).any() or len(channels) % taps:
            return None
        order = np.argsort(np.where(channels < 0, len(channels), channels), kind="stable")
        weight = weight[order].T.reshape(weight.shape[1], -1, taps)
        moments = Moments.of(gram[np.ix_(order, order)], weight)
        if moments.power <= 0:
            return None
        features = max(1, FEATURES // weight.shape[1])
        if features < taps:
            moments = principal_moments(moments, weight, features)
        inverse = _inverse(moments.gram, moments.ridge)
        return Elimination(inverse, moments.cross @ inverse, channels[order][::taps], moments.taps, moments.power)

    def losses(self, extent: int) -> np.ndarray:
        """What each channel's going adds to the relative error: float64, (extent,)."""
        each = traces(self.fitted, np.linalg.inv(diagonal_blocks(self.inverse, self.taps)))
        found, own = np.zeros(extent), self.channels >= 0
        np.add.at(found, self.channels[own], each[own] / self.power)
        return found

    def remove(self, channels: np.ndarray) -> None:
        """Goes on without some channels."""
        gone = np.repeat(np.isin(self.channels, channels), self.taps)
        between = np.linalg.solve(self.inverse[np.ix_(gone, gone)], self.inverse[np.ix_(gone, ~gone)])
        self.fitted = self.fitted[:, ~gone] - self.fitted[:, gone] @ between
        self.inverse = self.inverse[np.ix_(~gone, ~gone)] - self.inverse[np.ix_(~gone, gone)] @ between
        self.channels = self.channels[~np.isin(self.channels, channels)]


def _inverse(gram: np.ndarray, ridge: float) -> np.ndarray:
    """The inverse of a Gram matrix with a ridge, a larger one where rounding has left it indefinite."""
    identity = np.eye(len(gram))
    while True:
        try:
            return scipy.linalg.cho_solve(scipy.linalg.cho_factor(gram + ridge * identity, overwrite_a=True), identity)
        except np.linalg.LinAlgError:
            ridge *= _LARGER
