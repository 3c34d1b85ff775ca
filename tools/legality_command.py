"""`loopmorph legality`: what is known of rewrites of a trained network before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.support.files import check_writable
from loopmorph.tools.bars import stage_bars
from loopmorph.tools.options import POSITIVE, SEEDS, trust_option
from loopmorph.tools.written import write_results

if TYPE_CHECKING:
    from loopmorph.pipelines.legality.proxy import Score
    from loopmorph.pipelines.search.legality import LegalityResult, WholeFigures

_FIRST = 24  # columns that a row's name gets at least
_MOST_BYTES = 16 << 20  # of a schedule


@click.command("legality")
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="CIFAR-10 python batches, an image folder, or an .npz.")
@click.option("--schedule", type=click.Path(path_type=Path), help="Measure this rewrite (.mlir), layer by layer, too.")
@click.option("--candidates", type=POSITIVE, help="Or measure so many random rewrites of one layer each.")
@click.option("--signals", metavar="LIST", help="Signals, separated by commas; 'legality-bench signals' lists them.")
@click.option("--images", type=POSITIVE, default=256, show_default=True, help="One half is repaired on, one measured.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights, candidates and images.")
@click.option("--repeats", type=POSITIVE, default=1, show_default=True, help="Seeds of signals at initialisation.")
@click.option(
    "--calibration",
    "calibration_path",
    type=click.Path(path_type=Path),
    help="What 'loopmorph calibrate' wrote; by default the one that comes with loopmorph.",
)
@click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1; by default a GPU when there is one.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the calibration with the schedule's place (PNG).")
@click.option(
    "--loss", metavar="MODULE:FUNCTION", help="The loss, of outputs and targets, where MODEL is no classifier."
)
@trust_option
def legality_command(
    model: str,
    data: Path | None,
    schedule: Path | None,
    candidates: int | None,
    signals: str | None,
    images: int,
    seed: int,
    repeats: int,
    calibration_path: Path | None,
    device: str | None,
    json_path: Path | None,
    plot: Path | None,
    loss: str | None,
    trust: bool,
) -> None:
    """Measure signals of rewrites of a trained MODEL, side by side.

    A rewrite's blocks are repaired from the trained weights, and then compared with the original's. Ctrl-C ends the
    measuring and prints what there is.
    """
    check_writable("json", json_path)
    check_writable("plot", plot)
    if plot is not None:
        from loopmorph.pipelines.support.plotting import require_matplotlib

        require_matplotlib()
        if schedule is None:
            raise ArgumentError("plot", "the picture shows where one rewrite lies; give it with --schedule")
    from loopmorph.pipelines.ingress.models import resolve_function, resolve_model
    from loopmorph.pipelines.search.legality import legality

    text = None if schedule is None else _read(schedule)
    loaded = resolve_model(model, seed=seed, trust=trust)
    with stage_bars() as tell:
        result = legality(
            loaded.model,
            loaded.example_inputs,
            data,
            schedule=text,
            candidates=candidates,
            signals=None if signals is None else signals.split(","),
            images=images,
            seed=seed,
            repeats=repeats,
            calibration=calibration_path,
            loss=None if loss is None else resolve_function("loss", loss),
            device=device,
            name=model,
            progress=tell,
        )
    _print(result)
    write_results(json_path, result.to_json, plot, lambda: _picture(result))


def _read(path: Path) -> str:
    """The text of a schedule.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB; a schedule is expected")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text; a schedule is expected") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not text.strip():
        raise DataError(f"{path}: is empty; a schedule is expected")
    return text


def _picture(result: LegalityResult) -> bytes:
    """
    Raises:
        ArgumentError: nothing was measured that could be drawn.
    """
    from loopmorph.pipelines.bench.calibration_plot import calibration_plot

    if result.whole is None:
        reason = "it was stopped" if result.interrupted else "the model gives no logits"
        raise ArgumentError("plot", f"{reason}, so that there is no joint KL to draw")
    whole = result.whole
    return calibration_plot(whole.calibration, "kl", whole.kl.value, whole.predicted, result.model)


def _print(result: LegalityResult) -> None:
    console = Console(highlight=False)
    stopped = " (stopped early)" if result.interrupted else ""
    half = result.images - result.images // 2
    about = f"{result.model}: {result.data}; measured on {half}, repaired on the others{stopped}"
    console.print(escape(about), soft_wrap=True)
    if result.doubt:
        console.print(escape(f"doubtful: {result.doubt}"), soft_wrap=True)
    for name, why in result.missing.items():
        console.print(escape(f"{name}: not measured: {why}"), soft_wrap=True)
    table = _table("signals, with standard errors", result.signals, "steps")
    for rewrite in result.rewrites:
        if not rewrite.refused:
            table.add_row(
                escape("\n".join(step.removeprefix("morph-") for step in rewrite.steps)),
                *_cells(rewrite.scores, result.signals),
            )
    console.print(table)
    for rewrite in result.rewrites:
        if rewrite.refused:
            console.print(escape(f"{','.join(rewrite.steps)}: not measured: {rewrite.refused}"), soft_wrap=True)
    if result.blocks:
        names = tuple(result.blocks[0].scores)
        blocks = _table("blocks, each alone", names, "block")
        for block in result.blocks:
            blocks.add_row(escape(block.path or "the whole network"), *_cells(block.scores, names))
        console.print(blocks)
    if result.layers:
        layers = _table("relative residual of layers, before and after repair", ("before", "after"), "layer")
        layers.add_column("note")
        for layer in result.layers:
            layers.add_row(escape(layer.name), _number(layer.before), _number(layer.after), escape(layer.note))
        console.print(layers)
    if result.whole is not None:
        _print_whole(console, result.whole)


def _print_whole(console: Console, whole: WholeFigures) -> None:
    console.print(f"the whole network, repaired, on {whole.images} held-out images:")
    console.print(f"  KL {_scored(whole.kl)}, predictions as the original's {whole.agreement:.1%}")
    if whole.accuracy is not None and whole.accuracy_original is not None:
        before = f"{whole.accuracy_original:.1%} -> {whole.accuracy:.1%}"
        console.print(f"  accuracy before fine-tuning {before}")
    about = whole.calibration.provenance
    console.print(
        escape(f"  predicted loss of accuracy after {about.epochs} epochs: {whole.predicted}"), soft_wrap=True
    )
    borrowed = " is of another network, so that the interval is borrowed" if whole.borrowed else " fits"
    console.print(escape(f"  the calibration, {about.network} on {about.data},{borrowed}"), soft_wrap=True)


def _table(title: str, columns: Sequence[str], first: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold", min_width=_FIRST)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(scores: Mapping[str, Score], names: Sequence[str]) -> list[str]:
    """A value a cell, its standard error below it."""
    return [_scored(scores[name], "\n") if name in scores else "-" for name in names]


def _scored(score: Score, between: str = " ") -> str:
    """A value with its standard error, where it has one."""
    if score.error == 0 or not math.isfinite(score.value):
        return _number(score.value)
    return f"{_number(score.value)}{between}±{score.error:.2g}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 1000 else f"{value:.3g}"
