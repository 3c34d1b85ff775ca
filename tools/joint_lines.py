"""How a command tells what a joint choice came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from loopmorph.pipelines.search.joint.choice_report import JointReport, TrialReport


def joint_table(report: JointReport) -> Table:
    """The choice beside the baselines, each as it was judged."""
    judged = sum(each.kl is not None for each in report.trials)
    table = Table(
        title=f"{report.variants} variants; {len(report.trials)} networks assembled, {judged} of them judged",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("chosen by", overflow="fold")
    for name in ("ms by the table", "measured", "speed-up", f"sum of {report.signal}", "joint KL", "predicted loss"):
        table.add_column(name, justify="right")
    rows = {f"joint choice ({report.chosen.origin})": report.chosen, **report.baselines}
    for name, trial in rows.items():
        table.add_row(escape(name), *_cells(trial, report.original_ms))
    return table


def joint_lines(report: JointReport) -> list[str]:
    """What else there is to say of it."""
    lines = [_bound(report)]
    if report.limit_ms is not None:
        asked = f"speed-up {report.target_speedup:g}: " if report.target_speedup is not None else ""
        reached = "reached" if report.reached else "NOT reached"
        lines.append(f"{asked}limit {report.limit_ms:.4g} ms {reached}")
    if report.exhausted:
        lines.append("every choice within the limits was tried")
    if report.chosen.dropped:
        lines.append(f"not admitted after the others, and left out: {', '.join(report.chosen.dropped)}")
    failed = sum(bool(each.failure) for each in report.trials)
    if failed:
        lines.append(f"{failed} networks could not be judged; report.json says why")
    return lines


def _bound(report: JointReport) -> str:
    optimum = "proved" if report.additive_gap == 0 else f"within {report.additive_gap:.2g} of the bound"
    return f"additive model: sum of {report.signal} {report.additive_loss:.4g}, optimum {optimum}"


def _cells(trial: TrialReport, original_ms: float) -> list[str]:
    measured = trial.milliseconds
    return [
        f"{trial.predicted_ms:.4g}",
        "-" if measured is None else f"{measured:.4g}",
        "-" if measured is None else f"{original_ms / measured:.2f}x",
        f"{trial.summed_loss:.3g}",
        "-" if trial.kl is None else f"{trial.kl:.3g}" + ("" if trial.whole else " (few images)"),
        (trial.failure and "failed") or _points(trial),
    ]


def _points(trial: TrialReport) -> str:
    if trial.predicted_loss is None:
        return "-"
    return f"{trial.predicted_loss:z.1f} ({trial.predicted_loss_low:z.1f} to {trial.predicted_loss_high:z.1f})"
