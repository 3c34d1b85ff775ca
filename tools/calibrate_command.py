"""`loopmorph calibrate`: what fine-tuning leaves of rewrites of a network, measured on the user's own data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from loopmorph.tools.bars import stage_bars
from loopmorph.tools.options import POSITIVE, SEEDS, trust_option

if TYPE_CHECKING:
    from loopmorph.pipelines.legality.calibration import Calibration


@click.command("calibrate")
@click.argument("model")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Labelled images: CIFAR-10 python batches, an image folder, or an .npz.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The calibration to write (.json); run again to go on.",
)
@click.option("--count", type=click.IntRange(3, 1024), default=32, show_default=True, help="Networks to fine-tune.")
@click.option("--epochs", type=POSITIVE, default=8, show_default=True, help="Epochs of each.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of networks, images and training.")
@click.option("--batch-size", type=POSITIVE, default=512, show_default=True, help="Images of a step.")
@click.option("--learning-rate", type=float, default=0.1, show_default=True, help="At the top of its cycle.")
@click.option("--no-flip", is_flag=True, help="Do not mirror images: digits, text.")
@click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1; by default a GPU when there is one.")
@trust_option
def calibrate_command(
    model: str,
    data: Path,
    out: Path,
    count: int,
    epochs: int,
    seed: int,
    batch_size: int,
    learning_rate: float,
    no_flip: bool,
    device: str | None,
    trust: bool,
) -> None:
    """Fine-tune random rewrites of a trained MODEL and keep what each loses, so that losses can be predicted.

    A run that was stopped goes on when the same command is given again, also with a greater --count.
    """
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.search.calibrate import calibrate
    from loopmorph.pipelines.training.recipe import FineTuning

    settings = FineTuning(epochs, batch_size, learning_rate, flip=not no_flip, seed=seed)
    settings.check()
    loaded = resolve_model(model, seed=seed, trust=trust)
    try:
        with stage_bars() as tell:
            calibration = calibrate(
                loaded.model,
                loaded.example_inputs,
                data,
                out,
                count=count,
                seed=seed,
                settings=settings,
                device=device,
                name=model,
                progress=tell,
            )
    except KeyboardInterrupt:
        click.echo("what was measured is kept; the same command goes on from there", err=True)
        raise
    _print_quality(calibration)
    click.echo(f"written to {out}")


def _print_quality(calibration: Calibration) -> None:
    quality, trained = calibration.quality(signals=calibration.untrained_signals), calibration.quality()
    table = Table(title=f"{calibration.provenance.network}: predicted for networks that were left out")
    table.add_column("figure")
    table.add_column("value", justify="right", no_wrap=True)
    rows = {
        "networks": f"{quality.networks}",
        "rank correlation with the measured loss": _decimal(quality.spearman),
        "the same at equal MACs": _decimal(quality.spearman_equal_macs),
        "both with the first steps of fine-tuning": " ".join(
            map(_decimal, (trained.spearman, trained.spearman_equal_macs))
        ),
        "mean error of the expected loss": f"{quality.error:.2f} points",
        "median error": f"{quality.median_error:.2f} points",
        f"measured losses inside the {quality.level:.0%} interval": f"{quality.coverage:.0%}",
        "median width of the interval": _points(quality.width),
        f"expected to lose more than {quality.limit:g} points": f"{quality.rejected}",
        "of these, those that do": "-" if quality.precision is None else f"{quality.precision:.0%}",
        f"sure to lose no more than {quality.limit:g} points": f"{quality.accepted}",
        "of these, those that do lose more": f"{quality.accepted_wrongly}",
    }
    for figure, value in rows.items():
        table.add_row(figure, value)
    Console().print(table)


def _points(width: float) -> str:
    return f"{width:.2f} points" if math.isfinite(width) else "unbounded: too few networks"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
