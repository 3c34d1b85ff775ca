"""The report of a search: what was found, checked and timed once more as a whole."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from loopmorph.passes.errors import LoopmorphError, LoopmorphWarning
from loopmorph.passes.history import layer_of, steps_on
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.padding import padding
from loopmorph.pipelines.legality.calibration import structure_fingerprint
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.predicted_loss import Judged
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.oracle.inherit import Inherited, plain_steps
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.gates import Chosen
from loopmorph.pipelines.search.joint.choice_report import JointReport
from loopmorph.pipelines.search.judge import Judge, LayerTime
from loopmorph.pipelines.search.report import (
    BASELINE,
    NOT_MEASURED,
    ORIGINAL,
    RESULT,
    TRIAL,
    FrontPoint,
    LayerReport,
    RepairReport,
    Report,
    ScoreReport,
)
from loopmorph.pipelines.search.tuner import TunedPair
from loopmorph.pipelines.search.tuning_report import report_tuning
from loopmorph.pipelines.search.verdict import FAILED, STRUCTURE, WRONG, Verdict
from loopmorph.pipelines.support.interrupts import until_interrupted
from loopmorph.pipelines.support.progress import Progress
from loopmorph.pipelines.training.task import CROSS_ENTROPY, Task

_LAYER_WORK = 5 * 10**10  # multiply-accumulates by which one layer's error is told


class NotMeasuredWarning(LoopmorphWarning):
    """Something could not be measured of the result of a search; the text says why (see `Report.failure`)."""


@dataclass(frozen=True)
class Asked:
    """What a search was asked for, as its report says it.

    Attributes:
        name: the model's name.
        threads, target: of the compiled code.
        seed: of candidates, images and initialisations.
        note: where the model is from.
        loss: what the proxy's loss is called.
    """

    name: str
    threads: int
    target: Target
    seed: int
    note: str = ""
    loss: str = CROSS_ENTROPY


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        original: the network as imported.
        program: the result.
        inherited: whose weights it has.
        verdicts: of every candidate drawn.
        interrupted: whether the search was stopped before it had drawn all.
        measured: what the gate measured of the result, where that is "repair".
        joint: how it was chosen, where that was from a table of variants.
        tuned: the original and the result before and after tuning, where they are tuned.
    """

    original: Program
    program: Program
    inherited: Inherited[Program]
    verdicts: Sequence[Verdict]
    interrupted: bool
    measured: Judged | None = None
    joint: JointReport | None = None
    tuned: TunedPair | None = None

    @property
    def baseline(self) -> Program:
        """What the result is compared with: the original, tuned where the result is."""
        return self.original if self.tuned is None else self.tuned.original.program


@dataclass
class _Measured:
    """What was measured of the result until an interrupt, if there was one, ended it.

    `failure` is the first error that left something out.
    """

    error: float | None = None
    times: PairTime | None = None
    layers: Sequence[LayerTime] = ()
    before: Score | None = None
    after: Score | None = None
    errors: dict[str, float] = field(default_factory=dict)
    tuning: dict[str, PairTime] = field(default_factory=dict)
    interrupted: bool = False
    failure: str = ""


