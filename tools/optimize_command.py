"""`loopmorph optimize`: a faster network that stays legal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from loopmorph.pipelines.support.files import prepare_folder, write_atomically
from loopmorph.tools.bars import stage_bars
from loopmorph.tools.joint_lines import joint_lines, joint_table
from loopmorph.tools.options import SEEDS, trust_option

if TYPE_CHECKING:
    from loopmorph.pipelines.ingress.models import LoadedModel
    from loopmorph.pipelines.search.job import Result
    from loopmorph.pipelines.search.report import RepairReport, Report

POSITIVE = click.IntRange(min=1)
_LISTED = 6


@click.command("optimize")
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="CIFAR-10 python batches, an image folder, or an .npz.")
@click.option("--candidates", type=POSITIVE, default=1000, show_default=True, help="Candidates to draw.")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads of the compiled code.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights, candidates and images.")
@click.option("--batch-size", type=POSITIVE, default=64, show_default=True, help="Images for Fisher Potential.")
@click.option("--repeats", type=POSITIVE, default=1, show_default=True, help="Initialisations for Fisher Potential.")
@click.option("--tune", type=float, metavar="SECONDS", help="Tune original and result, for so long each.")
@click.option(
    "--inherit",
    type=click.Choice(["slice", "mean", "salient", "least-squares", "least-error", "repair"]),
    show_default="repair for a trained model with --data, else least-error",
    help="Old weights where channels go: the first ones', their mean, the most salient ones', the best of these, those "
    "that their readers can best be restored from; or (repair) all weights fitted to the original.",
)
@click.option("--repair-images", type=POSITIVE, default=512, show_default=True, help="Images for --inherit repair.")
@click.option(
    "--legality",
    type=click.Choice(["fisher", "repair", "none"]),
    show_default="repair for a trained model with --data, else fisher",
    help="By what networks are judged: their Fisher Potential; what repaired ones are predicted to lose; or nothing.",
)
@click.option(
    "--max-loss",
    type=float,
    metavar="POINTS",
    default=1.0,
    show_default=True,
    help="Accuracy that may be lost after fine-tuning, for --legality repair.",
)
@click.option(
    "--calibration", type=click.Path(path_type=Path), help="What predicts that loss, of 'loopmorph calibrate'."
)
@click.option(
    "--held-out", type=POSITIVE, default=1000, show_default=True, help="Images that repaired networks are judged on."
)
@click.option(
    "--target-speedup",
    "target_speedups",
    type=float,
    multiple=True,
    metavar="TIMES",
    help="Choose all layers at once, for so many times the speed at the least loss; given several times, each result "
    "goes to a folder of its own under --out.",
)
@click.option("--target-ms", type=float, metavar="MS", help="The same, for so many milliseconds.")
@click.option(
    "--seconds",
    type=float,
    help="Go on improving such a choice for so long; by default as long as it gets better. Without a target: the "
    "fastest network within --max-loss.",
)
@click.option(
    "--variants", type=POSITIVE, show_default="48", help="Variants of each block or layer that such a choice tries."
)
@click.option("--max-parameters", type=POSITIVE, help="The most parameters of such a choice.")
@click.option("--max-memory", type=POSITIVE, metavar="BYTES", help="The most bytes of activations of such a choice.")
@click.option("--target", metavar="NAME", help="The processor to optimise for; see 'loopmorph target'.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report, schedule, IR and weights.")
@click.option(
    "--loss", metavar="MODULE:FUNCTION", help="The loss, of outputs and targets, where MODEL is no classifier."
)
@trust_option
def optimize_command(
    model: str,
    data: Path | None,
    candidates: int,
    threads: int,
    seed: int,
    batch_size: int,
    repeats: int,
    tune: float | None,
    inherit: str | None,
    repair_images: int,
    legality: str | None,
    max_loss: float,
    calibration: Path | None,
    held_out: int,
    target_speedups: tuple[float, ...],
    target_ms: float | None,
    seconds: float | None,
    variants: int | None,
    max_parameters: int | None,
    max_memory: int | None,
    target: str | None,
    out: Path | None,
    loss: str | None,
    trust: bool,
) -> None:
    """Search for a faster MODEL that stays legal. Ctrl-C ends the search early and keeps what was found."""
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.search.optimize import optimize, optimize_points
    from loopmorph.pipelines.search.settings import SearchSettings

    settings = SearchSettings(
        batch_size,
        repeats,
        tune,
        inherit,
        repair_images,
        model,
        target=target,
        legality=legality,
        max_loss=max_loss,
        calibration=calibration,
        held_out=held_out,
        target_ms=target_ms,
        seconds=seconds,
        max_parameters=max_parameters,
        max_memory=max_memory,
    )
    if variants is not None:
        settings = dataclasses.replace(settings, variants=variants)
    settings.check_with(target_speedups)
    folders = _folders(out, target_speedups)
    loaded = resolve_model(model, seed=seed, trust=trust)
    settings = dataclasses.replace(settings, note=loaded.note)
    network = loaded.model, loaded.example_inputs, data
    results = []
    with stage_bars() as tell:
        found: Iterable[Result]
        if target_speedups:
            found = optimize_points(
                *network, target_speedups, seed=seed, threads=threads, settings=settings, loss=loss, progress=tell
            )
        else:
            result = optimize(
                *network,
                candidates=candidates,
                seed=seed,
                threads=threads,
                settings=settings,
                loss=loss,
                progress=tell,
            )
            found = [result]
        for result, folder in zip(found, folders, strict=False):  # an interrupt leaves the last ones out
            results.append(result)
            if folder is not None:
                _write_results(folder, result, loaded, seed)
    for result, folder in zip(results, folders, strict=False):
        _print_report(result.report, folder)
    if len(results) < len(folders):
        click.echo(f"interrupted: {len(folders) - len(results)} more speed-ups were not searched for")


def _folders(out: Path | None, speedups: Sequence[float]) -> list[Path | None]:
    """Where each result goes: one to the folder, several to folders of their own in it, as `4x`."""
    names = [f"{speedup:g}x" for speedup in speedups]
    folders = [out] if len(names) < 2 else [None if out is None else out / name for name in names]
    for folder in folders:
        if folder is not None:
            prepare_folder(folder)
    return folders


def _write_results(out: Path, result: Result, loaded: LoadedModel, seed: int) -> None:
    from loopmorph.pipelines.search.saved_model import save_model

    schedule = result.schedule
    write_atomically(out / "report.json", lambda file: file.write(result.report.to_json().encode()))
    write_atomically(out / "schedule.mlir", lambda file: file.write(schedule.encode()))
    write_atomically(out / "optimized.mlir", lambda file: file.write(str(result.program).encode()))
    write_atomically(
        out / "model.pt",
        lambda file: save_model(file, result.model, model=loaded.name, seed=seed, schedule=schedule),
    )


def _print_report(report: Report, out: Path | None) -> None:
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
    if report.inherited_error is not None:
        console.print(f"outputs with the inherited weights, before fine-tuning: {report.inherited_error:.1%} away")
    errors = list(report.inherited_errors.values())
    if len(errors) == 1 or len(set(errors)) > 1:  # otherwise it makes no difference
        tried = ", ".join(f"{way} {error:.1%}" for way, error in report.inherited_errors.items())
        console.print(f"weights inherited by {report.inherit}; tried: {tried}", highlight=False)
    if report.padded_channels:
        console.print(f"channels padded to the vector width: {'; '.join(report.padded_channels)}", highlight=False)
    if out is not None:
        console.print(f"written to {out}: report.json schedule.mlir optimized.mlir model.pt", highlight=False)


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
