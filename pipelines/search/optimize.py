"""The search: draw candidates, keep the legal and fast ones, combine them into one schedule, check the network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from loopmorph.dialects.morph import schedule_text
from loopmorph.passes.errors import ArgumentError, CompilationFailed, IllegalTransform, LoopmorphError
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.compile import Executable
from loopmorph.pipelines.compile import compile as compile_program
from loopmorph.pipelines.data.batches import Batch, load_batch
from loopmorph.pipelines.measure.pair_times import TimingCache
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.oracle.inherit import LEAST_ERROR, Inherited, check_inheritance, plain_step
from loopmorph.pipelines.oracle.inherit import inherit as choose_inherited
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.program import Program, import_model, step_layer
from loopmorph.pipelines.search.evaluate import Evaluator, LayerTime, total
from loopmorph.pipelines.search.report import CandidateReport, LayerReport, Report, padding
from loopmorph.pipelines.search.search_space import Candidate, Step, draw_candidates
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.tuning.choice_cache import ChoiceCache
from loopmorph.pipelines.tuning.tune import check_seconds
from loopmorph.pipelines.tuning.tune import tune as tune_program

Progress = Callable[[str, int, int], None]

WORTHWHILE = 0.98  # a candidate has to take less than this share of the original's time


@dataclass(frozen=True)
class Result:
    """An optimised network.

    Attributes:
        program: the rewritten network as MLIR.
        report: what was tried and measured.
    """

    program: Program
    report: Report

    @cached_property
    def model(self) -> nn.Module:
        """The rewritten network as a trainable module, its weights inherited from the imported one."""
        return self.program.to_module()

    @cached_property
    def executable(self) -> Executable:
        """The rewritten network compiled."""
        return compile_program(self.program, threads=self.report.threads)

    @property
    def schedule(self) -> str:
        """The transformations as a schedule (transform IR), which `replay` takes."""
        return schedule_text(self.program.steps)


@dataclass(frozen=True)
class _Accepted:
    """A candidate that is legal, right, and faster on the layers that it changes; `saved` in milliseconds."""

    candidate: Candidate
    saved: float


def optimize(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    data: str | Path | Batch | None = None,
    *,
    candidates: int = 1000,
    seed: int = 0,
    threads: int = 1,
    batch_size: int = 64,
    repeats: int = 1,
    tune: float | None = None,
    inherit: str = LEAST_ERROR,
    name: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Searches for a schedule of neural and loop transformations that makes a network faster and keeps it legal.

    Each of `candidates` random candidates is a layer, at most one neural transformation of it and up to two loop
    transformations. It has to pass, in turn: the structural rules; Fisher Potential not below the original's, on one
    minibatch and equal initialisations; a numeric check of every compiled layer that it changes; and it has to be
    faster there. The fastest that go together make the schedule. The same seed gives the same candidates; measured
    times are kept in a cache, so that a second run chooses as the first did.

    Ctrl-C ends the drawing and goes on with what was found so far.

    Args:
        model: a classifier with one image input; left as it is.
        example_inputs: one tensor (N, C, H, W); its shape becomes static in the compiled code.
        data: a folder or file of images (see `load_batch`), a `Batch`, or None for synthetic images.
        candidates: how many to draw, at least 1.
        seed: of the candidates, the choice of images, and the initialisations.
        threads: threads of the compiled code.
        batch_size: images in the minibatch.
        repeats: initialisations that a Fisher Potential is averaged over.
        tune: seconds in which to tune the result, and as many for the original that it is compared with (see
            `compile`); the choices become part of the schedule.
        inherit: which of the old weights the result inherits where its bottlenecks leave a choice: "slice", "mean",
            "salient", or "least-error" for the nearest outputs on the minibatch (see `pipelines/oracle/inherit.py`).
        name: the model's name in the report; its class's by default.
        progress: called with a stage's name, steps done and steps in all.

    Raises:
        ArgumentError: a count below 1, a model that takes other than one image, wrong data, another `inherit`.
        ImportRefused: the model cannot be imported.
        DataError: the data cannot be read.
        CompilationFailed: the original network cannot be compiled.
    """
    _check_counts(candidates=candidates, batch_size=batch_size, repeats=repeats)
    check_threads(threads)
    check_inheritance(inherit)
    if tune is not None:
        check_seconds(tune)
    tell = progress or (lambda stage, done, of: None)
    started = time.perf_counter()
    tell("import", 0, 1)
    original = import_model(model, example_inputs)
    batch = data if isinstance(data, Batch) else _load(original, data, batch_size, seed)
    tell("import", 1, 1)
    with Worker(threads=threads) as worker, closing(TimingCache()) as cache:
        search = _Search(original, Evaluator(original, batch, seed, repeats, worker, cache), tell)
        search.draw(candidates, seed)
        chosen = choose_inherited(original, search.combine(), inherit, [batch.images])
        program, baseline = chosen.program, original
        if tune is not None:
            with closing(ChoiceCache()) as choices:
                program, baseline = (tune_program(p, tune, worker, choices, tell) for p in (program, original))
        report = search.report(program, baseline, chosen, name or type(model).__name__, threads, seed, started)
    return Result(program, report)


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
    counts = _counts(original, program)
    layers = _layer_reports(original, program, [], {})
    report = Report(
        model=type(model).__name__, threads=1, seed=0, data="none: a schedule was replayed", baseline_ms=None,
        optimized_ms=None, speedup=None, fisher_original=None, fisher_optimized=None, fisher_standard_error=None,
        legal=None, candidates=0, rejected_structure=0, rejected_fisher=0, failed=0, max_abs_error=None,
        inherited_error=None, inherit=None, inherited_errors={}, **counts,
        seconds_total=time.perf_counter() - started, interrupted=False, layers=layers, details=(),
        padded_channels=padding(program.module),
    )  # fmt: skip
    return Result(program, report)


