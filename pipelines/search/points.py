"""Networks at the latencies, or within the loss, that a user asks for: one joint choice for each."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from functools import cached_property

from loopmorph.passes.errors import ArgumentError, LoopmorphWarning
from loopmorph.pipelines.data.held_out import part_of
from loopmorph.pipelines.legality.gate import BY_REPAIR, Gate
from loopmorph.pipelines.search.job import SearchJob
from loopmorph.pipelines.search.joint.joint import JointChoice, choose_jointly
from loopmorph.pipelines.search.joint.knapsack import MILLISECONDS, Limits, Problem, least
from loopmorph.pipelines.search.joint.trials import Trials
from loopmorph.pipelines.search.joint.truth import JudgedTruth
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.standing import Watch, standing_of_trials, unwatched
from loopmorph.pipelines.search.study_store import StudyStore
from loopmorph.pipelines.search.tuner import Tuner
from loopmorph.pipelines.search.variants.build import build_table
from loopmorph.pipelines.search.variants.table import VariantTable
from loopmorph.pipelines.search.workers.dispatcher import Dispatcher
from loopmorph.pipelines.support.interrupts import until_interrupted
from loopmorph.pipelines.support.progress import Progress
from loopmorph.pipelines.training.task import Classification

_TABLE_IMAGES = 256  # half of them to repair variants on, half to measure them
_AT_ONCE = 1e-3  # seconds: nothing but the additive choice and the baselines


@dataclass(frozen=True)
class Points:
    """A network's table of variants with what judges choices from it.

    Attributes:
        table: the variants.
        trials: of all choices.
        settings: limits and budget.
        seed: of what is drawn.
        progress: see `choose_jointly`.
        gate, watch: is told, after each judgement, how the choice stands.
    """

    table: VariantTable
    trials: Trials
    settings: SearchSettings
    seed: int
    progress: Progress
    gate: Gate
    watch: Watch = unwatched

    def at(self, speedup: float | None) -> JointChoice:
        """The network at so many times the original's speed; without one at the settings' milliseconds, or within
        their loss.

        Raises:
            ArgumentError: that is out of reach; says what is in reach.
        """
        settings = self.settings
        limits = self.limits(speedup)

        def tell(stage: str, done: int, of: int) -> None:
            levels = self.trials.truth.levels
            self.watch(standing_of_trials(self.gate, self.trials.all, levels, limits.milliseconds))
            self.progress(stage, done, of)

        choice = choose_jointly(
            self.table,
            self.trials.truth,
            limits,
            max_loss=settings.max_loss,
            seed=self.seed,
            seconds=settings.seconds if self.table.complete else _AT_ONCE,
            progress=tell,
            trials=self.trials,
            with_baselines=settings.baselines,
        )
        if not choice.reached:
            what = f"the limit of {limits.milliseconds:.4g} ms"
            text = f"{what} was not reached by any network that was timed; what was fastest is the result"
            warnings.warn(text, LoopmorphWarning, stacklevel=2)
        return replace(choice, interrupted=choice.interrupted or not self.table.complete)

    def limits(self, speedup: float | None) -> Limits:
        """What a choice has to keep.

        Raises:
            ArgumentError: that is out of reach by the table; says what is in reach.
        """
        original, settings = self.table.original.milliseconds, self.settings
        milliseconds = settings.target_ms if speedup is None else original / speedup
        fastest = self._fastest
        if milliseconds is not None and milliseconds < fastest:
            if speedup is None:
                reason = f"{milliseconds:g} ms is out of reach: the least that the variants reach is {fastest:.6g} ms"
                raise ArgumentError("target_ms", reason)
            most = math.floor(100 * original / fastest) / 100
            reason = f"{speedup:g} is out of reach: the most that the variants reach is {most:g}"
            raise ArgumentError("target_speedup", reason)
        return replace(self._others, milliseconds=milliseconds)

    @property
    def _others(self) -> Limits:
        """The limits besides milliseconds."""
        return Limits(parameters=self.settings.max_parameters, memory=self.settings.max_memory)

    @cached_property
    def _fastest(self) -> float:
        """The least milliseconds within them."""
        try:
            return least(Problem(self.table, self._others), MILLISECONDS).cost.milliseconds
        except ArgumentError as error:
            raise ArgumentError(f"max_{error.argument}", error.message) from None


def points(job: SearchJob, workers: Dispatcher | None = None) -> Points:
    """Measures the table of variants of a job's network, which is judged by repair.

    Args:
        job: the search.
        workers: compare assembled networks with the original; None for the job's judge alone.

    Raises:
        ArgumentError, CompilationFailed, KeyboardInterrupt: see `build_table`.
        WrongResult: the tuned original differs from PyTorch.
    """
    asked, original = job.request, job.original
    images = job.oracle.fitted_to
    if images is None:
        raise ArgumentError("legality", f"a joint choice is judged by '{BY_REPAIR}', got '{job.oracle.gate.name}'")
    task = Classification(part_of(images, 0, min(_TABLE_IMAGES, len(images.images))))
    table = build_table(
        original,
        task,
        job.target,
        name=asked.name,
        threads=asked.threads,
        seed=asked.seed,
        limit=asked.settings.variants,
        jobs=asked.settings.jobs,
        cluster=asked.settings.cluster,
        progress=asked.progress,
    )
    if job.tuner is not None:
        table = _of_tuned_code(table, job.judge, job.tuner)
    store = StudyStore(job.study)
    truth = JudgedTruth(job.judge, table.original.milliseconds, store, tuner=job.tuner, workers=workers)
    return Points(table, Trials(table, truth), asked.settings, asked.seed, asked.progress, job.oracle.gate, asked.watch)


def _of_tuned_code(table: VariantTable, judge: Judge, tuner: Tuner) -> VariantTable:
    """The table with its times scaled to those of tuned code, by what tuning gains of the original.

    Variants are not tuned one by one, as there are hundreds. Those that a choice takes are, with all else of the
    network that they make (see `JudgedTruth`); what its measured time is off by moves the limit of the next choice (see
    `AtLatency`), so that what tuning gains is spent on less harm.

    Where it is interrupted, the table is not complete.

    Raises:
        CompilationFailed: the tuned original cannot be compiled.
        WrongResult: it differs from PyTorch.
    """
    with until_interrupted() as stage:
        steps = tuner.steps(())
        judge.check_network(steps)
        times = judge.network_time(steps)
        table = table.scaled(times.rewritten / times.original)
    return replace(table, complete=table.complete and not stage.interrupted)
