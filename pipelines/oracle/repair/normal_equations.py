"""Least squares from Gram matrices: many independent problems with the same unknowns, rows given a few at a time."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch

EXACT = 512  # unknowns up to which products are made in float64: there it costs nothing that counts
_PARTS = 4  # of a large Gram matrix's rows and columns
_JUDGED = 64  # outputs of a block by which a ridge is chosen; more would hardly choose another one
_TRIES = 4  # larger and larger ridges where a matrix is not positive definite


@dataclass(frozen=True)
class Solution:
    """What least squares found.

    Attributes:
        weight: (blocks, unknowns, outputs) float64.
        intercept: (blocks, outputs) float64: what is added; 0 where none was wanted.
        before, after: the squared error that remains with the weights given, and with the new ones, as a share of the
            targets' own (about their mean where there is an intercept); 0 where the targets do not vary.
        ridge: that was used.
        dead: how many unknowns are never anything but 0 (but constant, where there is an intercept).
        rank_deficient: whether there were fewer rows than unknowns.
    """

    weight: torch.Tensor
    intercept: torch.Tensor
    before: float
    after: float
    ridge: float
    dead: int
    rank_deficient: bool


class Equations(Protocol):
    """Independent least-squares problems with the same unknowns, in whatever form their rows are kept."""

    rows: int
    dropped: int

    def add(self, u: torch.Tensor, y: torch.Tensor) -> None: ...

    def joined(self, other: Self) -> Self: ...

    def fitted(self, held_out: Self, start: torch.Tensor, ridges: Sequence[float], intercept: bool) -> Solution: ...

    def moments(self, intercept: bool) -> torch.Tensor: ...

    def mean_target(self) -> torch.Tensor: ...


@dataclass
class NormalEquations:
    """`argmin_W sum |W^T u - y|^2 + ridge |W - W_0|^2` for each block, from `E[u u^T]` and `E[u y^T]`.

    Attributes:
        gram: (blocks, unknowns, unknowns) float64, the sum of u u^T.
        cross: (blocks, unknowns, outputs) float64, the sum of u y^T.
        u, y: (blocks, unknowns) and (blocks, outputs), the sums of each.
        y_squared: (blocks, outputs), the sums of squares.
        rows: how many there were for each block.
        dropped: rows left out since they held NaN or infinities.
    """

    gram: torch.Tensor
    cross: torch.Tensor
    u: torch.Tensor
    y: torch.Tensor
    y_squared: torch.Tensor
    rows: int = 0
    dropped: int = 0

    @staticmethod
    def empty(blocks: int, unknowns: int, outputs: int, device: torch.device) -> NormalEquations:
        """Before any row."""

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return NormalEquations(
            zeros(blocks, unknowns, unknowns),
            zeros(blocks, unknowns, outputs),
            zeros(blocks, unknowns),
            zeros(blocks, outputs),
            zeros(blocks, outputs),
        )

    def add(self, u: torch.Tensor, y: torch.Tensor) -> None:
        """Takes some rows: u (blocks, rows, unknowns), y (blocks, rows, outputs), of any floating-point type."""
        sound = sound_rows(u, y)
        if not bool(sound.all()):
            self.dropped += int((~sound).sum())
            u, y = u[:, sound], y[:, sound]
        if u.shape[2] <= EXACT:
            u, y = u.double(), y.double()
        add_gram(self.gram, u)
        self.cross += u.transpose(1, 2) @ y
        self.u += u.sum(1, dtype=torch.float64)
        self.y += y.sum(1, dtype=torch.float64)
        self.y_squared += y.double().square().sum(1)
        self.rows += u.shape[1]

    def joined(self, other: NormalEquations) -> NormalEquations:
        """All rows of both."""
        return NormalEquations(
            self.gram + other.gram,
            self.cross + other.cross,
            self.u + other.u,
            self.y + other.y,
            self.y_squared + other.y_squared,
            self.rows + other.rows,
            self.dropped + other.dropped,
        )

    def solve(self, start: torch.Tensor, ridge: float, intercept: bool) -> Solution:
        """The weights.

        Args:
            start: (blocks, unknowns, outputs), W_0, towards which the ridge pulls what the rows leave open.
            ridge: as a share of the mean of the Gram matrix's diagonal.
            intercept: whether a constant may be added to each output; it is not subject to the ridge.
        """
        start = start.double()
        seen = self.about_mean() if intercept else self
        inherited = seen.gram @ start
        weight = start + solved(seen.gram, seen.cross - inherited, ridge)
        constant = torch.zeros_like(self.y)
        if intercept and self.rows:
            constant = (self.y - torch.einsum("br,bro->bo", self.u, weight)) / self.rows
        raw = self.gram.diagonal(dim1=1, dim2=2)
        dead = seen.gram.diagonal(dim1=1, dim2=2) <= 1e-12 * raw.clamp_min(1e-300)
        before, after = seen.error(start, inherited), seen.error(weight, seen.gram @ weight)
        return Solution(weight, constant, before, after, ridge, int(dead.sum()), self.rows < raw.shape[1])

    def fitted(
        self, held_out: NormalEquations, start: torch.Tensor, ridges: Sequence[float], intercept: bool
    ) -> Solution:
        """The solution for these rows and others, with the ridge by which these tell best what the others are.

        Args:
            held_out: the other rows; without any, the first ridge is taken.
            start, intercept: see `solve`.
            ridges: to choose from, ascending.
        """
        ridge, both = ridges[0], self.joined(held_out)
        if len(ridges) > 1 and held_out.rows:
            judged = spread_outputs(start)
            seen, unseen = (e.about_mean() if intercept else e for e in (self.only(judged), held_out.only(judged)))
            ridge = choose_ridge(ridges, seen._validation(unseen, start.double()[:, :, judged]))
        return both.solve(start, ridge, intercept)

    def only(self, outputs: torch.Tensor) -> NormalEquations:
        """The same for some of the outputs."""
        cross, y, y_squared = self.cross[:, :, outputs], self.y[:, outputs], self.y_squared[:, outputs]
        return replace(self, cross=cross, y=y, y_squared=y_squared)

    def _validation(self, unseen: NormalEquations, start: torch.Tensor) -> Callable[[float], float]:
        """What the weights that these rows give with a ridge leave of the others' targets."""
        right = self.cross - self.gram @ start

        def left(ridge: float) -> float:
            weight = start + solved(self.gram, right, ridge)
            return unseen.error(weight, unseen.gram @ weight)

        return left

    def error(self, weight: torch.Tensor, product: torch.Tensor) -> float:
        """The squared error that some weights leave, as a share of that of none; 0 where all targets are 0.

        Args:
            weight: (blocks, unknowns, outputs) float64.
            product: `gram @ weight`.
        """
        total = float(self.y_squared.sum())
        left = self.y_squared - 2 * (weight * self.cross).sum(1) + (weight * product).sum(1)
        return max(float(left.sum()), 0.0) / total if total > 0 else 0.0

    def moments(self, intercept: bool) -> torch.Tensor:
        """The second moments of u, summed over the rows, (blocks, unknowns, unknowns) float64; with a constant added to
        each output they are those about the mean.
        """
        return (self.about_mean() if intercept else self).gram

    def mean_target(self) -> torch.Tensor:
        """The mean over the rows of the targets: (blocks, outputs) float64."""
        return self.y / max(self.rows, 1)

    def about_mean(self) -> NormalEquations:
        """The same with the rows' means taken away."""
        rows = max(self.rows, 1)
        return replace(
            self,
            gram=self.gram - self.u[:, :, None] * self.u[:, None, :] / rows,
            cross=self.cross - self.u[:, :, None] * self.y[:, None, :] / rows,
            y_squared=self.y_squared - self.y.square() / rows,
        )