class _Search:
    """One search: the candidates drawn, those accepted, and the schedule made of them."""

    def __init__(self, original: Program, evaluator: Evaluator, tell: Progress) -> None:
        self.original = original
        self.evaluator = evaluator
        self.tell = tell
        self.details: list[CandidateReport] = []
        self.accepted: list[_Accepted] = []
        self.interrupted = False

    def draw(self, count: int, seed: int) -> None:
        """Draws and judges `count` candidates; a keyboard interrupt ends it early."""
        try:
            with noted_interrupts() as check:
                self.tell("search", 0, count)
                self.evaluator.fisher(self.original)
                for done, candidate in enumerate(islice(draw_candidates(self.original, seed), count), start=1):
                    self.details.append(self._judge(candidate))
                    self.tell("search", done, count)
                    check()
        except KeyboardInterrupt:
            self.interrupted = True

    def combine(self) -> Program:
        """The best candidates of all layers in one program: neural steps first, then the loop steps that still fit."""
        ranked = sorted(self.accepted, key=lambda a: a.saved, reverse=True)
        program, chosen = self.original, dict[str, Candidate]()
        for done, entry in enumerate(ranked):
            self.tell("combine", done, len(ranked))
            candidate = entry.candidate
            if candidate.layer in chosen:
                continue
            extended = self._with_neural(program, candidate.neural)
            if extended is not None:
                program = extended
                chosen[candidate.layer] = candidate
        self.tell("combine", len(ranked), len(ranked))
        looped = program
        for candidate in chosen.values():
            looped = _applied(looped, candidate.loops) or looped
        return self._fastest(program, looped)

    def _fastest(self, *programs: Program) -> Program:
        """The program that runs fastest as a whole, the original included: layers timed alone do not tell all."""
        best, least = self.original, WORTHWHILE
        for program in programs:
            if program.steps in ((), best.steps):
                continue
            before, after = self.evaluator.network_times(program)
            if after < least * before:
                best, least = program, after / before
        return best

    def report(
        self, program: Program, baseline: Program, chosen: Inherited, name: str, threads: int, seed: int, started: float
    ) -> Report:
        """Compiles, checks and times the whole network, against `baseline`; everything in one report."""
        self.tell("check", 0, 2)
        error = self.evaluator.check_network(program)
        before_ms, after_ms = self.evaluator.network_times(program, baseline)
        self.tell("check", 1, 2)
        times = self.evaluator.layer_times(program)
        before, after = self.evaluator.fisher(self.original), self._fisher_of(program)
        outcomes = [d.outcome for d in self.details]
        self.tell("check", 2, 2)
        errors = _inherited_errors(self.original, program, self.evaluator.batch.images)
        return Report(
            model=name, threads=threads, seed=seed, data=self.evaluator.batch.source,
            baseline_ms=before_ms, optimized_ms=after_ms, speedup=before_ms / after_ms,
            fisher_original=before.mean, fisher_optimized=after, fisher_standard_error=before.standard_error,
            legal=after >= before.mean, candidates=len(outcomes), rejected_structure=outcomes.count("structure"),
            rejected_fisher=outcomes.count("fisher"), failed=outcomes.count("failed"), max_abs_error=error,
            inherited_error=errors[""],
            **_counts(self.original, program), seconds_total=time.perf_counter() - started,
            interrupted=self.interrupted, layers=_layer_reports(self.original, program, times, errors),
            details=tuple(self.details), inherit=chosen.how, inherited_errors=dict(chosen.errors),
            padded_channels=padding(program.module),
        )  # fmt: skip

    def _judge(self, candidate: Candidate) -> CandidateReport:
        """Takes one candidate through the gates, in order of their cost."""
        texts = tuple(str(step) for step in candidate.steps)
        if candidate.refusal is not None:
            return CandidateReport(texts, "structure", str(candidate.refusal))
        score: float | None = None
        try:
            if candidate.neural is not None:
                score = self.evaluator.fisher(self.original.apply(str(candidate.neural))).mean
                required = self.evaluator.fisher(self.original).mean
                if not score >= required:
                    return CandidateReport(texts, "fisher", f"Fisher Potential {score:.6g} < {required:.6g}", score)
            times = self.evaluator.layer_times(self.original.apply(str(candidate)))
        except (IllegalTransform, ArgumentError) as error:
            return CandidateReport(texts, "structure", str(error), score)
        except CompilationFailed as error:
            return CandidateReport(texts, "failed", str(error), score)
        before, after = total(times, lambda t: t.ms_before), total(times, lambda t: t.ms_after)
        if after < WORTHWHILE * before:
            self.accepted.append(_Accepted(candidate, before - after))
        return CandidateReport(texts, "accepted", "", score, before, after)

    def _with_neural(self, program: Program, step: Step | None) -> Program | None:
        """The program with one more neural step, None where that is not legal any more."""
        if step is None:
            return program
        extended = _applied(program, [step])
        if extended is None:
            return None
        try:
            legal = self.evaluator.fisher(extended).mean >= self.evaluator.fisher(self.original).mean
        except LoopmorphError:
            return None
        return extended if legal else None

    def _fisher_of(self, program: Program) -> float:
        """The potential of a combined program: that of its neural steps, since loop steps change no value.

        It is measured at random initialisations, so that what is inherited does not matter.
        """
        neural = [text for text in map(plain_step, program.steps) if text in self._neural_texts()]
        return self.evaluator.fisher(self.original.apply(",".join(neural)) if neural else self.original).mean

    def _neural_texts(self) -> set[str]:
        return {str(a.candidate.neural) for a in self.accepted if a.candidate.neural is not None}


