"""The front of the additive model: for each latency the least loss, by the epsilon-constraint method.

Haimes, Lasdon and Wismer 1971, "On a bicriterion formulation of the problems of integrated system identification and
system optimization", IEEE Transactions on Systems, Man, and Cybernetics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from loopmorph.pipelines.search.joint.knapsack import MILLISECONDS, Problem, Selection, least, solve
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent

_NEAR = 1e-4  # to the optimum, where a number of points was asked for
_CLOSER = 1 - 1e-9  # the next limit, as a share of what was reached


def front(problem: Problem, points: int | None = None, tell: Progress = silent) -> tuple[Selection, ...]:
    """The choices that no other is better than in both latency and loss, within the problem's limits.

    Args:
        problem: what is chosen from; its limit of milliseconds, if there is one, is where the front begins.
        points: how many latencies to look at, at equal ratios between the slowest and the fastest choice; several may
            lead to the same one. None for every choice on the front, of which there may be thousands.
        tell: called with "front", the latencies looked at and of all; the latter only where it is known.

    Returns:
        The choices, the slowest first, their losses strictly ascending and their milliseconds strictly descending.

    Raises:
        ArgumentError: no choice keeps the limits, or `points` is less than 1.
    """
    slowest = least(problem)
    fastest = least(problem, MILLISECONDS)
    if points is None:
        found = [slowest, *_descending(problem, slowest)]
    else:
        check_count("points", points)
        found = []
        latencies = np.geomspace(slowest.cost.milliseconds, fastest.cost.milliseconds, points).tolist()
        for done, latency in enumerate(latencies, start=1):
            selection = solve(_within(problem, max(latency, fastest.cost.milliseconds)), gap=_NEAR)
            found += [] if selection is None else [selection]
            tell("front", done, points)
    return _efficient([*found, fastest])


def _descending(problem: Problem, selection: Selection) -> Iterator[Selection]:
    """The next faster choice, again and again."""
    current: Selection | None = selection
    while current is not None:
        reached = current.cost.milliseconds
        current = solve(_within(problem, min(reached * _CLOSER, math.nextafter(reached, -math.inf))))
        if current is not None:
            yield current


def _within(problem: Problem, milliseconds: float) -> Problem:
    return replace(problem, limits=replace(problem.limits, milliseconds=milliseconds))


def _efficient(found: list[Selection]) -> tuple[Selection, ...]:
    """Those that no other is better than, one for each pair of numbers."""
    kept: list[Selection] = []
    for selection in sorted(found, key=lambda each: (each.loss, each.cost.milliseconds)):
        if not kept or selection.cost.milliseconds < kept[-1].cost.milliseconds:
            kept.append(selection)
    return tuple(kept)
