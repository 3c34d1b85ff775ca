"""`loopmorph`: import a network as MLIR, search for a faster one, or measure it and its layers."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

import loopmorph
from loopmorph.passes.errors import LoopmorphError
from loopmorph.tools.bars import showing
from loopmorph.tools.cli_bench import bench_command
from loopmorph.tools.cli_catalogue import catalogue_command
from loopmorph.tools.cli_operators import operators_command

if TYPE_CHECKING:
    from loopmorph.pipelines.ingress.models import LoadedModel
    from loopmorph.pipelines.search.optimize import Progress as Tell
    from loopmorph.pipelines.search.optimize import Result
    from loopmorph.pipelines.search.report import Report

POSITIVE = click.IntRange(min=1)
_LISTED = 6


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(loopmorph.__version__, prog_name="loopmorph")
def cli() -> None:
    """Neural architecture search as program transformation, on MLIR loop nests.

    MODEL is a zoo name (resnet18, resnet34, resnext29_2x64d, densenet161, ...), package.module:factory, or a .pt2 file.
    """


@cli.command("import")
@click.argument("model")
@click.option("--stage", type=click.Choice(["linalg", "affine"]), default="affine", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead of to standard output.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the weights.")
def import_command(model: str, stage: str, output: Path | None, seed: int) -> None:
    """Print MODEL as MLIR; the weights stay outside, as named arguments."""
    from loopmorph.pipelines.ingress.importer import import_to_linalg
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.program import import_model
    from loopmorph.pipelines.search.report import write_atomically

    loaded = resolve_model(model, seed=seed)
    if stage == "linalg":
        text = str(import_to_linalg(loaded.model, loaded.example_inputs).module)
    else:
        text = str(import_model(loaded.model, loaded.example_inputs))
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        write_atomically(output, lambda file: file.write(text.encode()), argument="output")


@cli.command("optimize")
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="CIFAR-10 python batches, an image folder, or an .npz.")
@click.option("--candidates", type=POSITIVE, default=1000, show_default=True, help="Candidates to draw.")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads of the compiled code.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, candidates and images.")
@click.option("--batch-size", type=POSITIVE, default=64, show_default=True, help="Images for Fisher Potential.")
@click.option("--repeats", type=POSITIVE, default=1, show_default=True, help="Initialisations for Fisher Potential.")
@click.option("--tune", type=float, metavar="SECONDS", help="Tune original and result, for so long each.")
@click.option(
    "--inherit",
    type=click.Choice(["slice", "mean", "salient", "least-error"]),
    default="least-error",
    show_default=True,
    help="Old weights where channels go: the first ones', their mean, the most salient ones', or the best of these.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report, schedule, IR and weights.")
def optimize_command(
    model: str,
    data: Path | None,
    candidates: int,
    threads: int,
    seed: int,
    batch_size: int,
    repeats: int,
    tune: float | None,
    inherit: str,
    out: Path | None,
) -> None:
    """Search for a faster, Fisher-legal MODEL. Ctrl-C ends the search early and keeps what was found."""
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.search.optimize import optimize
    from loopmorph.pipelines.search.report import prepare_folder

    if out is not None:
        prepare_folder(out)
    loaded = resolve_model(model, seed=seed)
    with _progress() as tell:
        result = optimize(
            loaded.model,
            loaded.example_inputs,
            data,
            candidates=candidates,
            seed=seed,
            threads=threads,
            batch_size=batch_size,
            repeats=repeats,
            tune=tune,
            inherit=inherit,
            name=model,
            progress=tell,
        )
    if out is not None:
        _write_results(out, result, loaded, seed)
    _print_report(result.report, out)


cli.add_command(bench_command)
cli.add_command(operators_command)
cli.add_command(catalogue_command)


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar for each stage, on standard error, with the time that is left."""
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def tell(stage: str, done: int, of: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=of, rate="")
        task = tasks[stage]
        elapsed = bars.tasks[task].elapsed or 0.0
        rate = f"{elapsed / done:.1f} s each" if done else ""
        bars.update(task, completed=done, total=of, rate=rate)

    with showing(bars):
        yield tell


def _write_results(out: Path, result: Result, loaded: LoadedModel, seed: int) -> None:
    from loopmorph.pipelines.search.report import write_atomically
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
    stopped = " (stopped early)" if report.interrupted else ""
    console.print(
        f"candidates {report.candidates}{stopped}: structure refused {report.rejected_structure}, "
        f"Fisher refused {report.rejected_fisher}, failed {report.failed}"
    )
    console.print(f"data: {report.data}")
    if report.fisher_original is not None and report.fisher_optimized is not None:
        verdict = "legal" if report.legal else "NOT legal"
        console.print(f"Fisher Potential {report.fisher_original:.6g} -> {report.fisher_optimized:.6g}: {verdict}")
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


def _short(step: str, layer: str) -> str:
    """A step without what the row says already: `morph-group{layer=conv1 factor=2}` as `group factor=2`."""
    name, _, options = step.removeprefix("morph-").removesuffix("}").partition("{")
    return " ".join([name, *(_first_of(o) for o in options.split() if o != f"layer={layer}")])


def _first_of(option: str) -> str:
    """A long list by its beginning: `keep=0,3,4,...`."""
    items = option.split(",")
    return option if len(items) <= _LISTED else ",".join([*items[:_LISTED], "..."])


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 1 for an error, 2 for wrong usage, 130 for an interrupt."""
    warnings.filterwarnings("ignore")
    try:
        result = cli.main(args=list(args) if args is not None else None, prog_name="loopmorph", standalone_mode=False)
        return int(result or 0)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LoopmorphError as error:
        click.echo(f"error: {error}", err=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
