"""`loopmorph evaluation`: what was measured, as a page; and what other commands wrote, put among it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.evaluation.study import Section
from loopmorph.pipelines.support.files import check_writable
from loopmorph.tools.evaluation_row_command import row_command
from loopmorph.tools.options import POSITIVE

if TYPE_CHECKING:
    from loopmorph.pipelines.evaluation.outputs import Training
    from loopmorph.pipelines.evaluation.study import Study

_FILE = click.Path(path_type=Path)


@click.group("evaluation")
def evaluation_command() -> None:
    """Keep what was measured in studies (JSON), and make a page of them."""


evaluation_command.add_command(row_command)


@evaluation_command.command("page")
@click.argument("folder", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="The page (Markdown); pictures go to FOLDER.")
def page_command(folder: Path, output: Path) -> None:
    """Make the page of the studies in FOLDER, FOLDER/NAME.json each. What has no study is said to be not measured."""
    check_writable("output", output)
    from loopmorph.pipelines.evaluation.page import write_page
    from loopmorph.pipelines.evaluation.study_file import read_studies

    written = write_page(read_studies(folder), output, folder)
    click.echo(f"written: {' '.join(map(str, written))}")


@evaluation_command.command("add")
@click.argument("study", type=_FILE)
@click.option("--report", type=_FILE, help="A report.json of optimize: adds its network.")
@click.option("--baseline", metavar="NAME", help="Add instead a baseline of the report's joint choice: greedy, ...")
@click.option("--trained", type=_FILE, multiple=True, help="What finetune --json wrote: adds a training.")
@click.option("--original", is_flag=True, help="The trainings are of the original.")
@click.option("--recipe", metavar="NAME", help="What they were done by.  [default: teacher or labels]")
@click.option("--name", help="Of the network in the study.  [default: its target and how it was chosen]")
@click.option("--bench", type=_FILE, help="What bench --json wrote: makes a study of it.")
@click.option("--operators", type=_FILE, help="What operators --json wrote: makes a study of it.")
@click.option("--precision", type=_FILE, help="What bench --precision wrote: makes a study of it.")
@click.option("--rewritten", type=_FILE, help="What bench --rewritten wrote: makes a study of it.")
@click.option("--section", type=click.Choice(get_args(Section)), help="Of a new study.  [default: networks]")
@click.option("--processor", metavar="TEXT", help="What the times are of.  [default: this computer's]")
@click.option("--cores", type=POSITIVE, help="That a search had.  [default: this computer's]")
@click.option("--commit", help="Of the code that made the figures.")
@click.option("--command", "commands", multiple=True, metavar="TEXT", help="That made the figures; several in order.")
def add_command(
    study: Path,
    report: Path | None,
    baseline: str | None,
    trained: tuple[Path, ...],
    original: bool,
    recipe: str | None,
    name: str | None,
    bench: Path | None,
    operators: Path | None,
    precision: Path | None,
    rewritten: Path | None,
    section: Section | None,
    processor: str | None,
    cores: int | None,
    commit: str | None,
    commands: tuple[str, ...],
) -> None:
    """Put what other commands wrote into STUDY, which is begun where it is not there; what it has stays as it is."""
    check_writable("study", study)
    from loopmorph.pipelines.evaluation import add
    from loopmorph.pipelines.evaluation.outputs import training_of
    from loopmorph.pipelines.evaluation.study_file import read_study, write_study

    known = read_study(study) if study.exists() else None
    trainings = [training_of(path, recipe) for path in trained]
    pipeline: tuple[str, str] | None = None
    results = {"bench": bench, "operators": operators, "precision": precision, "rewritten": rewritten}
    if given := {name: path for name, path in results.items() if path is not None}:
        made = _of_result(known, given, processor)
    elif report is not None and (section == "search" or (known is not None and known.section == "search")):
        made = _with_search(known, report, cores or os.cpu_count() or 1, processor)
    elif report is not None:
        made, name, pipeline = _with_report(known, report, baseline, name, section, processor)
    elif known is not None and trained:
        made = known
    else:
        raise ArgumentError(
            "study",
            f"expected --report, --bench, --operators, --precision or --rewritten, or --trained for '{study}' as it is",
        )
    if trainings:
        if not original and name is None:
            raise ArgumentError("name", "which network was trained? --name NAME or --original is expected")
        made = add.with_trainings(made, None if original else name, trainings)
    write_study(add.noted(made, commit, commands, _gpu(trainings), _versions(trainings)), study)
    if pipeline is not None and pipeline[1]:
        click.echo(f"written: {add.keep_pipeline(study, *pipeline)}")
    click.echo(f"written: {study}")


def _of_result(known: Study | None, given: dict[str, Path], processor: str | None) -> Study:
    from loopmorph.pipelines.evaluation.bench_outputs import precision_study, rewritten_study
    from loopmorph.pipelines.evaluation.outputs import result_study

    (name, path), *others = given.items()
    if known is not None:
        raise ArgumentError("study", "it is there already; what bench or operators wrote is a study of its own")
    if others:
        raise ArgumentError(others[0][0], f"with --{name} there would be two studies in one file; one is expected")
    if name in ("bench", "operators"):
        return result_study(path, "engines" if name == "bench" else "operators", processor)
    return precision_study(path, processor) if name == "precision" else rewritten_study(path, processor)


def _with_search(known: Study | None, report: Path, cores: int, processor: str | None) -> Study:
    from loopmorph.pipelines.evaluation.outputs import from_report, search_of
    from loopmorph.pipelines.evaluation.study import Study

    cost = search_of(report, cores)
    if known is None:
        about = from_report(report, processor or _this_processor()).provenance
        return Study("search", about, {}, searches=(cost,))
    return replace(known, searches=(*known.searches, cost))


def _with_report(
    known: Study | None,
    report: Path,
    baseline: str | None,
    name: str | None,
    section: Section | None,
    processor: str | None,
) -> tuple[Study, str, tuple[str, str]]:
    """The study with the report's network, its name, and its name with its pipeline."""
    from loopmorph.pipelines.evaluation import add
    from loopmorph.pipelines.evaluation.outputs import from_report

    found = from_report(report, processor or _this_processor(), baseline, name)
    if known is not None and section not in (None, known.section):
        raise ArgumentError("section", f"the study is of '{known.section}'; another file is expected for '{section}'")
    made = add.begun(section or "networks", found) if known is None else add.joined(known, found)
    return made, found.network.name, (found.network.name, found.pipeline)


def _this_processor() -> str:
    from loopmorph.passes.target.detect import processor_name

    return processor_name()


def _gpu(trainings: list[Training]) -> str | None:
    return next((each.gpu for each in trainings if each.gpu), None)


def _versions(trainings: list[Training]) -> dict[str, str]:
    return {name: version for each in trainings for name, version in each.versions.items()}
