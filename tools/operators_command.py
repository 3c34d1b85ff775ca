"""`loopmorph operators`: what each operator makes of each layer of a network."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loopmorph.pipelines.support.files import check_writable
from loopmorph.tools.bars import one_bar
from loopmorph.tools.options import SEEDS, trust_option
from loopmorph.tools.written import write_results

if TYPE_CHECKING:
    from loopmorph.pipelines.bench.operators_result import LayerOperators, OperatorRow, OperatorsResult


@click.command("operators")
@click.argument("model")
@click.option(
    "--schedules",
    metavar="LIST",
    help="Operators, separated by commas: group-2, depthwise, bottleneck-2, seq2, 'seq2{u=8 g=4}', ...; default: all.",
)
@click.option("--layers", metavar="LIST", help="Layers, separated by commas; all contractions by default.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of compiled code.")
@click.option(
    "--algorithm",
    type=click.Choice(["auto", "direct"]),
    default="auto",
    show_default=True,
    help="auto: by Winograd where that is faster by the model; direct: never.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a picture here (PNG).")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of the weights.")
@trust_option
def operators_command(
    model: str,
    schedules: str | None,
    layers: str | None,
    threads: int,
    algorithm: str,
    json_path: Path | None,
    plot: Path | None,
    seed: int,
    trust: bool,
) -> None:
    """Compare operators on each distinct contraction layer of MODEL: legal or refused, work, parameters and time.

    Ratios are the original layer's figure over the rewritten one's. What is timed has been checked against PyTorch.
    Ctrl-C ends the measuring and keeps what was found.
    """
    check_writable("json", json_path)
    check_writable("plot", plot)
    from loopmorph.pipelines.bench.operator_list import operators, parse_operators
    from loopmorph.pipelines.bench.operators import compare_operators

    chosen = parse_operators(schedules) if schedules is not None else list(operators().values())
    names = [name for name in re.split(r"\s*,\s*", (layers or "").strip()) if name]
    if plot is not None:
        from loopmorph.pipelines.support.plotting import require_matplotlib

        require_matplotlib()
    with one_bar() as tell:
        result = compare_operators(
            model, chosen, layers=names, threads=threads, algorithm=algorithm, seed=seed, trust=trust, progress=tell
        )
    _print(result)
    write_results(json_path, result.to_json, plot, lambda: _picture(result))


def _picture(result: OperatorsResult) -> bytes:
    from loopmorph.pipelines.bench.operators_plot import speedups

    return speedups(result)


def _print(result: OperatorsResult) -> None:
    console = Console(highlight=False)
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    code = "direct code only" if result.algorithm == "direct" else "each by the algorithm that the model prefers"
    console.print(f"{escape(result.model)} on {result.cpu}, {threads}; {code}. Ratios: original / rewritten.")
    for layer in result.layers:
        _print_layer(console, layer)
    if result.paper:
        _print_paper(console, result)
    if result.interrupted:
        console.print("stopped early: what was not measured is missing")


def _print_layer(console: Console, layer: LayerOperators) -> None:
    title = f"{layer.name}: {layer.shape}; {layer.macs / 1e6:.2f} M MACs, {layer.parameters:,} parameters"
    console.print(f"\n{escape(title)}", soft_wrap=True)
    console.print(_original(layer))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("operator", no_wrap=True)
    for heading in ("MACs", "param.", "time", "us", "GFLOP/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("algorithm")
    for row in layer.rows:
        if row.outcome == "timed":
            table.add_row(escape(row.operator), *_figures(row), row.algorithm)
    if table.row_count:
        console.print(table)
    for row in layer.rows:
        if row.outcome != "timed":
            console.print(escape(f"  {row.operator}: {row.outcome}: {row.reason}"), soft_wrap=True)


def _original(layer: LayerOperators) -> str:
    """The original's time, which every operator was sampled in turns with: the median of these."""
    timed = [row for row in layer.rows if row.ms_before is not None and row.gflops_before is not None]
    if not timed:
        return f"original: {layer.algorithm}"
    ms = median(row.ms_before or 0.0 for row in timed)
    gflops = median(row.gflops_before or 0.0 for row in timed)
    return f"original: {_us(ms)} us, {gflops:.1f} GFLOP/s, {layer.algorithm}"


def _figures(row: OperatorRow) -> list[str]:
    ratios = [row.mac_ratio, row.parameter_ratio, row.speedup]
    time = "-" if row.ms_after is None else _us(row.ms_after)
    rate = "-" if row.gflops_after is None else f"{row.gflops_after:.1f}"
    return [*("-" if value is None else f"{value:.2f}" for value in ratios), time, rate]


def _us(ms: float) -> str:
    return f"{1e3 * ms:.2f}" if ms < 0.1 else f"{1e3 * ms:.0f}"


def _print_paper(console: Console, result: OperatorsResult) -> None:
    title = "speed-up in Turner et al., ASPLOS 2021, Fig. 6 (Core i7, over TVM) / here"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("layer")
    for operator in result.paper[0].paper:
        table.add_column(operator, justify="right", no_wrap=True)
    for row in result.paper:
        cells = []
        for operator, theirs in row.paper.items():
            ours = row.ours[operator]
            cells.append(f"{theirs:.2f} / {'-' if ours is None else f'{ours:.2f}'}")
        table.add_row(str(row.index), row.layer or "none here", *cells)
    console.print(table)