def summarise(found: Found, asked: Asked, task: Task, oracle: Chosen, judge: Judge, tell: Progress) -> Report:
    """Compiles, checks and times the whole network; everything in one report, but for the time that it took in all.

    An interrupt leaves out what is not measured by then, and goes no further. So does an error, as of code that cannot
    be compiled or differs from PyTorch, with a `NotMeasuredWarning`: what a search has found is not lost for it.
    """
    original, program = found.original, found.program
    measured = _measure(found, task, oracle, judge, tell)
    if measured.failure:
        text = f"the result could not be compiled, checked and measured whole: {measured.failure}"
        warnings.warn(text, NotMeasuredWarning, stacklevel=2)
    times = measured.times
    outcomes = Counter(verdict.outcome for verdict in found.verdicts)
    return Report(
        model=asked.name,
        threads=asked.threads,
        seed=asked.seed,
        data=task.source,
        baseline_ms=None if times is None else times.original * 1e3,
        optimized_ms=None if times is None else times.rewritten * 1e3,
        speedup=None if times is None else times.speedup,
        **_legality(oracle.gate, measured, outcomes[oracle.gate.name]),
        repair=_repair_report(found, oracle),
        points=_points(found, times),
        joint=found.joint,
        tuning=None if found.tuned is None else report_tuning(found.tuned, measured.tuning),
        note=asked.note,
        loss=asked.loss,
        candidates=len(found.verdicts),
        rejected_structure=outcomes[STRUCTURE],
        failed=outcomes[FAILED],
        wrong=outcomes[WRONG],
        failure=measured.failure,
        max_abs_error=measured.error,
        inherited_error=measured.errors.get(""),
        **counts(original, program),
        interrupted=found.interrupted or measured.interrupted,
        layers=layer_reports(original, program, measured.layers, measured.errors, _residuals(found)),
        details=tuple(found.verdicts),
        padded_channels=padding(program, asked.target),
        inherit=found.inherited.how,
        inherited_errors=dict(found.inherited.errors),
    )


def _measure(found: Found, task: Task, oracle: Chosen, judge: Judge, tell: Progress) -> _Measured:
    """All that is measured of the result, what matters most first."""
    measured = _Measured()

    def check_code() -> None:
        _check_code(found, judge, measured)

    def score() -> None:
        measured.before, measured.after = judge.score(()), _score_of_result(found, oracle, judge)

    def compare() -> None:
        for name, tuned in () if found.tuned is None else found.tuned.networks.items():
            measured.tuning[name] = judge.network_time(tuned.program.history, tuned.untuned.history)
        measured.errors.update(_inherited_errors(found.original, found.program, task.inputs))

    stages = (check_code, score, compare)
    with until_interrupted() as stage:
        for done, each in enumerate(stages):
            tell("check", done, len(stages))
            try:
                each()
            except LoopmorphError as error:
                measured.failure = measured.failure or str(error)
        tell("check", len(stages), len(stages))
    measured.interrupted = stage.interrupted
    return measured


def _check_code(found: Found, judge: Judge, measured: _Measured) -> None:
    """Compares the compiled network with PyTorch, then times it and its layers."""
    steps, baseline = found.program.history, found.baseline.history
    measured.error = judge.check_network(steps)
    if found.tuned is not None:
        judge.check_network(baseline)
    measured.times = judge.network_time(steps, baseline)
    measured.layers = judge.layer_times(steps)


def _score_of_result(found: Found, oracle: Chosen, judge: Judge) -> Score | None:
    """By what the gate measured of the very weights that the result has, or by the judge's measurement."""
    if oracle.loss is not None and found.measured is not None:
        return oracle.loss.verdict(found.original, found.measured)
    # Measured at random initialisations, so that what is inherited does not matter; loop steps change no value.
    return judge.score(plain_steps(step for step in found.program.history if step.kind == "neural"))


def _legality(gate: Gate, measured: _Measured, rejected: int) -> dict[str, Any]:
    """The fields of a report that say by what the network was judged, and how that came out."""
    about = {"legality": gate.name, "legality_reason": gate.reason}
    before, after = measured.before, measured.after
    if gate.together is None or before is None or after is None:
        interrupted = "it was interrupted" if measured.interrupted else ""
        doubt = interrupted or measured.failure or f"legality '{gate.name}' judges nothing"
        return {**about, "scores": NOT_MEASURED, "legal": None, "doubt": doubt}
    score = ScoreReport(gate.together.proxy.title, before.value, after.value, before.error, rejected)
    legal = None if before.doubt else gate.together.admits(after, before)
    return {**about, "scores": {**NOT_MEASURED, gate.name: score}, "legal": legal, "doubt": before.doubt}


