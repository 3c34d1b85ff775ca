"""What a search found, in files and on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from loopmorph.pipelines.support.files import write_atomically
from loopmorph.pipelines.support.interrupts import held_interrupts, until_interrupted
from loopmorph.tools.joint_lines import joint_lines, joint_table
from loopmorph.tools.tuning_lines import tuning_lines

if TYPE_CHECKING:
    from loopmorph.pipelines.ingress.models import LoadedModel
    from loopmorph.pipelines.page.page import Measured
    from loopmorph.pipelines.search.job import Result
    from loopmorph.pipelines.search.report import RepairReport, Report
    from loopmorph.pipelines.search.variants.table import VariantTable
    from loopmorph.pipelines.support.progress import Progress

VARIANTS = "variants.json"
_LISTED = 6


def write_search(
    out: Path, result: Result, loaded: LoadedModel, seed: int, tell: Progress, known: Measured | None = None
) -> Measured | None:
    """Writes what a search found to the files of a folder that is there; no interrupt leaves one out.

    Args:
        out: the folder.
        result: what was found.
        loaded: the original network.
        seed: of its weights.
        tell: told how far the page's measurements have come.
        known: what was measured for the page of another result of the same search.

    Returns:
        What was measured for the page; None where that was not to be had.

    Raises:
        ArgumentError: a file cannot be written.
    """
    with held_interrupts():
        _write_results(out, result, loaded, seed)
        return _write_page(out / "report.html", result, tell, known)


def write_variants(out: Path, table: VariantTable) -> None:
    """Writes the table that networks were chosen from to a folder, as `loopmorph variants --out` does to a file.

    Raises:
        ArgumentError: the file cannot be written.
    """
    from loopmorph.pipelines.search.variants.table import table_text

    content = table_text(table).encode()
    write_atomically(out / VARIANTS, lambda file: file.write(content))


def _write_results(out: Path, result: Result, loaded: LoadedModel, seed: int) -> None:
    from loopmorph.pipelines.search.saved_model import save_model

    schedule = result.schedule
    write_atomically(out / "report.json", lambda file: file.write(result.report.to_json().encode()))
    write_atomically(out / "schedule.mlir", lambda file: file.write(schedule.encode()))
    write_atomically(out / "optimized.mlir", lambda file: file.write(str(result.program).encode()))
    write_atomically(
        out / "model.pt",
        lambda file: save_model(
            file, result.model, model=loaded.name, seed=seed, original=loaded.model, schedule=schedule
        ),
    )


def _write_page(path: Path, result: Result, tell: Progress, known: Measured | None) -> Measured | None:
    from loopmorph.pipelines.page.page import measured_or_why, render_page

    measured: Measured | str = "it was interrupted"
    with until_interrupted():
        measured = measured_or_why(result.program, result.report, result.target, tell, known)
    page = render_page(result.report, result.schedule, measured)
    write_atomically(path, lambda file: file.write(page.encode()))
    return None if isinstance(measured, str) else measured


def print_report(report: Report, out: Path | None) -> None:
    """Prints what a search found, on standard output, and the folder that it was written to."""
    console = Console()
    table = Table(title=f"{report.model}: layers that changed")
    table.add_column("layer", overflow="fold")
    table.add_column("transformations", overflow="fold")
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    for layer in report.layers:
        steps = "\n".join(_short(step, layer.name) for step in layer.transforms) or "follows another layer"
        times = "-" if layer.ms_before is None else f"{layer.ms_before:.3f} -> {layer.ms_after:.3f}"
        share = f"1/{layer.macs_before / layer.macs_after:.3g}" if layer.macs_after else "-"
        table.add_row(layer.name, steps, times, share)
    console.print(table)
    _print_search(console, report)
    if report.wrong:
        console.print(f"WRONG RESULTS {report.wrong}: code that differs from PyTorch was left out; please report it")
    if report.note:
        console.print(f"model: {report.note}", highlight=False)
    console.print(f"data: {report.data}")
    if report.loss != "cross-entropy":
        console.print(f"loss: {report.loss}", highlight=False)
    for line in legality_lines(report):
        console.print(line, highlight=False)
    console.print(f"MACs {report.macs_before:,} -> {report.macs_after:,}", highlight=False)
    console.print(f"parameters {report.parameters_before:,} -> {report.parameters_after:,}", highlight=False)
    if report.speedup is not None:
        console.print(
            f"time {report.baseline_ms:.2f} ms -> {report.optimized_ms:.2f} ms: speed-up {report.speedup:.2f}x, "
            f"largest difference from PyTorch {report.max_abs_error:.1e}"
        )
    for line in () if report.tuning is None else tuning_lines(report.tuning):
        console.print(line, highlight=False, markup=False)
    if report.inherited_error is not None:
        console.print(f"outputs with the inherited weights, before fine-tuning: {report.inherited_error:.1%} away")
    errors = list(report.inherited_errors.values())
    if len(errors) == 1 or len(set(errors)) > 1:  # otherwise it makes no difference
        tried = ", ".join(f"{way} {error:.1%}" for way, error in report.inherited_errors.items())
        console.print(f"weights inherited by {report.inherit}; tried: {tried}", highlight=False)
    if report.padded_channels:
        console.print(f"channels padded to the vector width: {'; '.join(report.padded_channels)}", highlight=False)
    if out is not None:
        console.print(
            f"written to {out}: report.html report.json schedule.mlir optimized.mlir model.pt", highlight=False
        )


def _print_search(console: Console, report: Report) -> None:
    """What was tried."""
    stopped = " (stopped early)" if report.interrupted else ""
    if report.joint is None:
        console.print(
            f"candidates {report.candidates}{stopped}: structure refused {report.rejected_structure}, "
            f"{_refused(report)}failed {report.failed}"
        )
        return
    console.print(joint_table(report.joint))
    for line in joint_lines(report.joint):
        console.print(line, highlight=False, markup=False)
    if stopped:
        console.print("stopped early")


def _refused(report: Report) -> str:
    score = report.scores.get(report.legality)
    return "" if score is None else f"{report.legality.capitalize()} refused {score.rejected}, "


def legality_lines(report: Report) -> list[str]:
    """By what a network was judged, and how that came out."""
    verdict = f"not judged, {report.doubt}" if report.legal is None else "legal" if report.legal else "NOT legal"
    lines = [f"legality by {report.legality}: {report.legality_reason}"]
    score = report.scores.get(report.legality)
    if report.repair.kl is not None:
        return [*lines, *_repair_lines(report.repair, verdict)]
    if score is not None and score.original is not None and score.optimized is not None:
        return [*lines, f"{score.title} {score.original:.6g} -> {score.optimized:.6g}: {verdict}"]
    return [*lines, verdict]


def _repair_lines(repair: RepairReport, verdict: str) -> list[str]:
    images = f"held-out images: {repair.held_out}"
    same = (
        f"KL {repair.kl:.3g} (standard error {repair.kl_standard_error:.1g}), {repair.agreement:.1%} of them told alike"
    )
    lines = [images, f"predictions there, before fine-tuning: {same}"]
    if repair.accuracy_repaired is not None:
        lines.append(f"accuracy there {repair.accuracy_original:.1f} % -> {repair.accuracy_repaired:.1f} %")
    loss = f"{repair.predicted_loss:z.1f} points, {repair.predicted_loss_low:z.1f} to {repair.predicted_loss_high:z.1f}"
    lines.append(f"predicted loss after fine-tuning: {loss} at {repair.predicted_loss_level:.0%}: {verdict}")
    fits = "of such a network" if repair.calibration_fits else "borrowed from another network: calibrate for your own"
    return [*lines, f"predicted by the calibration {repair.calibration}, {fits}"]


def _short(step: str, layer: str) -> str:
    """A step without what the row says already: `morph-group{layer=conv1 factor=2}` as `group factor=2`."""
    name, _, options = step.removeprefix("morph-").removesuffix("}").partition("{")
    return " ".join([name, *(_first_of(o) for o in options.split() if o != f"layer={layer}")])


def _first_of(option: str) -> str:
    """A long list by its beginning: `keep=0,3,4,...`."""
    items = option.split(",")
    return option if len(items) <= _LISTED else ",".join([*items[:_LISTED], "..."])
