"""`loopmorph optimize`: a faster network that stays legal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopmorph.passes.errors import LoopmorphError
from loopmorph.pipelines.support.files import prepare_folder
from loopmorph.tools.live import search_view
from loopmorph.tools.options import POSITIVE, SEEDS, trust_option
from loopmorph.tools.search_output import VARIANTS, print_report, write_search, write_variants

if TYPE_CHECKING:
    from loopmorph.pipelines.page.page import Measured
    from loopmorph.pipelines.search.job import Result


@click.command("optimize")
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="CIFAR-10 python batches, an image folder, or an .npz.")
@click.option("--candidates", type=POSITIVE, default=1000, show_default=True, help="Candidates to draw.")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads of the compiled code.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights, candidates and images.")
@click.option("--batch-size", type=POSITIVE, default=64, show_default=True, help="Images for Fisher Potential.")
@click.option("--repeats", type=POSITIVE, default=1, show_default=True, help="Initialisations for Fisher Potential.")
@click.option(
    "--tune",
    type=float,
    metavar="SECONDS",
    help="Tune original and result, for so long each; of --target-speedup and the like, all networks that are timed.",
)
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
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="Judge uniform, greedy and random choices beside it, which takes a while for a large network.",
)
@click.option(
    "--variants", type=POSITIVE, show_default="48", help="Variants of each block or layer that such a choice tries."
)
@click.option("--max-parameters", type=POSITIVE, help="The most parameters of such a choice.")
@click.option("--max-memory", type=POSITIVE, metavar="BYTES", help="The most bytes of activations of such a choice.")
@click.option("--target", metavar="NAME", help="The processor to optimise for; see 'loopmorph target'.")
@click.option(
    "--study", type=click.Path(path_type=Path), help="Keep what is tried in an Optuna study: FILE.log or FILE.db."
)
@click.option("--study-name", metavar="NAME", help="A further study in that file; MODEL's name by default.")
@click.option("--jobs", type=POSITIVE, default=1, show_default=True, help="Processes that judge.")
@click.option("--cluster", metavar="ADDRESS", help="Dask scheduler whose workers judge: tcp://host:8786.")
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
    baselines: bool,
    variants: int | None,
    max_parameters: int | None,
    max_memory: int | None,
    target: str | None,
    study: Path | None,
    study_name: str | None,
    jobs: int,
    cluster: str | None,
    out: Path | None,
    loss: str | None,
    trust: bool,
) -> None:
    """Search for a faster MODEL that stays legal. Ctrl-C ends the search early and keeps what was found.

    Once more, it ends what comes after the search; the best network that is known by then is written.
    """
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
        baselines=baselines,
        max_parameters=max_parameters,
        max_memory=max_memory,
        study=study,
        study_name=study_name,
        jobs=jobs,
        cluster=cluster,
    )
    if variants is not None:
        settings = dataclasses.replace(settings, variants=variants)
    settings.check_with(target_speedups)
    folders = _folders(out, target_speedups)
    loaded = resolve_model(model, seed=seed, trust=trust)
    settings = dataclasses.replace(settings, note=loaded.note)
    network = loaded.model, loaded.example_inputs, data
    results: list[Result] = []
    measured: Measured | None = None
    with search_view() as view:
        found: Iterable[Result]
        if target_speedups:
            found = optimize_points(
                *network,
                target_speedups,
                seed=seed,
                threads=threads,
                settings=settings,
                loss=loss,
                progress=view.tell,
                watch=view.watch,
            )
        else:
            result = optimize(
                *network,
                candidates=candidates,
                seed=seed,
                threads=threads,
                settings=settings,
                loss=loss,
                progress=view.tell,
                watch=view.watch,
            )
            found = [result]
        for result, folder in zip(found, folders, strict=False):  # an interrupt leaves the last ones out
            if out is not None and result.table is not None and not results:  # one table for all of them
                write_variants(out, result.table)
            results.append(result)
            if folder is not None:
                measured = write_search(folder, result, loaded, seed, view.tell, measured) or measured
    for result, folder in zip(results, folders, strict=False):
        print_report(result.report, folder)
    if out is not None and any(result.table is not None for result in results):
        click.echo(f"the variants that were chosen from are written to {out / VARIANTS}")
    if len(results) < len(folders):
        click.echo(f"interrupted: {len(folders) - len(results)} more speed-ups were not searched for")
    failed = [result.report.failure for result in results if result.report.failure]
    if failed:
        raise LoopmorphError(f"{len(failed)} of {len(results)} results could not be measured whole: {failed[0]}")


def _folders(out: Path | None, speedups: Sequence[float]) -> list[Path | None]:
    """Where each result goes: one to the folder, several to folders of their own in it, as `4x`."""
    names = [f"{speedup:g}x" for speedup in speedups]
    folders = [out] if len(names) < 2 else [None if out is None else out / name for name in names]
    for folder in folders:
        if folder is not None:
            prepare_folder(folder)
    return folders
