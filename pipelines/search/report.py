"""What a search found, as data and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loopmorph.pipelines.legality.proxy import FisherPotential
from loopmorph.pipelines.search.joint.choice_report import JointReport
from loopmorph.pipelines.search.tuning_report import TuningReport
from loopmorph.pipelines.search.verdict import Verdict


def _finite(content: Any) -> Any:
    """The content with null where JSON has no number."""
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@dataclass(frozen=True)
class LayerReport:
    """One layer that the schedule changes; times are in milliseconds (see `PairTime`), None where not measured.

    `inherited_error` is the relative error of the network's outputs when only this layer's neural transformations are
    applied and its weights inherited (see `pipelines/oracle/inherited_error.py`), on a part of the minibatch where the
    network is large; None where it was not measured.
    `residual` is the squared error of the layer's output, in the repaired network, from the original's, as a share of
    its variance (see `LayerRepair.after`); None where the layer was not repaired.
    """

    name: str
    transforms: tuple[str, ...]
    ms_before: float | None
    ms_after: float | None
    macs_before: int
    macs_after: int
    inherited_error: float | None = None
    residual: float | None = None


@dataclass(frozen=True)
class RepairReport:
    """What was measured of the repaired result, on images that its weights were not fitted to.

    Attributes:
        held_out: where these images come from.
        kl, kl_standard_error: mean KL(original || result) of the predictions, in nats, and its standard error.
        agreement: the share of images of which both tell the same class.
        accuracy_original, accuracy_repaired: the share of images told right, in points (per cent), the latter before
            any fine-tuning; None without labels.
        max_loss: the points of accuracy that it may lose by fine-tuning.
        predicted_loss, predicted_loss_low, predicted_loss_high: what it is predicted to lose, and the ends of the
            interval; `predicted_loss_high` is infinite (null in JSON) beyond every network of the calibration.
        predicted_loss_level: of the interval.
        calibration: what the prediction is made by: its network and data.
        calibration_fits: it is of a network with this one's structure; otherwise the interval is borrowed.
    """

    held_out: str | None = None
    kl: float | None = None
    kl_standard_error: float | None = None
    agreement: float | None = None
    accuracy_original: float | None = None
    accuracy_repaired: float | None = None
    max_loss: float | None = None
    predicted_loss: float | None = None
    predicted_loss_low: float | None = None
    predicted_loss_high: float | None = None
    predicted_loss_level: float | None = None
    calibration: str | None = None
    calibration_fits: bool | None = None


ORIGINAL, RESULT, TRIAL, BASELINE = "original", "result", "trial", "baseline"


@dataclass(frozen=True)
class FrontPoint:
    """One network that was timed and judged, as a point of latency against loss.

    Attributes:
        name: what it is called.
        ms: milliseconds of one call.
        loss: points of accuracy that it is predicted to lose.
        low, high: the ends of the interval for the loss; `high` may be infinite (null in JSON).
        kind: `ORIGINAL`, `RESULT`, `TRIAL` or `BASELINE`.
    """

    name: str
    ms: float
    loss: float
    low: float | None = None
    high: float | None = None
    kind: str = TRIAL


@dataclass(frozen=True)
class ScoreReport:
    """What one proxy said.

    Attributes:
        title: what the proxy is called in messages.
        original, optimized: its score (mean over repeats) of the network before and after; None where not measured.
        standard_error: of the original's.
        rejected: how many candidates it refused.
    """

    title: str
    original: float | None = None
    optimized: float | None = None
    standard_error: float | None = None
    rejected: int = 0


# The paper's score has its names in every report, also where another gate decided.
NOT_MEASURED: Mapping[str, ScoreReport] = {FisherPotential.name: ScoreReport(FisherPotential.title)}


@dataclass(frozen=True)
class Report:
    """A finished or interrupted search. Times are in milliseconds (see `PairTime`), interleaved on one machine.

    Attributes:
        model, threads, seed, data: what was asked for; `data` says where the images came from.
        baseline_ms, optimized_ms, speedup: the whole network, before and after, by the same code generator.
        legality: the gate: "fisher", "repair" or "none"; empty where a schedule was replayed.
        legality_reason: why this one.
        scores: name of each gate -> what it said; the one named by `legality` decided. In JSON, and as attributes,
            `NAME_original`, `NAME_optimized`, `NAME_standard_error` and `rejected_NAME` of each. That of "repair" is
            the upper end of the interval for the points of accuracy that are lost.
        legal: the optimised network passes the gate; None where that could not be judged, or was not to be.
        doubt: why it was not judged; empty where it was.
        repair: what was measured of the repaired result, where `legality` is "repair"; in JSON its fields lie among
            these ones.
        joint: how the result was chosen from a table of variants, and what else was tried; None where it was not.
        tuning: what tuning gained (see `SearchSettings.tune`), and for which layers it chose other code than the
            compiler's model; None where nothing was tuned.
        loss: what the scores' loss is called.
        note: where the model is from, of a `.pt2`: what was restored of it, and what keeps the mode of the export.
        candidates: candidates drawn; rejected_structure, failed, wrong: how many were refused by the structural rules,
            failed to compile or crashed, or computed something else than PyTorch (a fault of loopmorph).
        failure: the error that left something of it unmeasured, as where compiled code cannot be had or differs from
            PyTorch; empty where nothing failed.
        max_abs_error: largest difference between the compiled network and `.model`, as a share of the largest output.
        inherited_error: relative error of `.model`'s outputs, with inherited weights and before any fine-tuning, from
            the original's on the minibatch.
        inherit: which of the old weights it inherits, "slice", "mean", "salient", "least-squares" or "repair" (see
            `pipelines/oracle/inherit.py`); None where nothing was chosen.
        inherited_errors: each way that was tried -> that error.
        macs_before, macs_after, parameters_before, parameters_after: of the whole network.
        seconds_total: wall time.
        interrupted: the search was stopped before it had drawn every candidate, or what comes after that was cut short.
        layers: the layers that the schedule changes.
        details: every candidate drawn.
        padded_channels: the channels that the code pads to the vector width: "layer3.0.conv1 co 100 -> 112".
        points: the networks that were timed as a whole and judged by repair, the original and the result among them.
    """

    model: str
    data: str
    scores: Mapping[str, ScoreReport]
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    layers: tuple[LayerReport, ...]
    threads: int = 1
    seed: int = 0
    baseline_ms: float | None = None
    optimized_ms: float | None = None
    speedup: float | None = None
    legal: bool | None = None
    doubt: str = ""
    note: str = ""
    loss: str = "cross-entropy"
    candidates: int = 0
    rejected_structure: int = 0
    failed: int = 0
    wrong: int = 0
    failure: str = ""
    max_abs_error: float | None = None
    inherited_error: float | None = None
    inherit: str | None = None
    inherited_errors: Mapping[str, float] = field(default_factory=dict)
    seconds_total: float = 0.0
    interrupted: bool = False
    details: tuple[Verdict, ...] = ()
    padded_channels: tuple[str, ...] = ()
    legality: str = ""
    legality_reason: str = ""
    repair: RepairReport = RepairReport()
    points: tuple[FrontPoint, ...] = ()
    joint: JointReport | None = None
    tuning: TuningReport | None = None

    def to_json(self) -> str:
        """The report as indented JSON; what is no finite number is null."""
        content = dataclasses.asdict(self)
        del content["scores"]
        repair = content.pop("repair")
        return json.dumps(_finite({**content, **repair, **self._flat_scores()}), indent=1) + "\n"

    def __getattr__(self, name: str) -> float | int | None:
        scores = self._flat_scores() if "scores" in vars(self) else {}
        if name not in scores:
            raise AttributeError(f"'Report' object has no attribute '{name}'")
        return scores[name]

    def _flat_scores(self) -> dict[str, float | int | None]:
        found: dict[str, float | int | None] = {}
        for name, score in self.scores.items():
            for field_ in ("original", "optimized", "standard_error"):
                found[f"{name}_{field_}"] = getattr(score, field_)
            found[f"rejected_{name}"] = score.rejected
        return found
