"""Making the table of variants: propose, see what each changes, time it, measure its harm; what is measured is kept."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any, TypeAlias, TypeVar

import torch
from torch.utils._pytree import tree_leaves

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.detect import processor_name
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.legality.gate import NOT_AT_ALL, Gate
from loopmorph.pipelines.measure.peak import measure_peak
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.remote_judge import RemoteJudge, ready
from loopmorph.pipelines.search.sent_program import SentProgram
from loopmorph.pipelines.search.variants.ground import Ground
from loopmorph.pipelines.search.variants.harm import Harm, choose_harm
from loopmorph.pipelines.search.variants.harm_job import GroupHarm, Harmed, HarmJob, HarmOfGroup, MakesGroupHarm
from loopmorph.pipelines.search.variants.kept import VariantFile
from loopmorph.pipelines.search.variants.kinds import Proposal
from loopmorph.pipelines.search.variants.proposals import LIMIT, propose
from loopmorph.pipelines.search.variants.sieve import beaten
from loopmorph.pipelines.search.variants.table import Cost, Variant, VariantTable
from loopmorph.pipelines.search.variants.time_job import Timed
from loopmorph.pipelines.search.variants.timing import LayerClock, OriginalTime, Timer, done
from loopmorph.pipelines.search.variants.together import Structure
from loopmorph.pipelines.search.workers.dispatcher import Dispatcher
from loopmorph.pipelines.search.workers.open_workers import check_cluster, check_jobs, side_by_side
from loopmorph.pipelines.store.cache_file import measurement_key, source_key
from loopmorph.pipelines.support.digests import digest_of
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.numbers import check_count, check_seed
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.task import Task

T = TypeVar("T")

_PATTERNS_TOGETHER = 16
_Asked: TypeAlias = tuple[Sequence[Proposal], Future[HarmOfGroup]]


def build_table(
    original: Program,
    task: Task,
    target: Target,
    *,
    name: str = "",
    threads: int = 1,
    seed: int = 0,
    limit: int = LIMIT,
    device: str | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    progress: Progress = silent,
) -> VariantTable:
    """Measures the variants of a network (see `propose`) by themselves: what each saves, and what harm it does.

    What equal steps change of equal blocks is looked at and timed once (see `LayerClock` for what is left out because
    it cannot win). The harm (see `choose_harm`) is measured of all variants of one of these blocks, and then of those
    of each other one that have not been `beaten` by far there. Those that take no less time than what they replace are
    left out, and so are those that overflow. A variant's milliseconds are the sum over the contraction layers that it
    changes: what each takes within the network (see `profile`), times the ratio of what it takes after and before
    alone, in the layouts that it has in the network, with the nests that it brings, and with its weights as cold.

    All that is measured is kept in the user's cache, so that a run that was stopped, by whatever, goes on when it is
    called again; only what was in flight is lost. Code is compiled, checked against PyTorch and timed in a process of
    its own; where that dies, it costs one variant. Where the processor has cores to spare, harm is measured meanwhile.
    With several processes, or a cluster, the times and the harm of variants are jobs for these: one process of this
    computer times, or any worker with its processor, and all that are free measure harm.
    Ctrl-C ends the measuring and gives the table as far as it goes, spread evenly over the blocks that differ.

    Args:
        original: the network as imported.
        task: the minibatch. Of a trained network one half is repaired on, and the other one measured.
        target: the processor.
        name: the network's; its class's by default.
        threads: threads of the compiled code.
        seed: of initialisations, where the network is not trained, and of numeric checks.
        limit: how many variants of each block or layer to try.
        device: where to compute harm; None takes a CUDA device when there is one.
        jobs: how many processes of this computer measure; with 1 it is this one, beside one that times.
        cluster: the address of a Dask scheduler whose workers measure (see `DaskPool`); None for this computer.
        progress: called with a stage's name, steps done and steps in all.

    Raises:
        ArgumentError: a network that was transformed already; an argument out of range; no such cluster; too few
            images, or ones that the network does not take.
        CompilationFailed: the original cannot be compiled, or no worker is left.
        KeyboardInterrupt: an interrupt before there was anything to put into a table.
    """
    if original.steps:
        raise ArgumentError("original", "expected a network as it was imported, got one that was transformed already")
    check_count("limit", limit)
    check_jobs(jobs, cluster)
    check_cluster(cluster)
    check_seed(seed)
    check_threads(threads)
    progress("propose", 0, 1)
    harm = choose_harm(original, task, seed, device)
    ground = Ground(original, target)
    proposals = propose(ground, limit)
    progress("propose", 1, 1)
    setup = JudgeSetup(SentProgram.of(original), Gate(NOT_AT_ALL), target, threads, seed, 1)
    with_harm = replace(setup, harm=MakesGroupHarm(task, seed, device))
    spare = max(0, target.cores - threads)
    with ExitStack() as stack:
        judge = cache(lambda: _judge(stack, setup))
        file = stack.enter_context(closing(VariantFile()))
        usual = stack.enter_context(_torch_threads(spare))
        clock = LayerClock({name: each.text for name, each in ground.layers.items()}, _roof(threads))
        workers = stack.enter_context(side_by_side(with_harm, jobs, cluster))
        timer = stack.enter_context(Timer(judge, clock, spare > 0, workers))
        keys = _Keys.of(original, task, harm, target, threads)
        changes = GroupHarm(original, harm, ground.layers)
        work = _Work(changes, proposals, file, keys, timer, clock, progress, usual, workers)
        complete = work.run()
        timer.cancel()
        return work.table(name or type(original.model).__name__, threads, complete)


@dataclass(frozen=True)
class _Keys:
    """What each thing that is kept depends on."""

    structure: str
    time: str
    harm: str

    @staticmethod
    def of(original: Program, task: Task, harm: Harm, target: Target, threads: int) -> _Keys:
        text = str(original.module)
        values = (*original.imported.values(), *task.inputs, *filter(torch.is_tensor, tree_leaves(task.targets)))
        return _Keys(
            source_key("structure", text),
            measurement_key("time", text, str(target), str(threads)),
            source_key("harm", text, digest_of(values), task.describe(), harm.describe()),
        )


@dataclass
class _Work:
    """The table in the making."""

    changes: GroupHarm
    proposals: Sequence[Proposal]
    file: VariantFile
    keys: _Keys
    timer: Timer
    clock: LayerClock
    progress: Progress
    usual_threads: int
    workers: Dispatcher | None = None
    _network: Future[OriginalTime] = field(default_factory=Future)
    _times: dict[str, Future[Timed]] = field(default_factory=dict)
    _harms: dict[Proposal, Harmed] = field(default_factory=dict)
    _beaten: frozenset[str] = frozenset()

    @cached_property
    def _firsts(self) -> list[Proposal]:
        """The first variant of each pattern, in the order in which they are tried."""
        patterns = {each.pattern: each for each in reversed(self.proposals)}
        return sorted(patterns.values(), key=lambda each: each.rank)

    def run(self) -> bool:
        """Measures; returns whether all was measured that there is."""
        try:
            with noted_interrupts() as check:
                self._time_original()
                self._look(check)
                self._measure(check)
                self._network.result()
        except KeyboardInterrupt:
            if not self._network.done():
                raise
            return False
        return True

    def table(self, name: str, threads: int, complete: bool) -> VariantTable:
        """What has been measured so far, with the original's costs."""
        before, harm = self.changes.before, self.changes.harm
        layers = before.values()
        macs, parameters, memory = (sum(getattr(each, n) for each in layers) for n in ("macs", "parameters", "memory"))
        cost = Cost(self._network.result().milliseconds, macs, parameters, memory)
        places = {layer: place for place, layer in enumerate(before)}
        found = [self._variant(each) for each in self.proposals if each in self._harms]
        variants = [each for each in found if each is not None]
        variants.sort(key=lambda each: min(places.get(layer, len(places)) for layer in each.layers))
        return VariantTable(name, harm.signal, processor_name(), threads, cost, tuple(variants), complete)

    def _variant(self, proposal: Proposal) -> Variant | None:
        """A row; None for a variant that was refused, that overflows, or that takes no less time.

        Of several layers a pair may be faster than the layers usually are (see `LayerClock.change`).
        """
        harm, signal = self._harms[proposal], self.changes.harm.signal
        if harm.refused or not all(map(math.isfinite, harm.scores.values())):
            return None
        milliseconds = self.clock.change(self._times[proposal.pattern].result())
        if milliseconds >= 0:
            return None
        return Variant(
            steps=tuple(map(str, proposal.steps)),
            layers=frozenset(harm.structure.layers),
            change=replace(harm.structure.change, milliseconds=milliseconds),
            loss=max(0.0, harm.scores[signal]),
            signals={name: value for name, value in harm.scores.items() if name != signal},
            kind=proposal.kind,
        )

    # -- times, and what equal variants change alike

    def _time_original(self) -> None:
        known = _read(OriginalTime.from_json, self.file.get(self.keys.time, ""))
        if known is not None:
            self.clock.know(known)

        def keep(measured: OriginalTime) -> None:
            self.file.put(self.keys.time, "", measured.as_json())

        self._network = done(known) if known is not None else self.timer.original(keep)

    def _look(self, check: Callable[[], None]) -> None:
        """What the first variant of each pattern changes; and asks for its times."""
        self.progress("look", 0, len(self._firsts))
        for group in _groups(self._firsts, _PATTERNS_TOGETHER):
            for each, structure in zip(group, self._structures(group), strict=True):
                self._times[each.pattern] = self._timed(each, structure)
            self.progress("look", len(self._times), len(self._firsts))
            check()

    def _structures(self, group: Sequence[Proposal]) -> list[Structure]:
        found = {each: _read(Structure.from_json, self.file.get(self.keys.structure, each.text)) for each in group}
        new = [each for each, structure in found.items() if structure is None]
        for each, structure in zip(new, self.changes.seen(new)[1], strict=True):
            self.file.put(self.keys.structure, each.text, structure.as_json())
            found[each] = structure
        return [structure for structure in found.values() if structure is not None]

    def _timed(self, proposal: Proposal, structure: Structure) -> Future[Timed]:
        if structure.refused:
            return done(Timed(refused=structure.refused))
        known = _read(Timed.from_json, self.file.get(self.keys.time, proposal.text))
        if known is None:
            keep = partial(self._keep_time, proposal.text)
            return self.timer.variant(proposal, structure, keep)
        self.clock.learn(known)
        return done(known)

    def _keep_time(self, steps: str, timed: Timed) -> None:
        self.file.put(self.keys.time, steps, timed.as_json())

    # -- harm

    def _measure(self, check: Callable[[], None]) -> None:
        self.progress("measure", 0, len(self.proposals))
        self._measure_each(self._firsts, 0, check)
        rows = [(each.pattern, self._variant(each)) for each in self._firsts if each in self._harms]
        known = [(pattern, variant) for pattern, variant in rows if variant is not None]
        out = beaten([variant for _, variant in known])
        self._beaten = frozenset(pattern for (pattern, _), is_out in zip(known, out, strict=True) if is_out)
        firsts = set(self._firsts)
        others = [each for each in self.proposals if each not in firsts]
        self._measure_each(others, len(firsts), check)

    def _measure_each(self, proposals: Sequence[Proposal], finished: int, check: Callable[[], None]) -> None:
        asked: deque[tuple[int, list[_Asked]]] = deque()
        for _, equals in itertools.groupby(proposals, key=lambda each: each.rank):
            turn = list(equals)
            finished += len(turn)
            asked.append((finished, []))
            for group in _groups([each for each in turn if self._is_wanted(each)], self.changes.harm.together):
                if self.timer.is_idle:
                    torch.set_num_threads(self.usual_threads)  # nothing is timed any more that they might disturb
                asked[-1][1].append(self._asked(group))
                check()
            while asked and all(future.done() for _, future in asked[0][1]):
                self._finish(*asked.popleft())
        while asked:
            self._finish(*asked.popleft())
            check()

    def _finish(self, finished: int, asked: Sequence[_Asked]) -> None:
        """Waits for what was asked for; what those who measured have ended over is measured once more, singly."""
        failed = [each for group, future in asked if future.result().failure for each in group]
        again = [self._asked([each]) for each in failed]
        for each, (_, future) in zip(failed, again, strict=True):
            failure = future.result().failure
            if failure:
                self._harms[each] = Harmed(refused=failure)  # another time it may not fail: it is not kept
        self.progress("measure", finished, len(self.proposals))

    def _is_wanted(self, proposal: Proposal) -> bool:
        """Whether a variant is worth its time, and its harm is not known yet; waits for its time."""
        if proposal.pattern in self._beaten or not self._times[proposal.pattern].result().is_worth:
            return False
        known = _read(Harmed.from_json, self.file.get(self.keys.harm, proposal.text))
        if known is not None:
            self._harms[proposal] = known
        return known is None

    def _asked(self, group: Sequence[Proposal]) -> _Asked:
        """A group with what is to come of it; it is there once it is known."""
        keep = partial(self._keep_harm, group)
        if self.workers is not None:
            return group, self.workers.ask(HarmJob(tuple(group), self.changes.harm.signals), keep=keep)
        found = HarmOfGroup(tuple(self.changes.measure(group)))
        keep(found)
        return group, done(found)

    def _keep_harm(self, group: Sequence[Proposal], found: HarmOfGroup) -> None:
        for each, harm in zip(group if found.variants else (), found.variants, strict=True):
            self._harms[each] = harm
            self.file.put(self.keys.harm, each.text, harm.as_json())