def _applied(program: Program, steps: Sequence[Step]) -> Program | None:
    """The program after the steps, None where it does not admit one of them."""
    try:
        return program.apply(",".join(str(step) for step in steps)) if steps else program
    except LoopmorphError:
        return None


def _inherited_errors(original: Program, program: Program, images: torch.Tensor) -> dict[str, float]:
    """The error of the whole network, under "", and of each layer whose steps can stand alone."""
    errors = {"": inherited_error(original, program, images)}
    steps: dict[str, list[str]] = {}
    for text in program.steps:
        steps.setdefault(step_layer(text) or "", []).append(text)
    for layer, own in steps.items():
        if layer:
            with suppress(LoopmorphError):
                errors[layer] = inherited_error(original, original.apply(",".join(own)), images)
    return errors


def _layer_reports(
    original: Program, program: Program, times: Sequence[LayerTime], errors: Mapping[str, float]
) -> tuple[LayerReport, ...]:
    """One report for each layer that was timed, or that a step names."""
    timed = {t.name: t for t in times}
    before = {layer.name: layer.macs for layer in original.layers}
    after = {layer.name: layer.macs for layer in program.layers}
    reports = []
    for name in before:
        steps = tuple(text for text in program.steps if step_layer(text) == name)
        if name in timed or steps:
            t = timed.get(name)
            ms_before, ms_after = (t.ms_before, t.ms_after) if t else (None, None)
            reports.append(
                LayerReport(name, steps, ms_before, ms_after, before[name], after.get(name, 0), errors.get(name))
            )
    return tuple(reports)


def _counts(original: Program, program: Program) -> dict[str, int]:
    def elements(p: Program) -> int:
        trained = dict(p.model.named_parameters())
        return sum(t.numel() for name, t in p.parameters.items() if p.sources[name] in {None, *trained})

    return {
        "macs_before": sum(layer.macs for layer in original.layers),
        "macs_after": sum(layer.macs for layer in program.layers),
        "parameters_before": elements(original),
        "parameters_after": elements(program),
    }


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(name, f"expected an integer of at least 1, got {value!r}")


def _load(program: Program, data: str | Path | None, count: int, seed: int) -> Batch:
    """A minibatch of the shape that the network takes, with as many classes as it tells apart."""
    if len(program.example_inputs) != 1 or program.example_inputs[0].dim() != 4:
        raise ArgumentError("example_inputs", "expected one tensor (N, C, H, W): Fisher Potential needs a classifier")
    (images,) = program.example_inputs
    with torch.no_grad():
        logits = copy.deepcopy(program.model).eval()(images)
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        raise ArgumentError("model", "expected logits (N, classes) from it: Fisher Potential needs a classifier")
    _, channels, height, width = images.shape
    return load_batch(data, count=count, shape=(channels, height, width), classes=logits.shape[1], seed=seed)
