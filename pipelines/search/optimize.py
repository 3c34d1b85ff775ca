"""The search: draw candidates, keep the legal and fast ones, combine them into one schedule, check the network."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from loopmorph.dialects.morph import schedule_text
from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.passes.target.detect import native_target, resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.codegen.padding import padding
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.ingress.models import resolve_function
from loopmorph.pipelines.legality.gate import BY_REPAIR, Gate
from loopmorph.pipelines.legality.predicted_loss import Fitted
from loopmorph.pipelines.legality.predicted_loss import Judged as Measured
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.legality.trained import is_trained
from loopmorph.pipelines.measure.target import this_computer
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.oracle.inherit import LEAST_ERROR, REPAIR, Inherited
from loopmorph.pipelines.oracle.inherit import inherit as choose_inherited
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.combiner import Combiner, Greedy, Judged
from loopmorph.pipelines.search.gates import Chosen, check_logits_for, choose_gate
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.largest_legal import LargestLegal
from loopmorph.pipelines.search.preconditions import check_modes, check_numbers
from loopmorph.pipelines.search.remote_judge import RemoteJudge, ready
from loopmorph.pipelines.search.report import NOT_MEASURED, Report
from loopmorph.pipelines.search.search_space import draw_candidates
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.study import Study, StudyFile
from loopmorph.pipelines.search.summary import Asked, Found, counts, layer_reports, summarise
from loopmorph.pipelines.store.cache_file import measurement_key
from loopmorph.pipelines.support.digests import digest_of
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.numbers import check_count, check_seed
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.task import CROSS_ENTROPY, Loss, Task, load_inputs, loss_name, make_task
from loopmorph.pipelines.tuning.choice_cache import ChoiceCache
from loopmorph.pipelines.tuning.tune import tune


@dataclass(frozen=True)
class Result:
    """An optimised network.

    Attributes:
        program: the rewritten network as MLIR.
        report: what was tried and measured.
        target: the processor that it was optimised for.
    """

    program: Program
    report: Report
    target: Target = dataclasses.field(default_factory=native_target)

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


def optimize(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    data: str | Path | Batch | None = None,
    *,
    candidates: int = 1000,
    seed: int = 0,
    threads: int = 1,
    settings: SearchSettings | None = None,
    loss: Loss | str | None = None,
    progress: Progress = silent,
) -> Result:
    """Searches for a schedule of neural and loop transformations that makes a network faster and keeps it legal.

    Each of `candidates` random candidates is a layer, at most one neural transformation of it and up to two loop
    transformations. It has to pass, in turn: the structural rules; the gate; a numeric check of every compiled layer
    that it changes; and it has to be faster there. The fastest that go together make the schedule. The same seed gives
    the same candidates; measured times and verdicts are kept in a cache, so that a second run chooses as the first did,
    and one that was stopped goes on where it ended. Candidates are rewritten and judged in a process of their own, so
    that a crash costs one.

    The gate (`SearchSettings.legality`) of a trained network with images is "repair": a candidate is refused where its
    block alone, repaired, does so much harm that the calibration would say of any network with it that it will lose
    more than `max_loss` points of accuracy after fine-tuning (see `choose_gate`); what the candidates make together is
    repaired as a whole, and of their ranked choices as many are taken as stay within `max_loss`. The result has the
    repaired weights. Of any other network it is "fisher": Fisher Potential not below the original's, on one minibatch
    and equal initialisations.

    Where the gate says nothing of the original (Fisher Potential is 0, the network overflows, the images are constant),
    there is a warning, no neural transformation is chosen, and `report.legal` is None.

    Ctrl-C ends the drawing and goes on with what was found so far.

    Args:
        model: a float32 network with one image input, a classifier unless there is a `loss`; left as it is.
        example_inputs: one tensor (N, C, H, W); its shape becomes static in the compiled code.
        data: a folder or file of images (see `load_batch`), a `Batch`, or None for synthetic images.
        candidates: how many to draw, at least 1.
        seed: of the candidates, the choice of images, and the initialisations.
        threads: threads of the compiled code.
        settings: how to search; see `SearchSettings` for the defaults.
        loss: gives the mean loss of a minibatch, a scalar, for the model's outputs in whatever structure it gives them,
            and the targets (`Batch.labels`; None for synthetic images); a function, or its name as
            `package.module:function`. None for the cross-entropy of a classifier.
        progress: called with a stage's name, steps done and steps in all.

    Raises:
        ArgumentError: a count below 1, a model that takes other than one image, is not in float32, or holds NaN; wrong
            data, a loss that fails, wrong settings.
        IllegalTransform: the model has a layer that runs in train mode alone.
        ImportRefused: the model cannot be imported.
        DataError: the data cannot be read.
        CompilationFailed: the original network cannot be compiled.
        WrongResult: the result, compiled, differs from PyTorch.
    """
    chosen = settings or SearchSettings()
    chosen.check()
    check_count("candidates", candidates)
    check_seed(seed)
    check_threads(threads)
    check_numbers(model, example_inputs)
    function = resolve_function("loss", loss) if isinstance(loss, str) else loss
    target = this_computer() if chosen.target is None else resolve_target(chosen.target)
    started = time.perf_counter()
    progress("import", 0, 1)
    with RemoteJudge() as remote:
        original = import_model(model, example_inputs)
        check_logits_for(original, chosen)
        task = make_task(original, data, chosen.batch_size, seed, function)
        check_modes(model, task)
        oracle = choose_gate(original, task, data, seed, chosen)
        gate = oracle.gate
        setup = JudgeSetup(model, example_inputs, gate, target, threads, seed, torch.get_num_threads())
        key = study_key(original, task.inputs, task.targets, gate.describe(), str(target), str(threads), str(seed))
        with ready(remote, setup) as judge, closing(StudyFile(key)) as study:
            progress("import", 1, 1)
            tried, interrupted = search(original, judge, study, candidates, seed, progress)
            combiner = chosen.combiner or _combiner(gate)
            steps = combiner.combine(tried, judge, progress)
            fitted = judge.fitted(tuple(step for step in steps if step.kind == "neural"))
            made = original.after(steps)
            inherited = (
                _with_weights(original, made, oracle, task, data, seed, chosen, progress)
                if oracle.loss is None or fitted is None
                else oracle.loss.restored(original, made, fitted)
            )
            program, baseline = inherited.program, original
            if chosen.tune is not None:
                program, baseline = _tuned((program, original), chosen.tune, target, threads, progress)
            verdicts = [entry.verdict for entry in tried]
            measured = _measured(original, inherited.program, oracle, fitted)
            found = Found(original, baseline, program, inherited, verdicts, interrupted, measured)
            name = chosen.name or type(model).__name__
            asked = Asked(
                name, threads, target, seed, chosen.note, CROSS_ENTROPY if function is None else loss_name(function)
            )
            report = summarise(found, asked, task, oracle, judge, progress)
    report = dataclasses.replace(report, seconds_total=time.perf_counter() - started)
    return Result(program, report, target)


def search(
    original: Program, judge: Judge, study: Study, count: int, seed: int, tell: Progress
) -> tuple[list[Judged], bool]:
    """Draws and judges candidates; what the study knows already is not judged again.

    Args:
        original: the network.
        judge: draws and judges.
        study: what was tried before; what is tried now is added.
        count: how many candidates to draw.
        seed: of the candidates.
        tell: called with "search", the number of candidates judged and of all.

    Returns:
        The candidates with what became of them, and whether a keyboard interrupt ended it early.

    Raises:
        LoopmorphError: the original network cannot be scored.
    """
    tried: list[Judged] = []
    try:
        with noted_interrupts() as check:
            tell("search", 0, count)
            _tell_doubt(judge.score(()))
            for done, candidate in enumerate(islice(draw_candidates(original, seed, judge), count), start=1):
                verdict = study.get(str(candidate))
                if verdict is None:
                    verdict = judge.judge(candidate)
                    study.put(str(candidate), verdict)
                tried.append(Judged(candidate, verdict))
                tell("search", done, count)
                check()
    except KeyboardInterrupt:
        return tried, True
    return tried, False


def _tell_doubt(original: Score | None) -> None:
    if original is not None and original.doubt:
        text = f"legality cannot be judged, so that no neural transformation is chosen: {original.doubt}"
        warnings.warn(text, LoopmorphWarning, stacklevel=4)


def replay(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], schedule_text: str) -> Result:
    """Applies a schedule to a network again; the IR is the same as when it was found. Nothing is measured.

    Raises:
        ArgumentError: the schedule is malformed, or names something that the network does not have.
        IllegalTransform: the network does not admit a step.
        ImportRefused: the model cannot be imported.
    """
    started = time.perf_counter()
    original = import_model(model, example_inputs)
    program = original.apply(schedule_text)
    report = Report(
        model=type(model).__name__,
        data="none: a schedule was replayed",
        scores=NOT_MEASURED,
        **counts(original, program),
        seconds_total=time.perf_counter() - started,
        layers=layer_reports(original, program, [], {}, {}),
        padded_channels=padding(program, native_target()),
    )
    return Result(program, report)


def study_key(original: Program, inputs: Iterable[torch.Tensor], targets: Any, *about: object) -> str:
    """What identifies a study: all that the verdicts on a network's candidates depend on."""
    weights = digest_of((*original.imported.values(), *inputs, *filter(torch.is_tensor, tree_leaves(targets))))
    return measurement_key(str(original.module), weights, json.dumps(about))


