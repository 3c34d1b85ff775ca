"""What a report says of a joint choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loopmorph.pipelines.search.joint.joint import JointChoice
from loopmorph.pipelines.search.joint.trials import Trial
from loopmorph.pipelines.search.variants.table import VariantTable


@dataclass(frozen=True)
class TrialReport:
    """One network that was assembled.

    Attributes:
        origin: "additive", "coefficients", "switch", a baseline's name, or "original".
        transforms: pass texts, in order.
        dropped: the steps of variants that the network did not admit after the others.
        summed_loss, predicted_ms: by the table alone.
        kl: joint KL in nats, on as many images as it was judged on; None where it was not judged.
        whole: whether these were all images.
        accuracy: on held-out images before fine-tuning, in points; None without labels.
        predicted_loss, predicted_loss_low, predicted_loss_high: points of accuracy after fine-tuning.
        milliseconds: measured, of the whole network, by the table's clock; None where it was not timed.
        failure: why it could not be judged; empty where it could.
    """

    origin: str
    transforms: tuple[str, ...]
    dropped: tuple[str, ...]
    summed_loss: float
    predicted_ms: float
    kl: float | None
    whole: bool
    accuracy: float | None
    predicted_loss: float | None
    predicted_loss_low: float | None
    predicted_loss_high: float | None
    milliseconds: float | None
    failure: str = ""


@dataclass(frozen=True)
class JointReport:
    """How a network was chosen from a table of variants.

    Attributes:
        target_speedup: that was asked for; None where it was not.
        limit_ms: milliseconds that it may take, by the table's clock.
        reached: whether it keeps its limits, its time measured.
        chosen: the choice.
        signal: what the summed losses are sums of.
        additive_loss: of the optimum of the additive model.
        additive_bound: no choice within the limits has a smaller sum.
        additive_gap: how far the two are apart, as a share; 0 where the optimum is proved.
        exhausted: whether every choice within the limits was tried.
        variants: how many the table has.
        original_ms: the original's time by the table.
        baselines: name -> what became of it.
        trials: every network that was assembled, in order.
    """

    target_speedup: float | None
    limit_ms: float | None
    reached: bool
    chosen: TrialReport
    signal: str
    additive_loss: float
    additive_bound: float
    additive_gap: float
    exhausted: bool
    variants: int
    original_ms: float
    baselines: Mapping[str, TrialReport] = field(default_factory=dict)
    trials: tuple[TrialReport, ...] = ()


def report_choice(choice: JointChoice, table: VariantTable, levels: int, target_speedup: float | None) -> JointReport:
    """A choice as data.

    Args:
        choice: what was chosen.
        table: from which.
        levels: of the truth that judged.
        target_speedup: that was asked for.
    """
    return JointReport(
        target_speedup=target_speedup,
        limit_ms=choice.limits.milliseconds,
        reached=choice.reached,
        chosen=_report(choice.trial, table, levels),
        signal=table.signal,
        additive_loss=choice.additive.loss,
        additive_bound=choice.additive.bound,
        additive_gap=choice.additive.gap,
        exhausted=choice.exhausted,
        variants=len(table.variants),
        original_ms=table.original.milliseconds,
        baselines={name: _report(trial, table, levels) for name, trial in choice.baselines.items()},
        trials=tuple(_report(trial, table, levels) for trial in choice.trials),
    )


def _report(trial: Trial, table: VariantTable, levels: int) -> TrialReport:
    loss = trial.losses[-1] if trial.losses else None
    return TrialReport(
        trial.origin,
        tuple(map(str, trial.steps)),
        _texts(table, trial.dropped),
        trial.selection.loss,
        trial.selection.cost.milliseconds,
        None if loss is None else loss.kl,
        len(trial.losses) == levels,
        None if loss is None or loss.accuracy is None else 100 * loss.accuracy,
        None if loss is None else loss.expected,
        None if loss is None else loss.low,
        None if loss is None else loss.high,
        trial.milliseconds,
        trial.failure,
    )


def _texts(table: VariantTable, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(step for index in indices for step in table.variants[index].steps)
