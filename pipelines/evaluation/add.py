"""What commands wrote, put into a study: nothing that is there already is changed or lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.evaluation.outputs import FromReport, Training
from loopmorph.pipelines.evaluation.study import MeasuredNetwork, Provenance, Run, Section, Study
from loopmorph.pipelines.support.files import write_atomically
from loopmorph.pipelines.support.json_file import read_json


def joined(study: Study, found: FromReport) -> Study:
    """A study with a further network.

    Args:
        study: of the same original on the same processor.
        found: see `outputs.from_report`.

    Raises:
        ArgumentError: it is of another network or setting, or the study has a network of that name.
    """
    _check_setting(study.provenance, found.provenance)
    if any(each.name == found.network.name for each in study.networks):
        raise ArgumentError("name", f"the study has a network '{found.network.name}' already; another is expected")
    original = study.original or found.original
    return replace(study, original=original, networks=(*study.networks, found.network))


def _check_setting(there: Provenance, new: Provenance) -> None:
    for what in ("model", "processor", "threads"):
        old, own = getattr(there, what), getattr(new, what)
        if old is not None and old != own:
            raise ArgumentError("report", f"{what}: it has '{own}', and the study '{old}'; one study has one setting")


def begun(section: Section, found: FromReport) -> Study:
    """A study with one network, that of a report."""
    return Study(section, found.provenance, {}, found.original, (found.network,))


def with_trainings(study: Study, name: str | None, trainings: Sequence[Training]) -> Study:
    """A study with further trainings of one of its networks.

    Args:
        study: has the network.
        name: of the network; None for the original.
        trainings: see `outputs.training_of`.

    Raises:
        ArgumentError: there is no such network; a recipe of the study is another one under the same name; the network
            has a training with that recipe and seed.
    """
    recipes, runs = dict(study.recipes), []
    for training in trainings:
        known = recipes.setdefault(training.recipe_name, training.recipe)
        if known != training.recipe:
            told = f"'{training.recipe_name}' is '{known.command}' in the study, and '{training.recipe.command}' here"
            raise ArgumentError("recipe", f"{told}; another name is expected")
        runs.append(Run(training.recipe_name, training.seed, training.accuracy))
    if name is None:
        if study.original is None:
            raise ArgumentError("original", "the study has no original; add a report of `optimize` first")
        return replace(study, recipes=recipes, original=_with_runs(study.original, runs))
    if all(each.name != name for each in study.networks):
        there = ", ".join(f"'{each.name}'" for each in study.networks) or "none"
        raise ArgumentError("name", f"the study has no network '{name}'; there are {there}")
    networks = tuple(_with_runs(each, runs) if each.name == name else each for each in study.networks)
    return replace(study, recipes=recipes, networks=networks)


def _with_runs(network: MeasuredNetwork, runs: Sequence[Run]) -> MeasuredNetwork:
    there = {(run.recipe, run.seed) for run in network.runs}
    for run in runs:
        if (run.recipe, run.seed) in there:
            what = f"'{network.name}' has a training by '{run.recipe}' with seed {run.seed} already"
            raise ArgumentError("trained", f"{what}; another seed or recipe is expected")
        there.add((run.recipe, run.seed))
    return replace(network, runs=(*network.runs, *runs))


def noted(
    study: Study, commit: str | None, commands: Sequence[str], gpu: str | None, versions: Mapping[str, str]
) -> Study:
    """A study with what else is known of its making."""
    about = study.provenance
    more = tuple(command for command in commands if command not in about.commands)
    provenance = replace(
        about,
        commit=commit or about.commit,
        commands=(*about.commands, *more),
        gpu=gpu or about.gpu,
        versions={**(about.versions or {}), **versions} or None,
    )
    return replace(study, provenance=provenance)


def keep_pipeline(study_file: Path, name: str, text: str) -> Path:
    """Keeps the pipeline of a network in `pipelines/` beside its study; returns the file.

    Raises:
        ArgumentError: it cannot be written.
        DataError: what is there cannot be read, or is no JSON of pipelines.
    """
    path = study_file.parent / "pipelines" / study_file.name
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise ArgumentError("study", f"cannot write '{path}': {error.strerror or error}") from error
    known = read_json(path) if path.exists() else {}
    if not isinstance(known, dict):
        raise DataError(f"{path}: a dictionary of pipelines is expected")
    content = json.dumps({**known, name: text}, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(content.encode()), argument="study")
    return path
