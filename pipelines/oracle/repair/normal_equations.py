"""Least squares from Gram matrices: many independent problems with the same unknowns, rows given a few at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch

EXACT = 512  # unknowns up to which all is in float64: there it costs nothing that counts
_PARTS = 8  # of a large Gram matrix's rows
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

    def variance(self, intercept: bool) -> float: ...

    def covariance(self, weight: torch.Tensor, intercept: bool) -> torch.Tensor: ...

    def mean_target(self) -> torch.Tensor: ...


@dataclass
class NormalEquations:
    """`argmin_W sum |W^T u - y|^2 + ridge |W - W_0|^2` for each block, from `E[u u^T]` and `E[u y^T]`.

    Attributes:
        gram: (blocks, unknowns, unknowns) the sum of u u^T: float64 of up to `EXACT` unknowns, float32 of more.
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

        def zeros(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return NormalEquations(
            zeros(blocks, unknowns, unknowns, dtype=torch.float64 if unknowns <= EXACT else torch.float32),
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
        u, y = u.to(self.gram), y.to(self.gram)
        add_gram(self.gram, u)
        self.cross += u.transpose(1, 2) @ y
        self.u += u.sum(1)
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
        left = self.left_by(start, intercept)
        step = left.step(ridge)
        weight = start + step
        constant = torch.zeros_like(self.y)
        if intercept and self.rows:
            constant = (self.y - torch.einsum("br,bro->bo", self.u, weight)) / self.rows
        raw, seen = (gram.diagonal(dim1=1, dim2=2) for gram in (self.gram, left.gram))
        dead = seen <= 1e-12 * raw.clamp_min(1e-30)
        return Solution(
            weight, constant, left.share, left.after(step), ridge, int(dead.sum()), self.rows < raw.shape[1]
        )

    def fitted(
        self, held_out: NormalEquations, start: torch.Tensor, ridges: Sequence[float], intercept: bool
    ) -> Solution:
        """The solution for these rows and others, with the ridge by which these tell best what the others are.

        Args:
            held_out: the other rows; without any, the first ridge is taken.
            start, intercept: see `solve`.
            ridges: to choose from, ascending.
        """
        ridge = ridges[0]
        if len(ridges) > 1 and held_out.rows:
            judged = spread_outputs(start)
            begin = start.double()[:, :, judged]
            seen, unseen = (each.only(judged).left_by(begin, intercept) for each in (self, held_out))
            ridge = choose_ridge(ridges, lambda each: unseen.after(seen.step(each)))
        return self.joined(held_out).solve(start, ridge, intercept)

    def only(self, outputs: torch.Tensor) -> NormalEquations:
        """The same for some of the outputs."""
        cross, y, y_squared = self.cross[:, :, outputs], self.y[:, outputs], self.y_squared[:, outputs]
        return replace(self, cross=cross, y=y, y_squared=y_squared)

    def left_by(self, start: torch.Tensor, intercept: bool) -> Left:
        """What weights (blocks, unknowns, outputs) float64 leave, about the mean if there is an intercept."""
        seen = self.about_mean() if intercept else self
        right = seen.cross - product(seen.gram, start)
        total = float(seen.y_squared.sum())
        return Left(seen.gram, right, total - float((start * (seen.cross + right)).sum()), total)

    def moments(self, intercept: bool) -> torch.Tensor:
        """The second moments of u, summed over the rows, (blocks, unknowns, unknowns) in the type of `gram`; with a
        constant added to each output they are those about the mean.
        """
        return (self.about_mean() if intercept else self).gram

    def variance(self, intercept: bool) -> float:
        """The mean of the diagonals of `moments`."""
        squares = self.gram.diagonal(dim1=1, dim2=2).double()
        return float((squares - self.u.square() / max(self.rows, 1) if intercept else squares).mean())

    def covariance(self, weight: torch.Tensor, intercept: bool) -> torch.Tensor:
        """`weight^T moments weight` for (blocks, unknowns, outputs) float64, (blocks, outputs, outputs) float64."""
        gram = (self.about_mean() if intercept else self).gram
        return weight.transpose(1, 2) @ product(gram, weight)

    def mean_target(self) -> torch.Tensor:
        """The mean over the rows of the targets: (blocks, outputs) float64."""
        return self.y / max(self.rows, 1)

    def about_mean(self) -> NormalEquations:
        """The same with the rows' means taken away."""
        rows = max(self.rows, 1)
        mean = (self.u / rows).to(self.gram)[:, :, None]
        return replace(
            self,
            gram=torch.baddbmm(self.gram, mean, self.u.to(self.gram)[:, None, :], alpha=-1),
            cross=self.cross - self.u[:, :, None] * self.y[:, None, :] / rows,
            y_squared=self.y_squared - self.y.square() / rows,
        )


@dataclass(frozen=True)
class Left:
    """What some weights leave of the targets, and what a step away from them makes of it.

    Attributes:
        gram: (blocks, unknowns, unknowns), float32 or float64.
        right: (blocks, unknowns, outputs) float64, the sums of u times what is left of y.
        squares: the sum of the squares of what is left.
        total: that of the targets.
    """

    gram: torch.Tensor
    right: torch.Tensor
    squares: float
    total: float

    def step(self, ridge: float) -> torch.Tensor:
        """What is to be added to the weights, (blocks, unknowns, outputs) float64."""
        return solved(self.gram, self.right, ridge)

    @property
    def share(self) -> float:
        """The squared error as a share of that of no weights; 0 where all targets are 0."""
        return max(self.squares, 0.0) / self.total if self.total > 0 else 0.0

    def after(self, step: torch.Tensor) -> float:
        """The share with a step added to the weights."""
        less = float((step * (2 * self.right - product(self.gram, step))).sum())
        return replace(self, squares=self.squares - less).share


def product(gram: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`gram @ weight` in the type of the matrices, as float64."""
    return (gram @ weight.to(gram)).double()


def sound_rows(u: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Which rows of u (blocks, rows, unknowns) and y (blocks, rows, outputs) are finite in all blocks: (rows,) bool."""
    return (u.sum(2) + y.sum(2)).isfinite().all(0)  # what is not finite makes a sum that is not


def add_gram(gram: torch.Tensor, u: torch.Tensor) -> None:
    """Adds `u^T u`; of a large one little more than what is on and above the diagonal is computed."""
    size = u.shape[2]
    parts = _PARTS if size > EXACT else 1
    bounds = [(size * k // parts, size * (k + 1) // parts) for k in range(parts)]
    for block, rows in zip(gram, u, strict=True):
        for begin, end in bounds:
            block[begin:end, begin:].addmm_(rows[:, begin:end].T, rows[:, begin:])
            block[end:, begin:end] = block[begin:end, end:].T


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
    """What solves `(gram + ridge * mean diagonal) x = right` for any right side; 0 for a block whose matrix is 0.

    In the type of the matrices; in float64 where float32 does not do.
    """
    mean = gram.diagonal(dim1=1, dim2=2).mean(1)
    alive = mean > 0
    shift = torch.where(alive, mean, torch.ones_like(mean))[:, None]
    factor = _factor(gram, max(ridge, 1e-12) * shift)
    if factor is None:
        gram, shift = gram.double(), shift.double()
        amounts = (max(ridge, 1e-12) * 100.0**attempt for attempt in range(_TRIES))
        factors = (_factor(gram, amount * shift) for amount in amounts)
        factor = next((each for each in factors if each is not None), None)
    if factor is None:
        whole = _with_diagonal(gram, shift)
        return lambda right: torch.linalg.lstsq(whole, right.to(whole)).solution * alive[:, None, None]
    return lambda right: torch.cholesky_solve(right.to(factor), factor).double() * alive[:, None, None]


def _factor(gram: torch.Tensor, amount: torch.Tensor) -> torch.Tensor | None:
    """The Cholesky factors of matrices with something more on their diagonals; None where one has none."""
    factor, info = torch.linalg.cholesky_ex(_with_diagonal(gram, amount))
    return None if bool(info.any()) else factor


def _with_diagonal(gram: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """The matrices with something more on their diagonals; (blocks, 1) of it."""
    found = gram.clone()
    found.diagonal(dim1=1, dim2=2).add_(amount)
    return found
