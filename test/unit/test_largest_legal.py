"""The combiner for a dear gate: what it ranks, how far it goes, and how often it asks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_fakes import FakeMeter, FakeProxy, candidate, judge

from loopmorph.pipelines.legality.gate import Criterion, Gate
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.combiner import Judged
from loopmorph.pipelines.search.judge import LocalJudge
from loopmorph.pipelines.search.largest_legal import LargestLegal, upgrades
from loopmorph.pipelines.search.verdict import Verdict
from loopmorph.pipelines.support.progress import silent

GROUP = "morph-group{layer=conv2 iters=co,ci factor=2}"
COARSER = "morph-group{layer=conv2 iters=co,ci factor=4}"
SMALLER = "morph-bottleneck{layer=conv1 iter=co factor=2}"
TAPS = "morph-bottleneck{layer=conv1 iter=kh factor=3}"
LOOPS = "morph-split{layer=linear iter=ci factor=4}"


def judged(text: str, saved: float, harm: float | None) -> Judged:
    entry = candidate(text)
    return Judged(entry, Verdict(tuple(map(str, entry.steps)), "accepted", "", harm, 100.0, 100.0 - saved))


@dataclass
class Summed:
    """The harm of the whole is the sum of what each step does; smaller is better."""

    harms: dict[str, float]
    name: str = "summed"
    title: str = "Summed harm"
    larger_is_better: bool = False
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def score(self, network: Network) -> Score:
        self.asked.append(network.steps)
        return Score(sum(self.harms.get(step, 0.0) for step in network.steps))

    def describe(self) -> str:
        return self.name


def combined(
    plain: Program, entries: Sequence[Judged], limit: float, harms: dict[str, float]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """The steps that are chosen, and the networks that were asked about."""
    proxy = Summed(harms)
    gate = Gate("fake", together=Criterion(proxy, limit))
    steps = LargestLegal().combine(entries, _fast(judge(plain, gate=gate)), silent)
    return [str(step) for step in steps], [asked for asked in proxy.asked if asked]


def _fast(judging: LocalJudge) -> LocalJudge:
    class Faster(FakeMeter):
        """Whatever is done to the network makes it faster."""

        def network(self, original: Network, rewritten: Network):  # type: ignore[no-untyped-def]
            found = super().network(original, rewritten)
            return type(found)(1.0, 0.9 ** len(rewritten.steps))

    judging.meter = Faster()
    return judging


# ---- the ranking


def test_each_layer_goes_up_its_hull_and_the_most_rewarding_step_is_first() -> None:
    entries = [
        judged(COARSER, 40, 0.4),  # from the group of two: 10 more for 0.2
        judged(GROUP, 30, 0.2),  # 150 for each
        judged(SMALLER, 20, 0.1),  # 200 for each
        judged(TAPS, 21, 0.3),  # 5 for each
        judged(LOOPS, 5, None),
        judged("morph-group{layer=conv2 iters=co,ci factor=8}", 20, 0.3),  # below the hull
    ]
    ranked = [(str(each.candidate), each.rate) for each in upgrades(entries)]
    assert [text for text, _ in ranked] == [LOOPS, SMALLER, GROUP, COARSER, TAPS]
    assert [rate for _, rate in ranked] == pytest.approx([math.inf, 200, 150, 50, 5])


def test_what_is_not_worthwhile_is_not_ranked() -> None:
    entries = [judged(GROUP, 1, 0.1), Judged(candidate(SMALLER), Verdict((SMALLER,), "fake", "", 9.0))]
    assert upgrades(entries) == []


@given(
    st.lists(st.tuples(st.integers(3, 90), st.integers(0, 50)), min_size=1, max_size=12),
    st.integers(0, 60),
)
def test_a_hull_falls_in_rate_and_ends_with_what_saves_most(options: list[tuple[int, int]], weight: int) -> None:
    entries = [judged(GROUP, saved, harm) for saved, harm in options]
    rates = [each.rate for each in upgrades(entries)]
    assert all(first > second for first, second in itertools.pairwise(rates))
    # The hull reaches the best there is at every price of harm.
    harm = saved = 0.0
    corners = [(harm, saved)]
    for rate in rates:
        fit = [(h, s) for s, h in options if s > saved and (_rate(harm, saved, h, s) == rate)]
        harm, saved = max(fit, key=lambda each: each[1])
        corners.append((harm, saved))
    best = max([0.0, *(s - weight * h for s, h in options)])
    assert max(s - weight * h for h, s in corners) == pytest.approx(best)


def _rate(harm: float, saved: float, other: float, more: float) -> float:
    return (more - saved) / (other - harm) if other > harm else math.inf


# ---- how far it goes


ENTRIES = [judged(COARSER, 40, 0.4), judged(GROUP, 30, 0.2), judged(SMALLER, 20, 0.1), judged(LOOPS, 5, None)]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1.0, [SMALLER, COARSER, LOOPS]), (0.45, [SMALLER, GROUP, LOOPS]), (0.2, [SMALLER, LOOPS]), (0.05, [LOOPS])],
)
def test_it_goes_as_far_as_the_whole_stays_legal(plain: Program, limit: float, expected: list[str]) -> None:
    steps, _ = combined(plain, ENTRIES, limit, {COARSER: 0.4, GROUP: 0.2, SMALLER: 0.1})
    assert steps == expected


def test_sums_only_rank(plain: Program) -> None:
    """Together the steps do more harm than their scores say; it is the whole that decides."""
    assert combined(plain, ENTRIES, 0.45, {COARSER: 2.0, GROUP: 1.0, SMALLER: 0.3})[0] == [SMALLER, LOOPS]


def test_all_are_asked_about_first_and_the_rest_by_bisection(plain: Program) -> None:
    _, asked = combined(plain, ENTRIES, 1.0, {})
    assert asked == [(SMALLER, COARSER)]
    _, asked = combined(plain, ENTRIES, 0.05, {COARSER: 0.4, GROUP: 0.2, SMALLER: 0.1})
    assert asked == [(SMALLER, COARSER), (SMALLER,)]


def test_what_the_network_does_not_admit_any_more_is_left_out(plain: Program) -> None:
    quarter = "morph-bottleneck{layer=conv1 iter=co factor=8}"
    steps, _ = combined(plain, [judged(quarter, 40, 0.1), judged(COARSER, 30, 0.1)], 1.0, {})
    assert steps == [quarter]


def test_nothing_is_chosen_of_nothing(plain: Program) -> None:
    assert combined(plain, [], 1.0, {}) == ([], [])


def test_without_an_oracle_everything_that_fits_is_legal(plain: Program) -> None:
    judging = judge(plain, FakeProxy({(GROUP,): -1.0}), gate=Gate("none"))
    assert judging.judge(candidate(GROUP)).outcome == "accepted"
    assert judging.is_legal([candidate(GROUP).neural]) and judging.score(()) is None


def test_a_candidate_alone_is_held_against_its_own_limit(plain: Program) -> None:
    alone, together = Summed({GROUP: 0.3, SMALLER: 0.2}), Summed({}, name="whole")
    judging = judge(plain, gate=Gate("repair", alone=(Criterion(alone, 0.25),), together=Criterion(together, 1.0)))
    refused, accepted = judging.judge(candidate(GROUP)), judging.judge(candidate(SMALLER))
    assert (refused.outcome, refused.reason, refused.score) == ("repair", "Summed harm 0.3 > 0.25", 0.3)
    assert (accepted.outcome, accepted.score) == ("accepted", 0.2)
    assert together.asked == []
