"""The search: draw candidates, keep the legal and fast ones, combine them into one schedule, check the network."""

from __future__ import annotations

import dataclasses
import random
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, LoopmorphWarning
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.codegen.padding import padding
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.gate import BY_REPAIR, Gate
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.combiner import Combiner, Greedy, Judged
from loopmorph.pipelines.search.job import Request, Result, prepared
from loopmorph.pipelines.search.joint.choice_report import report_choice
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.largest_legal import LargestLegal
from loopmorph.pipelines.search.points import points
from loopmorph.pipelines.search.report import NOT_MEASURED, Report
from loopmorph.pipelines.search.search_space import draw_candidates
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.standing import Watch, standing_of, unwatched
from loopmorph.pipelines.search.study import Study
from loopmorph.pipelines.search.summary import counts, layer_reports
from loopmorph.pipelines.search.workers.judging import Judging
from loopmorph.pipelines.search.workers.open_workers import side_by_side, workers
from loopmorph.pipelines.search.workers.transport import InTurn, Transport
from loopmorph.pipelines.support.interrupts import held_interrupts, noted_interrupts
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.task import Loss


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
    watch: Watch = unwatched,
) -> Result:
    """Searches for a schedule of neural and loop transformations that makes a network faster and keeps it legal.

    Each of `candidates` random candidates is a layer, at most one neural transformation of it and up to two loop
    transformations. It has to pass, in turn: the structural rules; the gate; a numeric check of every compiled layer
    that it changes; and it has to be faster there. The fastest that go together make the schedule. The same seed gives
    the same candidates; measured times and verdicts are kept in a cache, or in the study's file
    (`SearchSettings.study`), so that a second run chooses as the first did, and one that was stopped goes on where it
    ended. Candidates are rewritten and judged in a process of their own, or in several (`SearchSettings.jobs`,
    `cluster`), so that a crash costs one.

    The gate (`SearchSettings.legality`) of a trained network with images is "repair": a candidate is refused where its
    block alone, repaired, does so much harm that the calibration would say of any network with it that it will lose
    more than `max_loss` points of accuracy after fine-tuning (see `choose_gate`); what the candidates make together is
    repaired as a whole, and of their ranked choices as many are taken as stay within `max_loss`. The result has the
    repaired weights. Of any other network it is "fisher": Fisher Potential not below the original's, on one minibatch
    and equal initialisations.

    Where the gate says nothing of the original (Fisher Potential is 0, the network overflows, the images are constant),
    there is a warning, no neural transformation is chosen, and `report.legal` is None.

    With a target (`SearchSettings.target_speedup`, `target_ms`, or `seconds`) no candidates are drawn: all layers are
    chosen at once, see `SearchSettings` and `choose_jointly`.

    Ctrl-C ends the drawing and goes on with what was found so far; once more, it ends the stage that follows, and so
    on: what is returned is the best network that is known by then. What was not measured is None in the report. Nor is
    the result lost where its code cannot be compiled or checked: `report.failure` says why, and so does a warning.

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
        watch: called after each candidate with how the search stands.

    Raises:
        ArgumentError: a count below 1, a model that takes other than one image, is not in float32, or holds NaN; wrong
            data, a loss that fails, wrong settings.
        IllegalTransform: the model has a layer that runs in train mode alone.
        ImportRefused: the model cannot be imported.
        DataError: the data cannot be read; the study's file is damaged, something else, or of another search.
        CompilationFailed: the original network cannot be compiled.
    """
    chosen = settings or SearchSettings()
    request = Request(model, example_inputs, data, seed, threads, chosen, loss, progress, watch)
    if chosen.is_joint:
        with closing(_joint_results(request, (chosen.target_speedup,))) as results:
            return next(results)
    check_count("candidates", candidates)
    with prepared(request) as job, held_interrupts():

        def show(tried: Sequence[Judged]) -> None:
            watch(standing_of(job.oracle.gate, tried))

        order = None if chosen.study is None else random.Random()  # several searches may share a file
        with workers(job.judge, job.setup, chosen.jobs, chosen.cluster) as transport:
            about = candidates, seed, progress, show, transport, order
            tried, interrupted = search(job.original, job.judge, job.study, *about)
        combiner = chosen.combiner or _combiner(job.oracle.gate)
        steps = combiner.combine(tried, job.judge, progress)
        return job.result(steps, [entry.verdict for entry in tried], interrupted)


