"""`loopmorph legality-bench`: how well signals rank networks whose accuracy is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loopmorph.pipelines.support.files import check_writable
from loopmorph.tools.bars import stage_bars
from loopmorph.tools.options import SEEDS, cells_option, trust_option

if TYPE_CHECKING:
    from loopmorph.pipelines.bench.rank_table import RankTable
    from loopmorph.pipelines.bench.signal_bench import SignalsFound

Published = Mapping[str, tuple[float | None, float]]


@click.group("legality-bench")
def legality_bench_command() -> None:
    """Compare signals with the accuracy that training gave: rank correlation over all networks, and at equal MACs."""


@legality_bench_command.command("signals")
def signals_command() -> None:
    """List the signals: what they are, who has defined them, and what they cost for one network."""
    from loopmorph.pipelines.legality.signals import TRAINED_SIGNALS, all_signals

    for name, entry in [*all_signals().items(), *TRAINED_SIGNALS.items()]:
        click.echo(f"{name}: {entry.summary} ({entry.source}). Cost: {entry.cost}.")


@legality_bench_command.command("nasbench201")
@cells_option
@click.option("--data", type=click.Path(path_type=Path), help="CIFAR-10 images; synthetic ones without.")
@click.option("--count", type=int, help="Number of cells, chosen by the seed; all by default.")
@click.option("--images", type=int, default=64, show_default=True, help="Images in the minibatch.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights, images and choice of cells.")
@click.option(
    "--signals",
    metavar="LIST",
    default="fisher,fisher-weights,jacov,naswot,synflow,macs,params",
    show_default=True,
    help="Signals, separated by commas.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Append a JSON line a cell here; what it has is not measured again.",
)
def nasbench201_command(
    cells: Path, data: Path | None, count: int | None, images: int, seed: int, signals: str, out: Path | None
) -> None:
    """Measure signals of cells of NAS-Bench-201 at initialisation, beside the published figures.

    Ctrl-C ends the measuring and prints what was found.
    """
    check_writable("out", out)
    from loopmorph.pipelines.bench.nasbench201 import PUBLISHED, NASBench201Bench
    from loopmorph.pipelines.bench.rank_table import rank_table
    from loopmorph.pipelines.bench.signal_bench import measure_signals
    from loopmorph.pipelines.bench.signal_rows import RowFile
    from loopmorph.pipelines.legality.signals import parse_signals
    from loopmorph.pipelines.zoo.nasbench201 import has_no_idle_operation

    names = parse_signals(signals)
    bench = NASBench201Bench(cells, data, count=count, images=images, seed=seed)
    file = RowFile(out, bench.setting)
    with stage_bars() as tell:
        found = measure_signals(bench.networks, names, file, tell)
    console = Console(highlight=False)
    about = f"NAS-Bench-201: {bench.batch.source}; seed {seed}. Spearman's rank correlation with the accuracy"
    console.print(escape(f"{about} on CIFAR-10:"), soft_wrap=True)
    working = [row for row in found.rows if has_no_idle_operation(row.network)]
    _print(console, "all cells", rank_table(found.rows, names), {})
    _print(console, "cells without idle operations, as published", rank_table(working, names), PUBLISHED)
    _print_rest(console, found, out)


@legality_bench_command.command("space")
@click.argument("model")
@click.option(
    "--rows",
    required=True,
    type=click.Path(path_type=Path),
    help="Rewrites: JSON lines with idx, spec (two operators and a bottleneck a block) and acc.",
)
@click.option("--weights", type=click.Path(path_type=Path), help="MODEL's trained weights: a .pt file or its pieces.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="CIFAR-10, an image folder, or an .npz.")
@click.option("--count", type=int, help="Number of networks; all by default.")
@click.option("--images", type=int, default=512, show_default=True, help="Images to repair on.")
@click.option("--held-out", type=int, default=1000, show_default=True, help="Other images to compare on.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of the images and of fresh weights.")
@click.option("--signals", metavar="LIST", default="kl,macs,params", show_default=True, help="Separated by commas.")
@click.option("--out", type=click.Path(path_type=Path), help="Append a JSON line a network; what it has is kept.")
@trust_option
def space_command(
    model: str,
    rows: Path,
    weights: Path | None,
    data: Path,
    count: int | None,
    images: int,
    held_out: int,
    seed: int,
    signals: str,
    out: Path | None,
    trust: bool,
) -> None:
    """Measure signals of rewrites of a trained MODEL whose accuracy after training is known.

    Ctrl-C ends the measuring and prints what was found.
    """
    check_writable("out", out)
    from loopmorph.pipelines.bench.rank_table import rank_table
    from loopmorph.pipelines.bench.signal_bench import measure_signals
    from loopmorph.pipelines.bench.signal_rows import RowFile
    from loopmorph.pipelines.bench.space import SpaceBench
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.ingress.state import load_state
    from loopmorph.pipelines.legality.signals import parse_signals

    names = parse_signals(signals, trained=True)
    loaded = resolve_model(model, seed=seed, trust=trust)
    if weights is not None:
        load_state(loaded.model, weights)
    (example,) = loaded.example_inputs
    bench = SpaceBench(rows, loaded.model, example, data, images=images, held_out=held_out, count=count, seed=seed)
    file = RowFile(out, bench.setting)
    with stage_bars() as tell:
        found = measure_signals(bench.networks, names, file, tell)
    console = Console(highlight=False)
    about = f"Rewrites of {loaded.name}; {bench.source}; seed {seed}. Spearman's rank correlation with the accuracy:"
    console.print(escape(about), soft_wrap=True)
    _print(console, "rewrites", rank_table(bench.ranked(found.rows), names), {})
    _print_rest(console, found, out)


def _print(console: Console, what: str, table: RankTable, published: Published) -> None:
    equal = f"{table.in_classes} of them in {table.classes} classes of equal MACs"
    console.print(f"\n{table.networks} {what}; {equal}", soft_wrap=True)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("signal", no_wrap=True)
    for heading in (
        "all",
        "+-",
        "equal MACs",
        "given MACs",
        *(("published", "equal FLOPs") if published else ()),
        "no value",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    for rank in table.ranks:
        quoted = [_number(value) for value in published.get(rank.signal, (None, None))] if published else []
        ours = tuple(map(_number, (rank.overall, rank.error, rank.within, rank.partial)))
        shown.add_row(rank.signal, *ours, *quoted, str(rank.without or ""))
    console.print(shown)


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def _print_rest(console: Console, found: SignalsFound, out: Path | None) -> None:
    for name, reason in found.failed.items():
        console.print(escape(f"{name}: failed: {reason}"), soft_wrap=True)
    if found.interrupted:
        how = "the same command goes on" if out is not None else "with --out it could be taken up again"
        console.print(f"stopped early; {how}")
    if out is not None:
        console.print(escape(f"rows: {out}"), soft_wrap=True)
