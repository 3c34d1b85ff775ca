"""From judged candidates to one program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loopmorph.passes.history import Step
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.verdict import WORTHWHILE, Verdict
from loopmorph.pipelines.support.interrupts import until_interrupted
from loopmorph.pipelines.support.progress import Progress


@dataclass(frozen=True)
class Judged:
    """A candidate and what became of it."""

    candidate: Candidate
    verdict: Verdict


class Combiner(Protocol):
    """Makes one program of judged candidates."""

    def combine(self, judged: Sequence[Judged], judge: Judge, tell: Progress) -> tuple[Step, ...]:
        """The steps of the program; none where nothing is faster than the original.

        An interrupt ends the looking, and goes no further: the program is the best one that is known by then.

        Args:
            judged: what was tried, in the order in which it was drawn.
            judge: judges what candidates make together.
            tell: called with "combine", the number of candidates looked at and of all.

        Raises:
            CompilationFailed: the original cannot be compiled.
        """
        ...


@dataclass(frozen=True)
class Greedy:
    """The candidates that save most first, one for each layer, as long as they are legal together.

    Neural steps come first, then the loop steps that still fit; what runs fastest as a whole is kept: with loop steps,
    without, or the original.
    """

    def combine(self, judged: Sequence[Judged], judge: Judge, tell: Progress) -> tuple[Step, ...]:
        saved = [(entry.verdict.saved, entry.candidate) for entry in judged]
        worthwhile = [(amount, candidate) for amount, candidate in saved if amount is not None]
        ranked = [candidate for _, candidate in sorted(worthwhile, key=lambda pair: pair[0], reverse=True)]
        neural: tuple[Step, ...] = ()
        chosen: dict[str, Candidate] = {}
        with until_interrupted():
            for done, candidate in enumerate(ranked):
                tell("combine", done, len(ranked))
                if candidate.layer in chosen:
                    continue
                own = () if candidate.neural is None else (candidate.neural,)
                if not own or judge.is_legal((*neural, *own)):
                    neural = (*neural, *own)
                    chosen[candidate.layer] = candidate
            tell("combine", len(ranked), len(ranked))
        return fastest(judge, neural, with_loops(neural, list(chosen.values()), judge))


def with_loops(neural: tuple[Step, ...], chosen: Sequence[Candidate], judge: Judge) -> tuple[Step, ...]:
    """Neural steps, and after them the candidates' loop steps that still fit; an interrupt ends the trying."""
    looped = neural
    with until_interrupted():
        for candidate in chosen:
            if candidate.loops and judge.is_applicable((*looped, *candidate.loops)):
                looped = (*looped, *candidate.loops)
    return looped


def fastest(judge: Judge, *programs: tuple[Step, ...]) -> tuple[Step, ...]:
    """The program that runs fastest as a whole, the original included: layers timed alone do not tell all.

    Where an interrupt leaves no time for that, the first one.
    """
    best: tuple[Step, ...] = ()
    least = WORTHWHILE
    with until_interrupted() as timing:
        for steps in programs:
            if steps in ((), best):
                continue
            times = judge.network_time(steps)
            if times.rewritten < least * times.original:
                best, least = steps, times.rewritten / times.original
    return programs[0] if timing.interrupted and not best else best
