"""Many random compositions of transformations, with a table of what became of them.

A number is one case, whatever else is run:

    PYTHONPATH=. python test/e2e/random_compositions.py --cases 2000 --seed 0 --jobs 1 --json FILE
"""

from __future__ import annotations

import json
import queue
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "unit"))

import click
from case_runner import Report, Runner
from compositions import shape_of
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

SHOWN_REASONS = 25


@click.command(context_settings={"show_default": True})
@click.option("--cases", default=100, type=click.IntRange(min=1), help="How many cases to run.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Number of the first; a number is one case.")
@click.option("--jobs", default=1, type=click.IntRange(min=1), help="Processes at the same time.")
@click.option("--limit", default=60.0, help="Seconds for one case.")
@click.option("--transformers", is_flag=True, help="Of transformer blocks instead of convolutional networks.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write the cases and sums here.")
def main(cases: int, seed: int, jobs: int, limit: float, transformers: bool, path: Path | None) -> None:
    """Runs random compositions; exits with 1 where one went wrong."""
    console = Console(stderr=True)
    reports: list[Report] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("cases", total=cases)
        for report in run_all(range(seed, seed + cases), jobs, limit, transformers):
            reports.append(report)
            if report.kind != "done":
                progress.console.print(f"case {report.case}: {report.kind}: {report.text}", markup=False)
            bad = sum(r.kind != "done" for r in reports)
            progress.update(task, advance=1, description=f"cases ({bad} bad)")
            if path is not None and len(reports) % 50 == 0:
                _write(path, reports)
    if path is not None:
        _write(path, reports)
    _show(Console(), reports)
    sys.exit(any(r.kind != "done" for r in reports))


def run_all(seeds: range, jobs: int, limit: float, transformers: bool = False) -> Iterator[Report]:
    """The reports of all cases, as they become ready."""
    entry = "compositions:run_transformer" if transformers else "compositions:run"
    with ExitStack() as stack:
        free: queue.Queue[Runner] = queue.Queue()
        for _ in range(jobs):
            free.put(stack.enter_context(Runner(entry, limit)))

        def run(seed: int) -> Report:
            runner = free.get()
            try:
                return runner.run(seed)
            finally:
                free.put(runner)

        with ThreadPoolExecutor(jobs) as pool:
            for future in as_completed([pool.submit(run, seed) for seed in seeds]):
                yield future.result()


def sums(reports: list[Report]) -> dict[str, dict[str, int]]:
    """The counts: of cases by how they ended, of steps by transformation, of refusals by reason."""
    endings: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    lengths: Counter[str] = Counter()
    for report in reports:
        outcome = report.outcome
        endings[outcome["ending"] if report.kind == "done" else report.kind] += 1
        if report.kind != "done":
            continue
        endings["replayed to identical IR"] += outcome["replayed"]
        lengths[str(len(outcome["accepted"]))] += 1
        accepted.update(step.partition("{")[0] for step in outcome["accepted"])
        refused.update(name for name, _ in outcome["refused"])
        reasons.update(f"{name}: {shape_of(reason)}" for name, reason in outcome["refused"])
        if outcome["reason"]:
            reasons[f"{outcome['ending']}: {shape_of(outcome['reason'])}"] += 1
    tables = {"cases": endings, "accepted": accepted, "refused": refused, "reasons": reasons, "length": lengths}
    return {name: dict(counts.most_common()) for name, counts in tables.items()}


def _write(path: Path, reports: list[Report]) -> None:
    path.write_text(json.dumps({"sums": sums(reports), "cases": [asdict(r) for r in reports]}, indent=1) + "\n")


def _show(console: Console, reports: list[Report]) -> None:
    counts = sums(reports)
    cases = Table(title=f"{len(reports)} cases")
    cases.add_column("what became of them")
    cases.add_column("cases", justify="right")
    for ending, count in counts["cases"].items():
        cases.add_row(ending, str(count))
    steps = Table(title="steps")
    for column in ("transformation", "accepted", "refused"):
        steps.add_column(column, justify="left" if column == "transformation" else "right")
    for name in sorted({*counts["accepted"], *counts["refused"]}):
        steps.add_row(name, str(counts["accepted"].get(name, 0)), str(counts["refused"].get(name, 0)))
    steps.add_section()
    steps.add_row("all", str(sum(counts["accepted"].values())), str(sum(counts["refused"].values())))
    reasons = Table(title="refusals, without names and numbers")
    reasons.add_column("reason")
    reasons.add_column("steps", justify="right")
    for reason, count in list(counts["reasons"].items())[:SHOWN_REASONS]:
        reasons.add_row(reason, str(count))
    for table in (cases, steps, reasons):
        console.print(table)


if __name__ == "__main__":
    main()
