"""Switches at constant latency: one block gives more, another less, and the whole network says whether that is better.

The proposals and the selection in stages are EvoPress's (Sieberling et al. 2025, "EvoPress: Accurate Dynamic Model
Compression via Evolutionary Search", ICML): of some offspring, all are judged on few images, the best of these on more,
and the best of all takes the parent's place if it is better. Here offspring are drawn where the additive model expects
something: each is the best choice within the limits that brings in at most two new variants, under coefficients that
are drawn from what is known of them, and random factors of the variants (a search in the parent's neighbourhood by the
solver itself, as in Fischetti and Lodi 2003, "Local branching", Mathematical Programming 98).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from loopmorph.pipelines.search.joint.coefficients import Coefficients
from loopmorph.pipelines.search.joint.knapsack import Problem, Selection, solve

_NEW = 2  # variants that come in: one for the block that gives more, one for that which gives less
_NEAR = 1e-2  # to the optimum of losses that are believed to within a factor
_SPREAD = 0.2  # of the logarithms of the random factors of single variants


def offspring(
    problem: Problem, learned: Coefficients, parent: Selection, generator: Random, count: int
) -> Iterator[Selection]:
    """Different choices near one, within the limits, none of those that the problem excludes.

    Args:
        problem: the limits, and what was tried already.
        learned: coefficients of the losses.
        parent: the choice that they are near.
        generator: advanced by the number of layers and of variants for each one.
        count: how many; fewer where there are no more of them.
    """
    problem = replace(problem, near=frozenset(parent.indices), most_new=_NEW)
    for _ in range(count):
        losses = learned.sampled(generator).losses(problem.table)
        drawn = tuple(loss * math.exp(generator.gauss(0.0, _SPREAD)) for loss in losses)
        found = any_of(replace(problem, losses=drawn))
        if found is None:
            return
        yield found
        problem = replace(problem, excluded=(*problem.excluded, frozenset(found.indices)))


def any_of(problem: Problem) -> Selection | None:
    """A choice near the best; where all of those without dominated variants are excluded, the best with such."""
    return solve(problem, gap=_NEAR) or solve(problem, gap=_NEAR, reduced=False)
