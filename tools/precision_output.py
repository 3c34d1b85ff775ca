"""`loopmorph bench --precision`: a network in reduced precisions of OpenVINO, beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loopmorph.tools.bars import stage_bars
from loopmorph.tools.written import write_results

if TYPE_CHECKING:
    from loopmorph.pipelines.bench.precision import PrecisionResult


def run_precisions(
    model: str,
    precisions: Sequence[str],
    *,
    data: Path | None,
    weights: Path | None,
    threads: int,
    rounds: int,
    images: int,
    seed: int,
    trust: bool,
    json_path: Path | None,
) -> None:
    """Measures, prints and writes.

    Raises:
        LoopmorphError: what `bench_precisions` refuses.
    """
    from loopmorph.pipelines.bench.precision import bench_precisions

    with stage_bars() as tell:
        found = bench_precisions(
            model,
            precisions,
            data=data,
            weights=weights,
            threads=threads,
            rounds=rounds,
            images=images,
            seed=seed,
            trust=trust,
            progress=tell,
        )
    _print(found)
    write_results(json_path, found.to_json)


def _print(found: PrecisionResult) -> None:
    console = Console(highlight=False)
    threads = f"{found.threads} thread{'s'[: found.threads > 1]}"
    console.print(escape(f"{found.model}, {threads} of {found.cpu}, {found.rounds} rounds"), soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("engine", no_wrap=True)
    for heading in ("precision", "median ms", "speed over ours", "accuracy, %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.rows:
        accuracy = "-" if row.right is None else f"{100 * row.right / found.images:.2f}"
        table.add_row(row.engine, row.precision, f"{row.median_ms:.3f}", f"{row.speedup:.2f}", accuracy)
    console.print(table)
    if found.images:
        quantised = f"; int8 quantised by {found.calibration} others" if found.calibration else ""
        console.print(escape(f"accuracy of {found.images:,} images ({found.data}){quantised}"), soft_wrap=True)
    for row in found.rows:
        if row.note:
            console.print(escape(f"{row.engine} {row.precision}: {row.note}"), soft_wrap=True)
