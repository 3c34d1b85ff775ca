"""`loopmorph study`: what searches have tried."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.support.files import check_writable, write_atomically

if TYPE_CHECKING:
    from loopmorph.pipelines.search.optuna_study import StoredStudy
    from loopmorph.pipelines.search.study import Record

_CSV, _LINES = (".csv",), (".jsonl", ".json")
file_argument = click.argument("file", type=click.Path(path_type=Path))
name_option = click.option("--study-name", metavar="NAME", help="One of several studies in FILE.")


@click.group("study")
def study_command() -> None:
    """Look into FILE, which `optimize --study FILE` has kept. It is an Optuna study: `optuna-dashboard` opens it."""


@study_command.command("show")
@file_argument
@name_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Trials to list.")
def show_command(file: Path, study_name: str | None, limit: int) -> None:
    """List the trials, the best first."""
    from loopmorph.pipelines.search.study import ranked

    console = Console(highlight=False)
    for study in _studies(file, study_name):
        about = study.identity.about
        console.print(escape(f"study '{study.identity.name}': {_counts(study)}"), soft_wrap=True)
        told = ", ".join(f"{name} {about[name]}" for name in ("data", "target", "threads", "seed") if name in about)
        console.print(escape(told), soft_wrap=True)
        console.print(_table(ranked(study.records)[:limit]))
        if len(study.records) > limit:
            console.print(f"{len(study.records) - limit} more: --limit N")


@study_command.command("best")
@file_argument
@name_option
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the schedule there.")
def best_command(file: Path, study_name: str | None, out: Path | None) -> None:
    """Print the best accepted trial's schedule, which `lm.replay` and `loopmorph-opt --transform` take."""
    check_writable("out", out)
    from loopmorph.dialects.morph import schedule_text
    from loopmorph.pipelines.search.study import CANDIDATE, NETWORK, ranked

    studies = _studies(file, study_name)
    if len(studies) > 1:
        names = ", ".join(f"'{study.identity.name}'" for study in studies)
        raise ArgumentError("study_name", f"expected one of {names}, the studies of '{file}', got none")
    schedules = (record for record in studies[0].records if record.kind in (CANDIDATE, NETWORK))
    best = next(iter(ranked(schedules)), None)
    if best is None or not best.accepted:
        raise DataError(f"{file}: no trial was accepted so far")
    text = schedule_text(best.steps)
    numbers = ", ".join(f"{name} {value:.6g}" for name, value in best.numbers.items())
    click.echo(f"{best.kind}: {numbers}", err=True)
    if out is None:
        click.echo(text)
        return
    write_atomically(out, lambda stream: stream.write(text.encode()))
    click.echo(f"written: {out}", err=True)


@study_command.command("export")
@file_argument
@name_option
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A .csv or, as JSON lines, a .jsonl.")
def export_command(file: Path, study_name: str | None, out: Path) -> None:
    """Write all trials, in the order in which they came."""
    if out.suffix.lower() not in (*_CSV, *_LINES):
        raise ArgumentError("out", f"expected a name that ends in {', '.join((*_CSV, *_LINES))}, got '{out}'")
    check_writable("out", out)
    rows = [(study.identity.name, record) for study in _studies(file, study_name) for record in study.records]
    content = _as_csv(rows) if out.suffix.lower() in _CSV else _as_lines(rows)
    write_atomically(out, lambda stream: stream.write(content.encode()))
    click.echo(f"written: {out}: {len(rows)} trials")


def _studies(file: Path, name: str | None) -> list[StoredStudy]:
    """The studies of a file, or those of one name.

    Raises:
        ArgumentError: no study has the name.
    """
    from loopmorph.pipelines.search.optuna_study import read_studies

    studies = read_studies(file)
    chosen = [study for study in studies if name in (None, study.identity.name)]
    if not chosen:
        names = ", ".join(f"'{study.identity.name}'" for study in studies)
        raise ArgumentError("study_name", f"'{file}' has no study '{name}'; expected {names}")
    return chosen


def _counts(study: StoredStudy) -> str:
    outcomes = [record.outcome for record in study.records]
    counted = (f"{outcome} {outcomes.count(outcome)}" for outcome in dict.fromkeys(outcomes))
    return f"{len(outcomes)} trials: {', '.join(counted)}" if outcomes else "no trials"


def _table(records: list[Record]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("kind", "outcome"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms", "saved", "score"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("transformations", overflow="fold")
    for record in records:
        numbers = record.numbers
        times = f"{numbers['ms_before']:.3f} -> {numbers['ms_after']:.3f}" if record.saved is not None else "-"
        saved = "-" if record.saved is None else f"{record.saved:.3f}"
        score = f"{numbers['score']:.4g}" if "score" in numbers else "-"
        text = "\n".join(record.steps) + (f"\n{record.reason}" if record.reason else "")
        table.add_row(record.kind, record.outcome, times, saved, score, escape(text))
    return table


def _as_lines(rows: list[tuple[str, Record]]) -> str:
    return "".join(f"{json.dumps({'study': name, **record.as_json()})}\n" for name, record in rows)


def _as_csv(rows: list[tuple[str, Record]]) -> str:
    numbers = list(dict.fromkeys(name for _, record in rows for name in record.numbers))
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["study", "kind", "steps", "outcome", "reason", *numbers])
    for name, record in rows:
        texts = [name, record.kind, ",".join(record.steps), record.outcome, record.reason]
        writer.writerow([*texts, *(record.numbers.get(number, "") for number in numbers)])
    return stream.getvalue()
