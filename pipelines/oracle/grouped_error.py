"""What a grouped layer can still say of a dense one, from the Gram matrix of what the layer reads.

With G = E[u u^T] of the inputs, a channel being a block of taps of it, and W the weights, a group with the inputs I and
the outputs O, its weights refitted by least squares, explains

    tr B[:, I] (G[I, I] + ridge)^-1 B[:, I]^T,    B = W_O G

of the mean square `tr W_O G W_O^T` of its outputs. What it does not explain is its error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

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
        cross = float64(flat.astype(gram.dtype) @ gram)
        return cls(gram, cross, float(np.sum(cross * flat)), len(gram) // weight.shape[1], _ridge(gram))

    def explained(self, groups: np.ndarray) -> np.ndarray:
        """What of the mean square of each output each group of channels explains.

        Args:
            groups: int64, (groups, channels of each).

        Returns:
            float64, (groups, outputs).

        Raises:
            numpy.linalg.LinAlgError: the Gram matrix is not positive semi-definite.
        """
        every = np.broadcast_to(np.arange(len(self.cross)), (len(groups), len(self.cross)))
        return self.explained_of(groups, every)

    def explained_of(self, groups: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """As `explained`, of some outputs for each group: int64 (groups, n) give float64 (groups, n)."""
        rows = self._rows(groups)
        wanted = torch.from_numpy(self.cross[outputs[:, :, None], rows[:, None, :]])
        half = torch.linalg.solve_triangular(self._factors(rows), wanted.transpose(1, 2), upper=False)
        return _array(half.square().sum(1))

    def marginals(self, groups: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """What each group explains more with each channel than without it, given its other channels.

        Args:
            groups: int64, (groups, channels of each): what they read. Of each of these it is what is lost when it goes,
                of any other channel what is won when it comes.
            outputs: int64, (groups, outputs of each): what they compute.

        Returns:
            float64, (groups, channels of the layer).

        Raises:
            numpy.linalg.LinAlgError: the Gram matrix is not positive semi-definite.
        """
        rows, taps = self._rows(groups), self.taps
        inverse = torch.cholesky_inverse(self._factors(rows))
        between = torch.from_numpy(self.gram[rows]).double()
        fitted = torch.from_numpy(self.cross[outputs[:, :, None], rows[:, None, :]]) @ inverse
        missed = torch.from_numpy(self.cross[outputs]) - fitted @ between
        left = torch.from_numpy(diagonal_blocks(self.gram, taps)).double() - _block_products(
            between, inverse @ between, taps
        )
        left.diagonal(dim1=2, dim2=3).add_(self.ridge)
        found = _array(_traces(missed, torch.linalg.inv(left)))
        parts = torch.linalg.inv(_diagonal_blocks(inverse, taps))
        np.put_along_axis(found, groups, _array(_traces(fitted, parts)), axis=1)
        return found

    def _rows(self, groups: np.ndarray) -> np.ndarray:
        return (groups[:, :, None] * self.taps + np.arange(self.taps)).reshape(len(groups), -1)

    def _factors(self, rows: np.ndarray) -> torch.Tensor:
        blocks = torch.from_numpy(self.gram[rows[:, :, None], rows[:, None, :]]).double()
        blocks.diagonal(dim1=1, dim2=2).add_(self.ridge)
        factors, failed = torch.linalg.cholesky_ex(blocks)
        if bool(failed.any()):
            raise np.linalg.LinAlgError("the Gram matrix is not positive semi-definite")
        return factors


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


def _diagonal_blocks(matrices: torch.Tensor, size: int) -> torch.Tensor:
    """(batch, n, size, size): the blocks on the diagonals."""
    count = matrices.shape[1] // size
    return matrices.unflatten(2, (count, size)).unflatten(1, (count, size)).diagonal(dim1=1, dim2=3).movedim(3, 1)


def _block_products(left: torch.Tensor, right: torch.Tensor, size: int) -> torch.Tensor:
    """(batch, n, size, size): the blocks on the diagonals of left^T right."""
    a, b = (matrix.unflatten(2, (-1, size)).transpose(1, 2) for matrix in (left, right))
    return a.transpose(2, 3) @ b


def _traces(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(batch, n): for each block c of columns the trace of R_c M_c R_c^T, with M of shape (batch, n, size, size)."""
    blocks = rows.unflatten(2, (weights.shape[1], -1)).transpose(1, 2)
    return ((blocks @ weights) * blocks).sum((2, 3))


def float64(values: np.ndarray) -> np.ndarray:
    """The values as float64, the array itself where it is that."""
    return np.asarray(values, dtype=np.float64)


def _array(values: torch.Tensor) -> np.ndarray:
    return np.asarray(values.numpy())


def traces(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each block c of columns the trace of R_c M_c R_c^T, with M of shape (n, size, size)."""
    blocks = rows.reshape(len(rows), len(weights), -1).transpose(1, 0, 2)
    return np.sum((blocks @ weights) * blocks, axis=(1, 2))