def _repair_report(found: Found, oracle: Chosen) -> RepairReport:
    if oracle.loss is None or found.measured is None or oracle.gate.together is None:
        return RepairReport()
    comparison, prediction = found.measured.comparison, found.measured.prediction
    about = oracle.loss.calibration.provenance
    return RepairReport(
        held_out=oracle.loss.held_out.source,
        kl=comparison.kl.value,
        kl_standard_error=comparison.kl.error,
        agreement=comparison.agreement,
        accuracy_original=_per_cent(comparison.accuracy_original),
        accuracy_repaired=_per_cent(comparison.accuracy),
        max_loss=oracle.gate.together.limit,
        predicted_loss=prediction.expected,
        predicted_loss_low=prediction.low,
        predicted_loss_high=prediction.high,
        predicted_loss_level=prediction.level,
        calibration=f"{about.network} on {about.data}, {about.epochs} epochs",
        calibration_fits=oracle.loss.calibration.fits(structure_fingerprint(found.original)),
    )


def _per_cent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _points(found: Found, times: PairTime | None) -> tuple[FrontPoint, ...]:
    if found.measured is None or times is None:
        return ()
    predicted = found.measured.prediction
    loss = predicted.expected, predicted.low, predicted.high
    return (
        FrontPoint("original", times.original * 1e3, 0.0, kind=ORIGINAL),
        *([] if found.joint is None else trial_points(found.joint, times.original * 1e3)),
        FrontPoint("result", times.rewritten * 1e3, *loss, kind=RESULT),
    )


def trial_points(joint: JointReport, original_ms: float) -> Iterator[FrontPoint]:
    """The trials that were timed and judged whole, their times brought to one clock by the original's on both."""
    baselines = {each.transforms: name for name, each in joint.baselines.items()}
    for trial in joint.trials:
        if trial.milliseconds is not None and trial.predicted_loss is not None and trial.whole:
            name = baselines.get(trial.transforms, trial.origin)
            loss = trial.predicted_loss, trial.predicted_loss_low, trial.predicted_loss_high
            kind = BASELINE if trial.transforms in baselines else TRIAL
            yield FrontPoint(name, trial.milliseconds * original_ms / joint.original_ms, *loss, kind=kind)


def _residuals(found: Found) -> dict[str, float | None]:
    return {layer.name: layer.after for layer in found.inherited.layers}


def _inherited_errors(original: Program, program: Program, inputs: Sequence[torch.Tensor]) -> dict[str, float]:
    """The error of the whole network, under "", and of each layer whose steps can stand alone.

    The latter on fewer images where the network is large: there are a hundred layers of it.
    """
    errors = {"": inherited_error(original, program, *inputs)}
    images = max(1, _LAYER_WORK * len(original.example_tensors[0]) // max(1, original.macs))
    few = [x[:images] for x in inputs]
    for layer in filter(None, dict.fromkeys(map(layer_of, program.history))):
        with suppress(LoopmorphError):
            errors[layer] = inherited_error(original, original.after(steps_on(program.history, layer)), *few)
    return errors


def layer_reports(
    original: Program,
    program: Program,
    times: Sequence[LayerTime],
    errors: Mapping[str, float],
    residuals: Mapping[str, float | None],
) -> tuple[LayerReport, ...]:
    """One report for each layer that was timed, or that a step names."""
    timed = {t.name: t for t in times}
    before = {layer.name: layer.macs for layer in original.layers}
    after = {layer.name: layer.macs for layer in program.layers}
    reports = []
    for name in before:
        steps = tuple(map(str, steps_on(program.history, name)))
        if name in timed or steps:
            t = timed.get(name)
            ms_before, ms_after = (t.ms_before, t.ms_after) if t else (None, None)
            macs = before[name], after.get(name, 0)
            own = errors.get(name), residuals.get(name)
            reports.append(LayerReport(name, steps, ms_before, ms_after, *macs, *own))
    return tuple(reports)


def counts(original: Program, program: Program) -> dict[str, Any]:
    """The fields of a report that count multiply-accumulates and trained parameters."""

    def elements(p: Program) -> int:
        trained = dict(p.model.named_parameters())
        return sum(t.numel() for name, t in p.parameters.items() if p.sources[name] in {None, *trained})

    return {
        "macs_before": original.macs,
        "macs_after": program.macs,
        "parameters_before": elements(original),
        "parameters_after": elements(program),
    }
