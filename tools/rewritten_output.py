"""`loopmorph bench --rewritten`: rewrites of a network in turns with it, and with other engines on it."""

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
    from loopmorph.pipelines.bench.rewritten import RewrittenResult


def run_rewritten(
    model: str,
    pipelines: Path,
    names: Sequence[str],
    *,
    peers: Sequence[str],
    threads: int,
    rounds: int,
    seed: int,
    trust: bool,
    json_path: Path | None,
) -> None:
    """Measures, prints and writes.

    Raises:
        LoopmorphError: what `bench_rewritten` refuses.
    """
    from loopmorph.pipelines.bench.rewritten import bench_rewritten, read_pipelines

    texts = read_pipelines(pipelines, names)
    with stage_bars() as tell:
        found = bench_rewritten(
            model,
            texts,
            peers=peers,
            threads=threads,
            rounds=rounds,
            seed=seed,
            trust=trust,
            progress=tell,
        )
    _print(found)
    write_results(json_path, found.to_json)


def _print(found: RewrittenResult) -> None:
    console = Console(highlight=False)
    threads = f"{found.threads} thread{'s'[: found.threads > 1]}"
    console.print(escape(f"{found.model}, {threads} of {found.cpu}, {found.rounds} rounds"), soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in ("network", "engine"):
        table.add_column(heading)
    for heading in ("median ms", "times as fast", "rel. error", "M MACs", "M parameters"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.rows:
        sizes = f"{row.macs / 1e6:.1f}", f"{row.parameters / 1e6:.2f}"
        figures = f"{row.median_ms:.3f}", f"{row.speedup:.2f}", f"{row.relative_error:.1e}"
        table.add_row(escape(row.name), row.engine, *figures, *sizes)
    console.print(table)
    for each in found.missing:
        console.print(f"{each.name}: not run: {escape(each.reason)}", soft_wrap=True)
