"""`report.html`: what a search found as one page, with everything that it needs in it."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loopmorph.passes.errors import LoopmorphError
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.measure.peak import Peak, measure_peak
from loopmorph.pipelines.page.bars import BeforeAfter, draw_before_after, draw_time
from loopmorph.pipelines.page.costs import NetworkCosts, held_by, network_costs
from loopmorph.pipelines.page.flow import draw_flow
from loopmorph.pipelines.page.front import draw_front
from loopmorph.pipelines.page.roofline import draw_roofline
from loopmorph.pipelines.page.svg import short
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.report import ORIGINAL, RESULT, FrontPoint, RepairReport, Report
from loopmorph.pipelines.search.tuning_report import TuningReport
from loopmorph.pipelines.support.progress import Progress, silent

_TEMPLATE = "page.html"
# Where a page that lies in a file may not use the clipboard, the text is at least selected and copied the old way.
_SCRIPT = """
document.getElementById("copy").addEventListener("click", async (event) => {
  const text = document.getElementById("schedule");
  try { await navigator.clipboard.writeText(text.textContent); }
  catch { getSelection().selectAllChildren(text); document.execCommand("copy"); }
  event.target.textContent = "Copied";
});
"""


@dataclass(frozen=True)
class Measured:
    """What a page shows beyond the report.

    Attributes:
        costs: of the networks, by "original" and "result".
        peak: the machine's roofs.
        target: the processor whose caches count.
    """

    costs: Mapping[str, NetworkCosts]
    peak: Peak
    target: Target


def measure(
    program: Program, threads: int, target: Target, tell: Progress = silent, known: Measured | None = None
) -> Measured:
    """Times the layers of a network, and of the original that it was made of, within each: two compilations.

    Args:
        program: the network.
        threads, target: of the compiled code.
        tell: called with "page", the steps done and the steps of it.
        known: what was measured of another network that was made of the same original, which then need not be again.

    Raises:
        LoopmorphError: one of them cannot be compiled.
    """
    networks, costs = {ORIGINAL: program.original or program, RESULT: program}, {}
    for done, (kind, network) in enumerate(networks.items()):
        tell("page", done, len(networks) + 1)
        found = known.costs[ORIGINAL] if known is not None and kind == ORIGINAL else None
        costs[kind] = found or network_costs(network, threads, target)
    tell("page", len(networks), len(networks) + 1)
    peak = measure_peak(threads)
    tell("page", len(networks) + 1, len(networks) + 1)
    return Measured(costs, peak, target)


def measured_or_why(
    program: Program, report: Report, target: Target, tell: Progress = silent, known: Measured | None = None
) -> Measured | str:
    """What `measure` gives; where that cannot be had, in one line why: the rest of a page is worth having."""
    if report.optimized_ms is None:  # code that has not run in a process of its own is not run in this one
        return "the network was not timed"
    try:
        return measure(program, report.threads, target, tell, known)
    except LoopmorphError as error:
        return str(error)


def render_page(report: Report, schedule: str, measured: Measured | str) -> str:
    """The page as HTML; all texts in it are escaped, and it asks for nothing from elsewhere.

    Args:
        report: what the search found.
        schedule: the schedule's text.
        measured: see `measure`; or why there is nothing.
    """
    shown = [point for point in report.points if _can_be_drawn(point)]
    level = report.repair.predicted_loss_level
    return _template().render(
        report=report,
        schedule=schedule,
        headline="not timed" if report.speedup is None else f"{report.speedup:.2f} times as fast",
        summary=_summary(report),
        facts_of_search=_facts_of_search(report),
        front=draw_front(shown) if shown else "",
        points=shown,
        level="" if level is None else f"{level:.0%}",
        facts_of_legality=_facts_of_legality(report),
        **_layer_pictures(report),
        **_measured_parts(measured),
        outcomes=_outcomes(report),
        short=short,
        script=Markup(_SCRIPT),
        script_digest=base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
    )


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(
        _TEMPLATE
    )


def _can_be_drawn(point: FrontPoint) -> bool:
    return math.isfinite(point.loss) and math.isfinite(point.ms) and point.ms > 0


def _summary(report: Report) -> str:
    verdict = "not judged" if report.legal is None else "legal" if report.legal else "not legal"
    stopped = "; the search was stopped early" if report.interrupted else ""
    if report.speedup is None:
        return f"{verdict}{stopped}"
    return f"{report.baseline_ms:.3g} ms → {report.optimized_ms:.3g} ms, {verdict} by {report.legality}{stopped}"


def _facts_of_search(report: Report) -> list[tuple[str, str]]:
    facts = [
        ("data", report.data),
        ("model", report.note),
        ("loss", report.loss),
        ("threads, seed", f"{report.threads}, {report.seed}"),
        ("multiply-accumulates", f"{report.macs_before:,} → {report.macs_after:,}"),
        ("parameters", f"{report.parameters_before:,} → {report.parameters_after:,}"),
        ("largest difference from PyTorch", "" if report.max_abs_error is None else f"{report.max_abs_error:.1e}"),
        ("channels padded", "; ".join(report.padded_channels)),
        *_facts_of_tuning(report.tuning),
        ("seconds in all", f"{report.seconds_total:.0f}"),
    ]
    return [(name, value) for name, value in facts if value]


def _facts_of_tuning(tuning: TuningReport | None) -> Iterator[tuple[str, str]]:
    for name, each in {} if tuning is None else {"original": tuning.original, "result": tuning.result}.items():
        gain = "not timed"
        if each.untuned_ms is not None:
            gain = f"{each.untuned_ms:.3g} ms → {each.tuned_ms:.3g} ms, {each.speedup:.2f} times as fast"
        yield f"gained by tuning, {name}", gain


def _facts_of_legality(report: Report) -> list[tuple[str, str]]:
    facts = [("gate", f"{report.legality}: {report.legality_reason}" if report.legality else "none")]
    for score in report.scores.values():
        if score.original is not None and score.optimized is not None:
            facts.append((score.title.rstrip(","), f"{score.original:.6g} → {score.optimized:.6g}"))
    if report.doubt:
        facts.append(("not judged because", report.doubt))
    return [*facts, *_facts_of_repair(report.repair)]


def _facts_of_repair(repair: RepairReport) -> Iterator[tuple[str, str]]:
    if repair.kl is None:
        return
    error = f"standard error {repair.kl_standard_error:.1g}"
    yield "held-out images", f"{repair.held_out}"
    yield "KL of predictions, before fine-tuning", f"{repair.kl:.3g} nats ({error})"
    yield "told alike", f"{repair.agreement:.1%}"
    if repair.accuracy_repaired is not None:
        yield "accuracy before fine-tuning", f"{repair.accuracy_original:.1f} % → {repair.accuracy_repaired:.1f} %"
    ends = f"{repair.predicted_loss_low:z.1f} to {repair.predicted_loss_high:z.1f}"
    interval = f"{ends} at {repair.predicted_loss_level:.0%}; at most {repair.max_loss:g} is legal"
    yield "predicted loss after fine-tuning", f"{repair.predicted_loss:z.1f} points, {interval}"
    borrowed = "" if repair.calibration_fits else " (of another network: the interval is borrowed)"
    yield "predicted by", f"{repair.calibration}{borrowed}"


def _layer_pictures(report: Report) -> dict[str, Markup | str]:
    timed = [each for each in report.layers if each.ms_before is not None]
    ms = [BeforeAfter(each.name, each.ms_before, each.ms_after) for each in timed]
    macs = [BeforeAfter(each.name, each.macs_before, each.macs_after) for each in report.layers]
    return {
        "layers_ms": draw_before_after(ms, "milliseconds of each layer") if ms else "",
        "layers_macs": draw_before_after(macs, "multiply-accumulates of each layer") if macs else "",
    }


def _measured_parts(measured: Measured | str) -> dict[str, Any]:
    """What the page shows of the networks' own times."""
    if isinstance(measured, str):
        return {"doubt": measured, "time": ""}
    result = measured.costs[RESULT]
    return {
        "time": draw_time(list(measured.costs.items())),
        "roofline": draw_roofline(measured.costs, measured.peak),
        "flow": draw_flow(result.edges, measured.target),
        "target": str(measured.target),
        "layers": result.layers,
        "edges": result.edges,
        "peak": measured.peak,
        "held_by": partial(held_by, target=measured.target),
    }


def _outcomes(report: Report) -> str:
    counts = Counter(verdict.outcome for verdict in report.details)
    told = ", ".join(f"{outcome} {count}" for outcome, count in counts.most_common())
    return f"{report.candidates} drawn" + (f": {told}" if told else "")
