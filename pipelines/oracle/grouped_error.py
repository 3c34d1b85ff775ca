"""What a grouped layer can still say of a dense one, from the Gram matrix of what the layer reads.

With G = E[u u^T] of the inputs, a channel being a block of taps of it, and W the weights, a group with the inputs I and
the outputs O, its weights refitted by least squares, explains

    tr B[:, I] (G[I, I] + ridge)^-1 B[:, I]^T,    B = W_O G

of the mean square `tr W_O G W_O^T` of its outputs. What it does not explain is its error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

RIDGE = 1e-4  # of G's mean diagonal, added where an inverse is taken


@dataclass(frozen=True, eq=False)
class Moments:
    """The second moments of what a linear layer reads and computes.

    Attributes:
        gram: of the inputs, float32 or float64, (channels * taps, channels * taps), the taps of a channel side by side.
        cross: of the outputs and the inputs, W G, float64, (outputs, channels * taps).
        power: the mean square of all outputs together.
        taps: how many inputs make up a channel.
        ridge: what is added to the diagonal of `gram` where an inverse is taken.
    """

    gram: np.ndarray
    cross: np.ndarray
    power: float
    taps: int
    ridge: float

    @classmethod
    def of(cls, gram: np.ndarray, weight: np.ndarray) -> Moments:
        """From G, symmetric, and a weight of shape (outputs, channels, ...taps)."""
        flat = weight.reshape(len(weight), -1)
        cross = flat @ gram
        return cls(gram, cross, float(np.sum(cross * flat)), len(gram) // weight.shape[1], _ridge(gram))

    def explained(self, channels: np.ndarray) -> np.ndarray:
        """What of the mean square of each output these channels explain: float64, (outputs,)."""
        rows = self._rows(channels)
        lower, _ = cho_factor(self._block(rows), lower=True, overwrite_a=True, check_finite=False)
        half = solve_triangular(lower, self.cross[:, rows].T, lower=True, overwrite_b=True, check_finite=False)
        return np.einsum("io,io->o", half, half)

    def marginals(self, channels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """What a group explains more with each channel than without it, given its other channels.

        Args:
            channels: what the group reads. Of each of these it is what is lost when it goes, of any other channel what
                is won when it comes.
            outputs: what the group computes.

        Returns:
            float64, (channels of the layer,).
        """
        rows, taps = self._rows(channels), self.taps
        factor = cho_factor(self._block(rows), overwrite_a=True, check_finite=False)
        inverse = cho_solve(factor, np.eye(len(rows)), overwrite_b=True, check_finite=False)
        cross, between = self.cross[outputs], self.gram[rows]
        fitted = cross[:, rows] @ inverse
        left = diagonal_blocks(self.gram, taps) - _block_products(between, inverse @ between, taps)
        left[:, np.arange(taps), np.arange(taps)] += self.ridge
        found = traces(cross - fitted @ between, np.linalg.inv(left))
        found[channels] = traces(fitted, np.linalg.inv(diagonal_blocks(inverse, taps)))
        return found

    def _rows(self, channels: np.ndarray) -> np.ndarray:
        return (channels[:, None] * self.taps + np.arange(self.taps)).ravel()

    def _block(self, rows: np.ndarray) -> np.ndarray:
        block = self.gram[np.ix_(rows, rows)].astype(np.float64)
        block[np.diag_indices_from(block)] += self.ridge
        return block


def principal_moments(exact: Moments, weight: np.ndarray, kept: int) -> Moments:
    """The moments of `kept` features of each channel in the place of its taps.

    The outputs read `W_c u_c` of channel c; the features `F_c^T u_c` are the principal components of that. What groups
    of features explain is a lower bound of what groups of all taps do.

    Args:
        exact: the moments of all taps.
        weight: of shape (outputs, channels, ...taps).
        kept: features of each channel, fewer than taps.
    """
    taps = exact.taps
    blocks = weight.reshape(len(weight), -1, taps)
    values, vectors = np.linalg.eigh(np.einsum("oca,ocb->cab", blocks, blocks, optimize=True))
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    own = diagonal_blocks(exact.gram, taps)
    components, directions = np.linalg.eigh(root.transpose(0, 2, 1) @ own @ root)
    size = np.sqrt(np.maximum(components[:, None, -kept:], 0))
    features = root @ directions[:, :, -kept:] / np.where(size > 0, size, 1)
    gram = _projected(_projected(exact.gram, features).T, features)
    return Moments((gram + gram.T) / 2, _projected(exact.cross, features), exact.power, kept, _ridge(gram))


def _ridge(gram: np.ndarray) -> float:
    mean = float(np.trace(gram)) / len(gram)
    return RIDGE * mean if mean > 0 else 1.0


def _projected(matrix: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The matrix, (rows, channels * taps), over features, (channels, taps, kept), in the place of taps."""
    channels, taps, kept = features.shape
    columns = matrix.reshape(len(matrix), channels, taps).transpose(1, 0, 2) @ features
    return np.ascontiguousarray(columns.transpose(1, 0, 2)).reshape(len(matrix), channels * kept)


def diagonal_blocks(matrix: np.ndarray, size: int) -> np.ndarray:
    """(n, size, size): the blocks on the diagonal."""
    count = len(matrix) // size
    return matrix.reshape(count, size, count, size)[np.arange(count), :, np.arange(count)].copy()


def _block_products(left: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
    """(n, size, size): the blocks on the diagonal of left^T right."""
    a, b = (matrix.reshape(len(matrix), -1, size).transpose(1, 0, 2) for matrix in (left, right))
    return a.transpose(0, 2, 1) @ b


def traces(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each block c of columns the trace of R_c M_c R_c^T, with M of shape (n, size, size)."""
    blocks = rows.reshape(len(rows), len(weights), -1).transpose(1, 0, 2)
    return np.sum((blocks @ weights) * blocks, axis=(1, 2))
