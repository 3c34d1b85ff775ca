"""Least squares where a rectifier follows: what it cuts off need not be right, only stay cut off.

`argmin_W sum |c(W^T u + k) - y|^2` where `y` lies within the rectifier's bounds and `c` is the identity, elsewhere the
distance to the side of the bound where `y` lies. That is convex in W: each step replaces the targets that are cut off
by what is there, if that is cut off as well, and else by the bound, and solves the same normal equations for them; the
error never grows (majorisation), and momentum (Beck and Teboulle, "FISTA", SIAM J. Imaging Sciences 2009) makes it
fast. The idea of fitting what comes after the rectifier: Zhang, Zou, He and Sun, "Accelerating Very Deep Convolutional
Networks for Classification and Detection" (TPAMI 2016), section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from loopmorph.pipelines.oracle.repair.normal_equations import Solution, solver, sound_rows


@dataclass
class RectifiedRows:
    """The rows of independent problems, whose outputs are cut off at bounds of each element.

    Attributes:
        u: chunks of (blocks, rows, unknowns) float32.
        y, low, high: chunks of (blocks, rows, outputs) float32: targets, and between which bounds they count.
        channels: (blocks, outputs) int64, which channel of the layer's output each output is; None where not known.
    """

    u: list[torch.Tensor] = field(default_factory=list)
    y: list[torch.Tensor] = field(default_factory=list)
    low: list[torch.Tensor] = field(default_factory=list)
    high: list[torch.Tensor] = field(default_factory=list)
    channels: torch.Tensor | None = None

    def by_channel(self, constants: torch.Tensor) -> torch.Tensor | None:
        """Constants (blocks, outputs) as (channels,), where these are known."""
        return None if self.channels is None else constants.reshape(-1)[self.channels.reshape(-1).argsort()]

    def add(self, u: torch.Tensor, y: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
        """Takes some rows; those that hold NaN or infinities in u or y are left out, as in all equations."""
        sound = sound_rows(u, y)
        for kept, rows in ((self.u, u), (self.y, y), (self.low, low), (self.high, high)):
            kept.append((rows if bool(sound.all()) else rows[:, sound]).float())

    def solve(self, start: torch.Tensor, first: Solution, intercept: bool, steps: int) -> Solution:
        """The weights, from those of plain least squares on.

        Args:
            start: (blocks, unknowns, outputs), towards which the ridge pulls.
            first: what plain least squares found, with the ridge that is used here too.
            intercept: whether a constant may be added to each output.
            steps: how many; each costs two products with the rows.

        Returns:
            `before` and `after` are of the error that is made small here, as a share of the targets' variance.
        """
        u, y, low, high = (torch.cat(parts, 1) for parts in (self.u, self.y, self.low, self.high))
        mean = u.mean(1, keepdim=True) if intercept else torch.zeros_like(u[:, :1])
        fit = _fitter(u - mean if intercept else u, start.double(), first.ridge)

        def solved(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            centre = z.mean(1, keepdim=True) if intercept else torch.zeros_like(z[:, :1])
            weight = fit(z - centre)
            return weight, (centre.double() - mean.double() @ weight) if intercept else centre.double()

        def reached(weight: torch.Tensor, constant: torch.Tensor) -> torch.Tensor:
            return u @ weight.float() + constant.float()

        def wanted(p: torch.Tensor) -> torch.Tensor:
            cut = torch.where(y < low, p.minimum(low), p.maximum(high))
            return torch.where((y >= low) & (y <= high), y, cut)

        def error(p: torch.Tensor) -> float:
            total = float((y - y.mean(1, keepdim=True)).square().sum())
            return float((wanted(p) - p).square().sum()) / total if total > 0 else 0.0

        centred = (y - u @ start.float()).mean(1, keepdim=True) if intercept else torch.zeros_like(y[:, :1])
        before = error(reached(start, centred))
        last = present = (first.weight, first.intercept[:, None].double())
        best = (error(reached(*present)), present)
        for step in range(steps):
            share = step / (step + 3)
            ahead = tuple(new + share * (new - old) for new, old in zip(present, last, strict=True))
            last, present = present, solved(wanted(reached(*ahead)))
            best = min(best, (error(reached(*present)), present), key=lambda each: each[0])
        after, (weight, constant) = best
        return Solution(weight, constant[:, 0], before, after, first.ridge, first.dead, first.rank_deficient)


def _fitter(u: torch.Tensor, start: torch.Tensor, ridge: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Targets -> weights, for (blocks, rows, unknowns) u, in the form whose matrix is the smaller one."""
    if u.shape[1] >= u.shape[2]:
        gram = (u.transpose(1, 2) @ u).double()
        solve = solver(gram, ridge)
        pulled = gram @ start
        return lambda z: start + solve((u.transpose(1, 2) @ z).double() - pulled)
    dual = solver((u @ u.transpose(1, 2)).double(), ridge * u.shape[1] / u.shape[2])
    reached = (u @ start.to(u)).double()
    return lambda z: start + (u.transpose(1, 2) @ dual(z.double() - reached).to(u)).double()
