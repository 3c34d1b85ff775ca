"""The combiner for a gate that is dear: of ranked candidates, as many as stay legal together, found by bisection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loopmorph.passes.history import Step
from loopmorph.pipelines.search.combiner import Judged, fastest, with_loops
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.support.interrupts import until_interrupted
from loopmorph.pipelines.support.progress import Progress


@dataclass(frozen=True)
class Upgrade:
    """A candidate in the place of the one that its layer has had.

    Attributes:
        candidate: the new one.
        rate: milliseconds that it saves in addition, for each unit of harm that it does in addition.
    """

    candidate: Candidate
    rate: float


@dataclass(frozen=True)
class LargestLegal:
    """The longest sequence of upgrades, the most rewarding first, after which the network is still legal.

    Each layer begins as it is. What its candidates save against the harm that they do alone (their score; a smaller one
    is better) leaves those that lie on the upper hull; all layers' steps along their hulls, by their rate, are the
    greedy algorithm for the multiple-choice knapsack (Sinha and Zoltners 1979, "The multiple-choice knapsack problem",
    Operations Research 27(3)), which is best for its linear relaxation. The sums only rank: how far the sequence may be
    followed is decided on assembled networks, by bisection, so that n upgrades take about log2(n) of these judgements.
    """

    def combine(self, judged: Sequence[Judged], judge: Judge, tell: Progress) -> tuple[Step, ...]:
        ranked = upgrades(judged)
        ceiling = math.ceil(math.log2(len(ranked) + 1)) + 1
        free = sum(upgrade.candidate.neural is None for upgrade in ranked)  # their rate is infinite: they come first
        legal, illegal, number = free, len(ranked) + 1, 0
        trial = len(ranked)  # often all of them will do
        neural: tuple[Step, ...] = ()
        with until_interrupted():
            while illegal - legal > 1:
                tell("combine", number, ceiling)
                steps = _neural(_chosen(ranked[:trial]), judge)
                if not steps or judge.is_legal(steps):
                    legal, neural = trial, steps
                else:
                    illegal = trial
                trial, number = (legal + illegal) // 2, number + 1
            tell("combine", ceiling, ceiling)
        chosen = _chosen(ranked[:legal])
        applied = [each for each in chosen if each.neural is None or each.neural in neural]
        return fastest(judge, neural, with_loops(neural, applied, judge))


def upgrades(judged: Sequence[Judged]) -> list[Upgrade]:
    """All layers' steps along their hulls, the most rewarding first; of equal ones those that were drawn first."""
    layers: dict[str, list[Judged]] = {}
    for entry in judged:
        if entry.verdict.saved is not None:
            layers.setdefault(entry.candidate.layer, []).append(entry)
    found = [upgrade for options in layers.values() for upgrade in _hull(options)]
    return sorted(found, key=lambda upgrade: -upgrade.rate)


def _hull(options: Sequence[Judged]) -> list[Upgrade]:
    """The upper hull of what one layer's candidates save over the harm that they do, from the layer as it is."""
    corners: list[tuple[float, float]] = [(0.0, 0.0)]  # harm, milliseconds saved
    hull: list[Upgrade] = []
    for entry in sorted(options, key=lambda each: (_harm(each), -_saved(each))):
        here = _harm(entry), _saved(entry)
        if here[1] <= corners[-1][1]:
            continue
        while hull and _rate(corners[-2], here) >= hull[-1].rate:
            corners.pop()
            hull.pop()
        hull.append(Upgrade(entry.candidate, _rate(corners[-1], here)))
        corners.append(here)
    return hull


def _rate(before: tuple[float, float], after: tuple[float, float]) -> float:
    harm, saved = after[0] - before[0], after[1] - before[1]
    return saved / harm if harm > 0 else math.inf


def _harm(entry: Judged) -> float:
    return 0.0 if entry.candidate.neural is None else max(entry.verdict.score or 0.0, 0.0)


def _saved(entry: Judged) -> float:
    return entry.verdict.saved or 0.0


def _chosen(ranked: Sequence[Upgrade]) -> list[Candidate]:
    """The last candidate of each layer, in the order of the layers' first ones."""
    return list({upgrade.candidate.layer: upgrade.candidate for upgrade in ranked}.values())


def _neural(chosen: Sequence[Candidate], judge: Judge) -> tuple[Step, ...]:
    """The candidates' neural steps, but for those that the network does not admit after the others."""
    steps = tuple(each.neural for each in chosen if each.neural is not None)
    if not steps or judge.is_applicable(steps):
        return steps
    kept: tuple[Step, ...] = ()
    for step in steps:
        if judge.is_applicable((*kept, step)):
            kept = (*kept, step)
    return kept