def optimize_points(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    data: str | Path | Batch | None,
    target_speedups: Sequence[float],
    *,
    seed: int = 0,
    threads: int = 1,
    settings: SearchSettings | None = None,
    loss: Loss | str | None = None,
    progress: Progress = silent,
    watch: Watch = unwatched,
) -> Iterator[Result]:
    """Networks at several speed-ups, chosen from one table of variants: points of the front of latency and loss.

    Each is what `optimize` gives with `SearchSettings.target_speedup`; the table is made once, and no network is judged
    twice. Ctrl-C ends the search at the point at hand, with the best network there so far; it is then the last one.

    Args:
        model, example_inputs, seed, threads, loss, progress, watch: see `optimize`.
        data: images to repair and to judge with.
        target_speedups: each above 1.
        settings: how to search, without a target.

    Yields:
        The result for each speed-up, in their order, as soon as it is there.

    Raises:
        As `optimize`; ArgumentError as well where there is no speed-up, or one that is out of reach.
    """
    chosen = settings or SearchSettings()
    if not target_speedups:
        raise ArgumentError("target_speedups", "expected at least one")
    chosen.check_with(target_speedups)
    first = dataclasses.replace(chosen, target_speedup=target_speedups[0])
    request = Request(model, example_inputs, data, seed, threads, first, loss, progress, watch)
    return _joint_results(request, tuple(target_speedups))


def _joint_results(request: Request, speedups: Sequence[float | None]) -> Generator[Result, None, None]:
    """The result of a joint choice for each speed-up; of the settings' other limits for None."""
    settings = request.settings
    with prepared(request) as job, side_by_side(job.setup, settings.jobs, settings.cluster) as others:
        chooser = points(job, others)
        for speedup in speedups:
            chooser.limits(speedup)  # refuses what is out of reach before anything is judged
        for speedup in speedups:
            if job.tuner is not None:
                job.tuner.renew()
            choice = chooser.at(speedup)
            report = report_choice(choice, chooser.table, chooser.trials.truth.levels, speedup)
            result = job.result(choice.steps, [], choice.interrupted, report, choice.fitted)
            result = dataclasses.replace(result, table=chooser.table)
            yield result
            if result.report.interrupted:
                return


def search(
    original: Program,
    judge: Judge,
    study: Study,
    count: int,
    seed: int,
    tell: Progress,
    show: Callable[[Sequence[Judged]], None] = lambda _: None,
    transport: Transport | None = None,
    order: random.Random | None = None,
) -> tuple[list[Judged], bool]:
    """Draws and judges candidates; what the study knows already is not judged again.

    Args:
        original: the network.
        judge: draws and judges.
        study: what was tried before; what is tried now is added.
        count: how many candidates to draw.
        seed: of the candidates.
        tell: called with "search", the number of candidates judged and of all.
        show: called after each candidate with all that were tried.
        transport: has them judged; None for one after the other, by `judge`.
        order: see `Judging`.

    Returns:
        The candidates with what became of them, and whether a keyboard interrupt ended it early.

    Raises:
        LoopmorphError: the original network cannot be scored.
    """
    drawn = islice(draw_candidates(original, seed, judge), count)
    judging = Judging(drawn, study, transport or InTurn(judge), order)
    try:
        with noted_interrupts() as check:
            tell("search", 0, count)
            _tell_doubt(judge.score(()))

            def after_each(done: int) -> None:
                show(judging.in_order)
                tell("search", done, count)
                check()

            judging.run(after_each)
    except KeyboardInterrupt:
        return judging.in_order, True
    return judging.in_order, False


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


def _combiner(gate: Gate) -> Combiner:
    return LargestLegal() if gate.name == BY_REPAIR else Greedy()
