"""A search's job from its two ends: what all searches need at first, and the result of what one has found."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from loopmorph.dialects.morph import schedule_text
from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.passes.history import Step
from loopmorph.passes.target.detect import native_target, resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.ingress.models import resolve_function
from loopmorph.pipelines.legality.predicted_loss import Fitted
from loopmorph.pipelines.legality.trained import is_trained
from loopmorph.pipelines.measure.target import this_computer
from loopmorph.pipelines.oracle.inherit import LEAST_ERROR, REPAIR, Inherited
from loopmorph.pipelines.oracle.inherit import inherit as choose_inherited
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.gates import Chosen, check_logits_for, choose_gate
from loopmorph.pipelines.search.identity import Identity, identify
from loopmorph.pipelines.search.joint.choice_report import JointReport
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.open_study import keep_result, open_study
from loopmorph.pipelines.search.preconditions import check_modes, check_numbers
from loopmorph.pipelines.search.remote_judge import RemoteJudge, ready
from loopmorph.pipelines.search.report import Report
from loopmorph.pipelines.search.sent_program import SentProgram
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.standing import Watch, unwatched
from loopmorph.pipelines.search.study import Study
from loopmorph.pipelines.search.summary import Asked, Found, summarise
from loopmorph.pipelines.search.tuner import TunedPair, Tuner, tuner
from loopmorph.pipelines.search.variants.table import VariantTable
from loopmorph.pipelines.search.verdict import Verdict
from loopmorph.pipelines.search.workers.open_workers import check_cluster
from loopmorph.pipelines.support.interrupts import held_interrupts, until_interrupted
from loopmorph.pipelines.support.numbers import check_seed
from loopmorph.pipelines.support.progress import Progress
from loopmorph.pipelines.training.task import CROSS_ENTROPY, Loss, Task, load_inputs, loss_name, make_task


@dataclass(frozen=True)
class Result:
    """An optimised network.

    Attributes:
        program: the rewritten network as MLIR.
        report: what was tried and measured.
        target: the processor that it was optimised for.
        table: the variants that it was chosen from; None where it was not.
    """

    program: Program
    report: Report
    target: Target = dataclasses.field(default_factory=native_target)
    table: VariantTable | None = None

    @cached_property
    def model(self) -> nn.Module:
        """The rewritten network as a trainable module, its weights inherited from the imported one."""
        return self.program.to_module()

    @cached_property
    def executable(self) -> Executable:
        """The rewritten network compiled."""
        return Executable(self.program, self.report.threads, self.target)

    @property
    def schedule(self) -> str:
        """The transformations as a schedule (transform IR), which `replay` takes."""
        return schedule_text(self.program.steps)


@dataclass(frozen=True)
class Request:
    """What a user has asked for; see `optimize`."""

    model: nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    data: str | Path | Batch | None
    seed: int
    threads: int
    settings: SearchSettings
    loss: Loss | str | None
    progress: Progress
    watch: Watch = unwatched

    def check(self) -> None:
        """Raises:
        ArgumentError: wrong settings, a count or seed out of range, a model that cannot be compared, no such cluster.
        DataError: the study's file is something else, or damaged.
        """
        self.settings.check()
        check_seed(self.seed)
        check_threads(self.threads)
        check_numbers(self.model, self.example_inputs)
        check_cluster(self.settings.cluster)

    @cached_property
    def function(self) -> Loss | None:
        """The loss as a function."""
        return resolve_function("loss", self.loss) if isinstance(self.loss, str) else self.loss

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.settings.name or type(self.model).__name__


@dataclass(frozen=True)
class SearchJob:
    """A request with all that a search works with.

    Attributes:
        setup: what further judges are set up with.
        study: keeps what is tried.
        tuner: gives networks the fastest code; None where nobody asked for it.
        started: when it began, in the seconds of `time.perf_counter`.
    """

    request: Request
    original: Program
    task: Task
    oracle: Chosen
    judge: Judge
    target: Target
    setup: JudgeSetup
    study: Study
    tuner: Tuner | None
    started: float

    def result(
        self,
        steps: Sequence[Step],
        verdicts: Sequence[Verdict],
        interrupted: bool,
        joint: JointReport | None = None,
        fitted: Fitted | None = None,
    ) -> Result:
        """The network after the steps: with its weights, tuned if that is wanted, checked, timed, reported.

        An interrupt ends one of these stages, and goes no further: the result is what there is by then.

        Args:
            steps: from the original.
            verdicts: of the candidates that they were chosen from.
            interrupted: whether an interrupt has ended the search for them.
            joint: how they were chosen, where they were chosen jointly.
            fitted: the weights that the network with these steps was judged with; None for those that the judge has.
        """
        with held_interrupts():
            if fitted is None:
                fitted = self.judge.fitted(tuple(step for step in steps if step.kind == "neural"))
            return self._result(steps, verdicts, interrupted, joint, fitted)

    def _result(
        self,
        steps: Sequence[Step],
        verdicts: Sequence[Verdict],
        interrupted: bool,
        joint: JointReport | None,
        fitted: Fitted | None,
    ) -> Result:
        asked, original = self.request, self.original
        made = original.after(steps)
        inherited = Inherited(made, "slice", {})
        with until_interrupted(_warn_of_weights) as fitting:
            inherited = self._with_weights(made, fitted)
        tuned = None
        with until_interrupted() as tuning:
            tuned = self._tuned(inherited.program)
        program = inherited.program if tuned is None else tuned.result.program
        measured = None if fitted is None else fitted.judged
        if self.oracle.loss is not None and fitted is None:
            with until_interrupted():
                measured = self.oracle.loss.measure(original, inherited.program)
        interrupted = interrupted or fitting.interrupted or tuning.interrupted
        found = Found(original, program, inherited, verdicts, interrupted, measured, joint, tuned)
        loss = CROSS_ENTROPY if asked.function is None else loss_name(asked.function)
        about = Asked(asked.name, asked.threads, self.target, asked.seed, asked.settings.note, loss)
        report = summarise(found, about, self.task, self.oracle, self.judge, asked.progress)
        keep_result(self.study, report, program.steps)
        report = dataclasses.replace(report, seconds_total=time.perf_counter() - self.started)
        return Result(program, report, self.target)

    def _tuned(self, program: Program) -> TunedPair | None:
        """The result and the original with tuned code; None where that was not asked for."""
        if self.tuner is None:
            return None
        return TunedPair(self.tuner.seconds, self.tuner.original(), self.tuner.tuned(program))

    def _with_weights(self, made: Program, fitted: Fitted | None) -> Inherited[Program]:
        """The result with the weights that were judged, or that the settings ask for."""
        original, asked = self.original, self.request
        if self.oracle.loss is not None:
            if fitted is not None:
                return self.oracle.loss.restored(original, made, fitted)
            return self.oracle.loss.repaired(original, made, asked.progress)
        trained = asked.data is not None and is_trained(original.model, self.task)
        how = asked.settings.inherit or (REPAIR if trained else LEAST_ERROR)
        images = asked.settings.repair_images
        fitted_to = load_inputs(original, asked.data, images, asked.seed) if how == REPAIR else None
        return choose_inherited(original, made, how, self.task.inputs, asked.progress, fitted_to=fitted_to)


@contextmanager
def prepared(request: Request) -> Iterator[SearchJob]:
    """The network imported, its gate chosen, and the process that judges ready.

    Raises:
        As `optimize`, but what comes of the search and the result.
    """
    request.check()
    settings, tell = request.settings, request.progress
    target = this_computer() if settings.target is None else resolve_target(settings.target)
    started = time.perf_counter()
    function = request.function
    tell("import", 0, 1)
    with RemoteJudge() as remote:
        original = import_model(request.model, request.example_inputs)
        check_logits_for(original, settings)
        task = make_task(original, request.data, settings.batch_size, request.seed, function)
        check_modes(request.model, task)
        oracle = choose_gate(original, task, request.data, request.seed, settings)
        about = target, request.threads, request.seed, torch.get_num_threads(), oracle.loss
        setup = JudgeSetup(SentProgram.of(original), oracle.gate, *about)
        with (
            ready(remote, setup) as judge,
            tuner(original, settings.tune, request.threads, target, tell) as tuning,
            closing(_opened_study(request, original, task, oracle, judge, target)) as study,
        ):
            tell("import", 1, 1)
            yield SearchJob(request, original, task, oracle, judge, target, setup, study, tuning, started)


def _opened_study(
    request: Request, original: Program, task: Task, oracle: Chosen, judge: Judge, target: Target
) -> Study:
    """The study of a search, where it ended.

    Raises:
        ArgumentError, DataError: see `open_study`.
    """
    settings, gate = request.settings, oracle.gate
    more = {"legality": gate.describe(), "target": str(target), "threads": request.threads, "seed": request.seed}
    about = identify(original, task.inputs, task.targets, source=task.source, **more)
    identity = Identity(settings.study_name or request.name, about, named=settings.study_name is not None)
    return open_study(None if settings.study is None else Path(settings.study), identity, original, gate, judge)


def _warn_of_weights() -> None:
    text = "the weights of the result are being fitted; one more interrupt leaves them as they are inherited"
    warnings.warn(text, LoopmorphWarning, stacklevel=2)
