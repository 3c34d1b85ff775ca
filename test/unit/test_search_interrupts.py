"""An interrupt of the search: what was found so far is kept, goes together, and is reported."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from search_fakes import GROUP, LOOPS, SMALLER, TAPS, FakeMeter, FakeProxy, judge, judged

from loopmorph.passes.history import parse_steps
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherit import inherit
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.combiner import Greedy, fastest
from loopmorph.pipelines.search.gates import Chosen
from loopmorph.pipelines.search.largest_legal import LargestLegal
from loopmorph.pipelines.search.optimize import search
from loopmorph.pipelines.search.study import StudyFile
from loopmorph.pipelines.search.summary import Asked, Found, summarise
from loopmorph.pipelines.support.progress import silent
from loopmorph.pipelines.training.task import Classification


def test_an_interrupt_keeps_what_was_found(plain: Program, tmp_path: Path) -> None:
    study = StudyFile("key", tmp_path)

    def stop(stage: str, done: int, of: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    found, interrupted = search(plain, judge(plain, drawn=[GROUP, SMALLER, TAPS]), study, 3, 0, stop)
    assert interrupted and [str(entry.candidate) for entry in found] == [GROUP]
    study.close()


@dataclasses.dataclass
class Interrupting(FakeProxy):
    """Scores so many networks, and is interrupted at the next."""

    left: int = 0

    def score(self, network: Network) -> Score:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().score(network)


class Untimed(FakeMeter):
    """Is interrupted as soon as a network is to be timed."""

    def network(self, original: Network, rewritten: Network) -> PairTime:
        raise KeyboardInterrupt


@pytest.mark.parametrize(("scored", "expected"), [(0, []), (2, [GROUP]), (3, [GROUP, SMALLER])])
def test_an_interrupt_leaves_what_is_legal_together_so_far(plain: Program, scored: int, expected: list[str]) -> None:
    entries = [judged(GROUP, 10, 2), judged(SMALLER, 10, 5)]
    steps = Greedy().combine(entries, judge(plain, Interrupting(left=scored), Untimed()), silent)
    assert [str(step) for step in steps] == expected


@pytest.mark.parametrize(("scored", "expected"), [(0, []), (2, [GROUP, SMALLER])])
def test_an_interrupt_ends_the_bisection(plain: Program, scored: int, expected: list[str]) -> None:
    entries = [judged(GROUP, 10, 2), judged(SMALLER, 10, 5)]
    steps = LargestLegal().combine(entries, judge(plain, Interrupting(left=scored), Untimed()), silent)
    assert sorted(map(str, steps)) == sorted(expected)


def test_a_program_that_was_timed_stands_before_one_that_was_not(plain: Program) -> None:
    class Once(FakeMeter):
        def network(self, original: Network, rewritten: Network) -> PairTime:
            if rewritten.steps != (SMALLER,):
                raise KeyboardInterrupt
            return PairTime(1.0, 0.5)

    smaller, loops = parse_steps(SMALLER), parse_steps(LOOPS)
    assert fastest(judge(plain, meter=Once()), tuple(smaller), (*smaller, *loops)) == tuple(smaller)


def test_a_report_has_what_was_measured_before_an_interrupt(plain: Program) -> None:
    made = plain.apply(GROUP)
    task = Classification(Batch(torch.randn(4, 3, 8, 8), torch.arange(4), 10, "random images"))
    found = Found(plain, made, inherit(plain, made, "slice", task.inputs), [], False)
    judging = judge(plain, meter=Untimed())
    report = summarise(found, Asked("net", 1, native_target(), 0), task, Chosen(judging.gate), judging, silent)
    assert report.interrupted and (report.max_abs_error, report.speedup, report.baseline_ms) == (0.0, None, None)
    assert (report.legal, report.doubt) == (None, "it was interrupted")
    assert [layer.transforms for layer in report.layers] == [(GROUP,)]