def _groups(proposals: Iterable[Proposal], size: int) -> Iterator[list[Proposal]]:
    """Up to `size` in a row that reach no layer in common and are of different units; those of none by themselves."""
    group: list[Proposal] = []
    for each in proposals:
        meets = any(not other.unit or other.unit == each.unit or other.reach & each.reach for other in group)
        if group and (meets or not each.unit or len(group) == size):
            yield group
            group = []
        group.append(each)
    if group:
        yield group


def _read(parse: Callable[[dict[str, Any]], T], content: dict[str, Any] | None) -> T | None:
    """What was kept; None where nothing was, or something else."""
    try:
        return None if content is None else parse(content)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _judge(stack: ExitStack, setup: JudgeSetup) -> Judge:
    return stack.enter_context(ready(stack.enter_context(RemoteJudge()), setup))


def _roof(threads: int) -> float:
    """Multiply-accumulates in a millisecond."""
    return measure_peak(threads).gflops / 2 * 1e6


@contextmanager
def _torch_threads(spare: int) -> Iterator[int]:
    """Leaves PyTorch the cores that timed code leaves; all, where it leaves none and nothing runs beside it. Gives how
    many threads it has otherwise.
    """
    usual = torch.get_num_threads()
    torch.set_num_threads(min(usual, spare) if spare else usual)
    try:
        yield usual
    finally:
        torch.set_num_threads(usual)
