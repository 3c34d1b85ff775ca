"""Least squares with fewer rows than unknowns: the rows themselves are kept, and a matrix of their products is solved.

The same solution as `NormalEquations` has, by `(U^T U + r I)^-1 U^T = U^T (U U^T + r I)^-1`: ridge regression in its
dual form (Saunders et al., ICML 1998). The matrix has as many rows as there are rows, not unknowns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from loopmorph.pipelines.oracle.repair.normal_equations import (
    Solution,
    add_gram,
    choose_ridge,
    product,
    solved,
    sound_rows,
    spread_outputs,
)


@dataclass
class RowEquations:
    """`argmin_W sum |W^T u - y|^2 + ridge |W - W_0|^2` for each block; all its rows are held.

    Attributes:
        u: chunks of (blocks, rows, unknowns) float32.
        y: chunks of (blocks, rows, outputs) float64.
        rows: how many there are for each block.
        dropped: rows left out since they held NaN or infinities.
    """

    u: list[torch.Tensor] = field(default_factory=list)
    y: list[torch.Tensor] = field(default_factory=list)
    rows: int = 0
    dropped: int = 0

    def add(self, u: torch.Tensor, y: torch.Tensor) -> None:
        """Takes some rows: u (blocks, rows, unknowns), y (blocks, rows, outputs), of any floating-point type."""
        sound = sound_rows(u, y)
        self.dropped += int((~sound).sum())
        self.u.append(u[:, sound])
        self.y.append(y[:, sound].double())
        self.rows += int(sound.sum())

    def joined(self, other: RowEquations) -> RowEquations:
        """All rows of both."""
        return RowEquations(
            [*self.u, *other.u], [*self.y, *other.y], self.rows + other.rows, self.dropped + other.dropped
        )

    def fitted(self, held_out: RowEquations, start: torch.Tensor, ridges: Sequence[float], intercept: bool) -> Solution:
        """The solution for these rows and others; see `NormalEquations.fitted`."""
        both, start = self.joined(held_out), start.double()
        u, raw = both._rows(intercept), torch.cat([x.square().sum(1, keepdim=True) for x in both.u], 1).sum(1)
        y = torch.cat(both.y, 1)
        mean_u, mean_y = both._mean_read(), y.mean(1, keepdim=True)
        if intercept:
            y = y - mean_y
        gram = torch.zeros(u.shape[0], u.shape[1], u.shape[1], dtype=u.dtype, device=u.device)
        add_gram(gram, u.transpose(1, 2))
        products = _Products(gram, y - product(u, start), y, u.shape[2], intercept)
        ridge = ridges[0]
        if len(ridges) > 1 and held_out.rows:
            ridge = choose_ridge(ridges, products.only(spread_outputs(start)).validation(self.rows))
        step = products.step(ridge)
        weight = start + product(u.transpose(1, 2), step)
        constant = (mean_y - mean_u @ weight)[:, 0] if intercept and both.rows else torch.zeros_like(mean_y[:, 0])
        dead = u.square().sum(1) <= 1e-12 * raw.clamp_min(1e-30)
        errors = _share(products.left, y), _share(products.left - product(products.gram, step), y)
        return Solution(weight, constant, *errors, ridge, int(dead.sum()), both.rows < u.shape[2])

    def moments(self, intercept: bool) -> torch.Tensor:
        """The second moments of u; see `NormalEquations.moments`."""
        u = self._rows(intercept)
        gram = torch.zeros(u.shape[0], u.shape[2], u.shape[2], dtype=u.dtype, device=u.device)
        add_gram(gram, u)
        return gram

    def variance(self, intercept: bool) -> float:
        """The mean of the diagonals of `moments`."""
        return float(self._rows(intercept).square().sum(1).double().mean())

    def covariance(self, weight: torch.Tensor, intercept: bool) -> torch.Tensor:
        """See `NormalEquations.covariance`."""
        given = product(self._rows(intercept), weight)
        return given.transpose(1, 2) @ given

    def mean_target(self) -> torch.Tensor:
        """The mean over the rows of the targets; see `NormalEquations.mean_target`."""
        return torch.cat(self.y, 1).mean(1)

    def _mean_read(self) -> torch.Tensor:
        """The mean over the rows of u: (blocks, 1, unknowns) float64."""
        return torch.stack([x.sum(1, keepdim=True).double() for x in self.u]).sum(0) / max(self.rows, 1)

    def _rows(self, about_mean: bool) -> torch.Tensor:
        """All rows of u, about their mean if that is wanted."""
        u = torch.cat(self.u, 1)
        return u.sub_(self._mean_read().to(u)) if about_mean else u


@dataclass(frozen=True)
class _Products:
    """The rows' products with each other: all that choosing a ridge, and the step for it, take.

    Attributes:
        gram: (blocks, rows, rows) in the type of U, `U U^T`.
        left: (blocks, rows, outputs) float64, `Y - U W_0`.
        y: (blocks, rows, outputs) float64.
        unknowns: how many there are.
        centred: whether some of the rows are to be taken about their own mean.
    """

    gram: torch.Tensor
    left: torch.Tensor
    y: torch.Tensor
    unknowns: int
    centred: bool

    def step(self, ridge: float) -> torch.Tensor:
        """(blocks, rows, outputs) float64: what `U^T` is multiplied with to be added to `W_0`."""
        scale = self.gram.shape[1] / self.unknowns  # the ridge is a share of the mean over unknowns, not over rows
        return solved(self.gram, self.left, ridge * scale)

    def only(self, outputs: torch.Tensor) -> _Products:
        """The same for some of the outputs."""
        return replace(self, left=self.left[:, :, outputs], y=self.y[:, :, outputs])

    def validation(self, count: int) -> Callable[[float], float]:
        """What the weights that are fitted to the first rows, with a ridge, leave of the others' targets."""
        seen, unseen = slice(count), slice(count, None)
        first = _Products(self._gram(seen, seen), *self._targets(seen), self.unknowns, self.centred)
        (left, y), between = self._targets(unseen), self._gram(unseen, seen)
        return lambda ridge: _share(left - product(between, first.step(ridge)), y)

    def _targets(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return self._about_mean(self.left[:, rows], 1), self._about_mean(self.y[:, rows], 1)

    def _gram(self, rows: slice, columns: slice) -> torch.Tensor:
        return self._about_mean(self._about_mean(self.gram[:, rows, columns], 1), 2)

    def _about_mean(self, part: torch.Tensor, axis: int) -> torch.Tensor:
        return part - part.mean(axis, keepdim=True) if self.centred else part


def _share(left: torch.Tensor, y: torch.Tensor) -> float:
    """The squares of what is left, as a share of the targets'; 0 where these are 0."""
    total = float(y.square().sum())
    return float(left.square().sum()) / total if total > 0 else 0.0
