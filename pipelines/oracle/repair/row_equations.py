"""Least squares with fewer rows than unknowns: the rows themselves are kept, and a matrix of their products is solved.

The same solution as `NormalEquations` has, by `(U^T U + r I)^-1 U^T = U^T (U U^T + r I)^-1`: ridge regression in its
dual form (Saunders et al., ICML 1998). The matrix has as many rows as there are rows, not unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from loopmorph.pipelines.oracle.repair.normal_equations import Solution, solved


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
        sound = u.isfinite().all(2).all(0) & y.isfinite().all(2).all(0)
        self.dropped += int((~sound).sum())
        self.u.append(u[:, sound])
        self.y.append(y[:, sound].double())
        self.rows += int(sound.sum())

    def joined(self, other: RowEquations) -> RowEquations:
        """All rows of both."""
        return RowEquations(
            [*self.u, *other.u], [*self.y, *other.y], self.rows + other.rows, self.dropped + other.dropped
        )

    def solve(self, start: torch.Tensor, ridge: float, intercept: bool) -> Solution:
        """The weights; see `NormalEquations.solve`."""
        seen = self.about_mean() if intercept else self
        weight = seen.weights(start, ridge)
        (u,), (y,) = self._whole()
        constant = torch.zeros(y.shape[0], y.shape[2], dtype=y.dtype, device=y.device)
        if intercept and self.rows:
            constant = y.mean(1) - torch.einsum("bu,buo->bo", u.mean(1, dtype=torch.float64), weight)
        raw = u.double().square().sum(1)
        dead = seen._whole()[0][0].double().square().sum(1) <= 1e-12 * raw.clamp_min(1e-300)
        before, after = seen.error(start), seen.error(weight)
        return Solution(weight, constant, before, after, ridge, int(dead.sum()), self.rows < u.shape[2])

    def weights(self, start: torch.Tensor, ridge: float) -> torch.Tensor:
        """The weights without an intercept; see `NormalEquations.weights`."""
        (u,), (y,) = self._whole()
        start = start.double()
        left = y - (u @ start.to(u)).double()
        scale = u.shape[1] / u.shape[2]  # the ridge is a share of the mean over unknowns, here of that over rows
        step = solved((u @ u.transpose(1, 2)).double(), left, ridge * scale)
        return start + (u.transpose(1, 2) @ step.to(u)).double()

    def error(self, weight: torch.Tensor) -> float:
        """The squared error that some weights leave, as a share of that of none; 0 where all targets are 0."""
        (u,), (y,) = self._whole()
        total = float(y.square().sum())
        return float((y - (u @ weight.to(u)).double()).square().sum()) / total if total > 0 else 0.0

    def about_mean(self) -> RowEquations:
        """The same with the rows' means taken away."""
        (u,), (y,) = self._whole()
        return replace(self, u=[u - u.mean(1, keepdim=True)], y=[y - y.mean(1, keepdim=True)])

    def _whole(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        if len(self.u) > 1:
            self.u, self.y = [torch.cat(self.u, 1)], [torch.cat(self.y, 1)]
        return self.u, self.y