def sound_rows(u: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Which rows of u (blocks, rows, unknowns) and y (blocks, rows, outputs) are finite in all blocks: (rows,) bool."""
    return u.isfinite().all(2).all(0) & y.isfinite().all(2).all(0)


def add_gram(gram: torch.Tensor, u: torch.Tensor) -> None:
    """Adds `u^T u`; of a large one only the blocks on and above the diagonal are computed, five eighths of the work."""
    size = u.shape[2]
    ends = [size * k // _PARTS for k in range(_PARTS + 1)] if size > EXACT else [0, size]
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    for k, rows in enumerate(parts):
        for columns in parts[k:]:
            product = u[:, :, rows].transpose(1, 2) @ u[:, :, columns]
            gram[:, rows, columns] += product
            if columns != rows:
                gram[:, columns, rows] += product.transpose(1, 2)


def spread_outputs(weight: torch.Tensor) -> torch.Tensor:
    """Up to `_JUDGED` of the outputs of (blocks, unknowns, outputs), evenly spread: int64."""
    count = weight.shape[2]
    return torch.arange(0, count, max(1, -(-count // _JUDGED)), device=weight.device)


def choose_ridge(ridges: Sequence[float], error_with: Callable[[float], float]) -> float:
    """The ridge with which weights fitted to some rows have the least error on others.

    The error has one valley over the ridge, as far as that counts: it is gone down from the middle of `ridges`.
    """

    @functools.cache
    def error(k: int) -> float:
        return error_with(ridges[k])

    at = len(ridges) // 2
    for step in (1, -1):
        while 0 <= at + step < len(ridges) and error(at + step) < error(at):
            at += step
    return ridges[at]


def solved(gram: torch.Tensor, right: torch.Tensor, ridge: float) -> torch.Tensor:
    """`(gram + ridge * mean diagonal) x = right` for each block; 0 for a block whose matrix is 0."""
    return solver(gram, ridge)(right)


def solver(gram: torch.Tensor, ridge: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """What solves `(gram + ridge * mean diagonal) x = right` for any right side; 0 for a block whose matrix is 0."""
    mean = gram.diagonal(dim1=1, dim2=2).mean(1)
    alive = mean > 0
    shift = torch.where(alive, mean, torch.ones_like(mean))[:, None]
    for attempt in range(_TRIES):
        amount = max(ridge, 1e-12) * 100.0**attempt
        factor, info = torch.linalg.cholesky_ex(_with_diagonal(gram, amount * shift))
        if not bool(info.any()):
            return lambda right: torch.cholesky_solve(right, factor) * alive[:, None, None]
    whole = _with_diagonal(gram, shift)
    return lambda right: torch.linalg.lstsq(whole, right).solution * alive[:, None, None]


def _with_diagonal(gram: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """The matrices with something more on their diagonals; (blocks, 1) of it."""
    found = gram.clone()
    found.diagonal(dim1=1, dim2=2).add_(amount)
    return found
