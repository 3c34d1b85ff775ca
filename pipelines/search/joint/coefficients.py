"""Coefficients of layers: what a loss in one layer does to the whole network, learned from assembled networks.

The additive loss is sum over variants v of w_v loss_v, with w_v the mean of c_l over the layers l that v decides, as in
SPDY (Frantar and Alistarh 2022, "SPDY: Accurate Pruning with Speedup Guarantees", ICML), which samples c and keeps what
the assembled network does best with. Here each assembled network also teaches: log(joint loss) = b + log(sum) is fitted
to all of them, with c_l = exp(t_l) and a normal prior on t_l around 0 (ridge towards c_l = 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import scipy  # its parts are loaded when they are first used

from loopmorph.pipelines.search.variants.table import VariantTable

# Layers differ by a factor of about e^0.5, joint losses of equal sums by a tenth: what is known before any measurement.
_SPREAD, _NOISE = 0.5, 0.1
_LEAST = 1e-30  # a smaller joint loss, or sum, has no logarithm that says something


@dataclass(frozen=True)
class Observation:
    """An assembled network: the variants that it is made of, as positions in the table, and its joint loss."""

    indices: tuple[int, ...]
    loss: float


@dataclass(frozen=True)
class Coefficients:
    """What the losses in each layer count for.

    Attributes:
        of_layer: layer -> its coefficient, above 0.
        scale: the joint loss of a network, as a multiple of its weighted sum.
        spread: (layers, layers) a square root of the covariance of the coefficients' logarithms, given what was
            observed: how well they are known.
    """

    of_layer: Mapping[str, float]
    scale: float
    spread: np.ndarray

    def losses(self, table: VariantTable) -> tuple[float, ...]:
        """The variants' losses as the whole network feels them."""
        weights = [np.mean([self.of_layer[layer] for layer in each.layers]) for each in table.variants]
        return tuple(float(w * each.loss) for w, each in zip(weights, table.variants, strict=True))

    def sampled(self, generator: Random) -> Coefficients:
        """Others that what was observed allows (Thompson sampling: what is not known is tried).

        Advances the generator by the number of layers.
        """
        drawn = self.spread @ np.array([generator.gauss(0.0, 1.0) for _ in self.of_layer])
        values = (value * math.exp(away) for value, away in zip(self.of_layer.values(), drawn, strict=True))
        return replace(self, of_layer=dict(zip(self.of_layer, values, strict=True)))


def fit_coefficients(table: VariantTable, observations: Sequence[Observation]) -> Coefficients:
    """The most likely coefficients, given what was measured of assembled networks.

    Args:
        table: the variants.
        observations: in any number; those whose joint loss or sum is 0 or not finite say nothing.

    Returns:
        A coefficient for every layer of the table; 1 for each where nothing was observed.
    """
    layers = tuple(dict.fromkeys(layer for each in table.variants for layer in sorted(each.layers)))
    shares = np.array([_shares(table, layers, each.indices) for each in observations]).reshape(-1, len(layers))
    found = np.array([each.loss for each in observations])
    usable = (shares.sum(axis=1) > _LEAST) & np.isfinite(found) & (found > _LEAST)
    if not usable.any():
        return Coefficients(dict.fromkeys(layers, 1.0), 1.0, _SPREAD * np.eye(len(layers)))
    shares, logs = shares[usable], np.log(found[usable])
    start = np.append(np.zeros(len(layers)), float(np.mean(logs - np.log(shares.sum(axis=1)))))

    def residuals(unknown: np.ndarray) -> np.ndarray:
        away = unknown[-1] + np.log(shares @ np.exp(unknown[:-1])) - logs
        return np.concatenate([away / _NOISE, unknown[:-1] / _SPREAD])

    def slopes(unknown: np.ndarray) -> np.ndarray:
        weighted = shares * np.exp(unknown[:-1])
        data = np.column_stack([weighted / weighted.sum(axis=1, keepdims=True), np.ones(len(shares))])
        prior = np.column_stack([np.eye(len(layers)), np.zeros(len(layers))])
        return np.concatenate([data / _NOISE, prior / _SPREAD])

    solution = scipy.optimize.least_squares(residuals, start, jac=slopes)
    of_layer = dict(zip(layers, np.exp(solution.x[:-1]).tolist(), strict=True))
    covariance = np.linalg.inv(solution.jac.T @ solution.jac)  # Laplace's approximation
    return Coefficients(of_layer, float(np.exp(solution.x[-1])), np.linalg.cholesky(covariance[:-1, :-1]))


def _shares(table: VariantTable, layers: Sequence[str], indices: Sequence[int]) -> list[float]:
    """(layers,) the losses of some variants, each in equal parts on the layers that it decides."""
    total = dict.fromkeys(layers, 0.0)
    for variant in (table.variants[each] for each in indices):
        for layer in variant.layers:
            total[layer] += variant.loss / len(variant.layers)
    return list(total.values())
