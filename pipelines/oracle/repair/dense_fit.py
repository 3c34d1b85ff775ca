"""A dense weight that was fitted, in the place of a product of two, and what the product is made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from loopmorph.pipelines.oracle.repair.normal_equations import Equations, Solution


@dataclass(frozen=True)
class DenseFit:
    """One dense weight, as fitted.

    Attributes:
        solution: what least squares found.
        equations: all its rows.
        intercept: whether a constant may be added to each output.
        ridge: what is added to the diagonal of the second moments of what is read: the least ridge, since that of the
            dense fit is for what a product does not have.
    """

    solution: Solution
    equations: Equations
    intercept: bool
    ridge: float

    def moments(self) -> torch.Tensor:
        """(unknowns, unknowns), the second moments of what is read, summed over rows, about the mean if there is an
        intercept, with the ridge; in float32 where there are many.
        """
        moments = self.equations.moments(self.intercept)[0].clone()
        moments.diagonal().add_(self.ridge)
        return moments

    def covariance(self) -> torch.Tensor:
        """`W moments W^T`, (outputs, outputs) float64."""
        weight = self.solution.weight
        return self.equations.covariance(weight, self.intercept)[0] + self.ridge * weight[0].T @ weight[0]