def _combiner(gate: Gate) -> Combiner:
    return LargestLegal() if gate.name == BY_REPAIR else Greedy()


def _with_weights(
    original: Program,
    made: Program,
    oracle: Chosen,
    task: Task,
    data: str | Path | Batch | None,
    seed: int,
    settings: SearchSettings,
    tell: Progress,
) -> Inherited[Program]:
    """The result with the weights that were judged, or that the settings ask for."""
    if oracle.loss is not None:
        return oracle.loss.repaired(original, made, tell)
    how = settings.inherit or (REPAIR if data is not None and is_trained(original.model, task) else LEAST_ERROR)
    fitted_to = load_inputs(original, data, settings.repair_images, seed) if how == REPAIR else None
    return choose_inherited(original, made, how, task.inputs, tell, fitted_to=fitted_to)


def _measured(original: Program, program: Program, oracle: Chosen, fitted: Fitted | None) -> Measured | None:
    """What was measured of the result's weights, or is now, where repair is the gate."""
    if oracle.loss is None:
        return None
    return oracle.loss.measure(original, program) if fitted is None else fitted.judged


def _tuned(
    programs: tuple[Program, Program], seconds: float, target: Target, threads: int, tell: Progress
) -> tuple[Program, Program]:
    with Worker(threads=threads, target=target) as worker, closing(ChoiceCache()) as choices:
        first, second = (tune(program, seconds, worker, choices, tell) for program in programs)
    return first, second
