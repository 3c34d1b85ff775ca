"""The report of a search: what was found, checked and timed once more as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from loopmorph.passes.errors import LoopmorphError
from loopmorph.passes.history import layer_of, steps_on
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.padding import padding
from loopmorph.pipelines.legality.calibration import structure_fingerprint
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.predicted_loss import Judged
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.oracle.inherit import Inherited, plain_steps
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.gates import Chosen
from loopmorph.pipelines.search.joint.choice_report import JointReport
from loopmorph.pipelines.search.judge import Judge, LayerTime
from loopmorph.pipelines.search.report import NOT_MEASURED, LayerReport, RepairReport, Report, ScoreReport
from loopmorph.pipelines.search.verdict import FAILED, STRUCTURE, WRONG, Verdict
from loopmorph.pipelines.support.progress import Progress
from loopmorph.pipelines.training.task import CROSS_ENTROPY, Task


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
        baseline: what the result is compared with: the original, tuned where the result is.
        program: the result.
        inherited: whose weights it has.
        verdicts: of every candidate drawn.
        interrupted: whether the search was stopped before it had drawn all.
        measured: what the gate measured of the result, where that is "repair".
        joint: how it was chosen, where that was from a table of variants.
    """

    original: Program
    baseline: Program
    program: Program
    inherited: Inherited[Program]
    verdicts: Sequence[Verdict]
    interrupted: bool
    measured: Judged | None = None
    joint: JointReport | None = None


def summarise(found: Found, asked: Asked, task: Task, oracle: Chosen, judge: Judge, tell: Progress) -> Report:
    """Compiles, checks and times the whole network; everything in one report, but for the time that it took in all.

    Raises:
        CompilationFailed: the network cannot be compiled, crashes or hangs.
        WrongResult: it differs from PyTorch.
    """
    original, program = found.original, found.program
    tell("check", 0, 2)
    error = judge.check_network(program.history)
    times = judge.network_time(program.history, found.baseline.history)
    tell("check", 1, 2)
    layers = judge.layer_times(program.history)
    before, after = judge.score(()), _score_of_result(found, oracle, judge)
    tell("check", 2, 2)
    errors = _inherited_errors(original, program, task.inputs)
    outcomes = Counter(verdict.outcome for verdict in found.verdicts)
    return Report(
        model=asked.name,
        threads=asked.threads,
        seed=asked.seed,
        data=task.source,
        baseline_ms=times.original * 1e3,
        optimized_ms=times.rewritten * 1e3,
        speedup=times.speedup,
        **_legality(oracle.gate, before, after, outcomes[oracle.gate.name]),
        repair=_repair_report(found, oracle),
        joint=found.joint,
        note=asked.note,
        loss=asked.loss,
        candidates=len(found.verdicts),
        rejected_structure=outcomes[STRUCTURE],
        failed=outcomes[FAILED],
        wrong=outcomes[WRONG],
        max_abs_error=error,
        inherited_error=errors[""],
        **counts(original, program),
        interrupted=found.interrupted,
        layers=layer_reports(original, program, layers, errors, _residuals(found)),
        details=tuple(found.verdicts),
        padded_channels=padding(program, asked.target),
        inherit=found.inherited.how,
        inherited_errors=dict(found.inherited.errors),
    )


def _score_of_result(found: Found, oracle: Chosen, judge: Judge) -> Score | None:
    """By what the gate measured of the very weights that the result has, or by the judge's measurement."""
    if oracle.loss is not None and found.measured is not None:
        return oracle.loss.verdict(found.original, found.measured)
    # Measured at random initialisations, so that what is inherited does not matter; loop steps change no value.
    return judge.score(plain_steps(step for step in found.program.history if step.kind == "neural"))


def _legality(gate: Gate, before: Score | None, after: Score | None, rejected: int) -> dict[str, Any]:
    """The fields of a report that say by what the network was judged, and how that came out."""
    about = {"legality": gate.name, "legality_reason": gate.reason}
    if gate.together is None or before is None or after is None:
        return {**about, "scores": NOT_MEASURED, "legal": None, "doubt": f"legality '{gate.name}' judges nothing"}
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
        accuracy_original=_points(comparison.accuracy_original),
        accuracy_repaired=_points(comparison.accuracy),
        max_loss=oracle.gate.together.limit,
        predicted_loss=prediction.expected,
        predicted_loss_low=prediction.low,
        predicted_loss_high=prediction.high,
        predicted_loss_level=prediction.level,
        calibration=f"{about.network} on {about.data}, {about.epochs} epochs",
        calibration_fits=oracle.loss.calibration.fits(structure_fingerprint(found.original)),
    )


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _residuals(found: Found) -> dict[str, float | None]:
    return {layer.name: layer.after for layer in found.inherited.layers}


def _inherited_errors(original: Program, program: Program, inputs: Sequence[torch.Tensor]) -> dict[str, float]:
    """The error of the whole network, under "", and of each layer whose steps can stand alone."""
    errors = {"": inherited_error(original, program, *inputs)}
    for layer in filter(None, dict.fromkeys(map(layer_of, program.history))):
        with suppress(LoopmorphError):
            errors[layer] = inherited_error(original, original.after(steps_on(program.history, layer)), *inputs)
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
