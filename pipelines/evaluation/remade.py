"""A row of a study made again: its original trained, rewritten, repaired, measured, timed, and trained on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.rewritten import bench_rewritten, read_pipelines
from loopmorph.pipelines.data.labelled_images import load_labelled_sets
from loopmorph.pipelines.evaluation.study import MeasuredNetwork, Study
from loopmorph.pipelines.evaluation.study_file import read_study
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.ingress.state import load_state
from loopmorph.pipelines.legality.joint_kl import joint_kl
from loopmorph.pipelines.oracle.inherit import REPAIR, inherit
from loopmorph.pipelines.program import import_model
from loopmorph.pipelines.search.retrained import NONE
from loopmorph.pipelines.search.saved_model import save_model
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.accuracy import measure_accuracy
from loopmorph.pipelines.training.train import image_shape_of
from loopmorph.pipelines.zoo import is_in_zoo

WEIGHTS, REWRITTEN = "WEIGHTS.pt", "model.pt"  # what the commands of a study call their files
_FILE = re.compile(r"[A-Za-z0-9_]+\.pt")
_KL_IMAGES = 2000  # of the test part, as for the rows that are stored


@dataclass(frozen=True)
class Row:
    """A row that can be made again.

    Attributes:
        study: where it stands.
        network: what is stored of it.
        pipeline: what rewrites the original.
    """

    study: Study
    network: MeasuredNetwork
    pipeline: str


@dataclass(frozen=True)
class Training:
    """A command of a study with everything in its place.

    Attributes:
        command: `train` or `finetune`.
        arguments: its own.
        output: the file that it writes.
    """

    command: str
    arguments: tuple[str, ...]
    output: Path


def find_row(file: Path, name: str) -> Row:
    """A row of a study, with the pipeline that `evaluation add` has kept beside it.

    Raises:
        ArgumentError: no row of this name, or none of which a pipeline is kept; a study of a network that is not of
            the zoo, since whatever else it names is code.
        DataError: the study or its pipelines cannot be read.
    """
    study = read_study(file)
    pipelines = read_pipelines(file.parent / "pipelines" / file.name)
    network = next((each for each in study.networks if each.name == name), None)
    if network is None or name not in pipelines:
        what = "it has no such row" if network is None else "no pipeline of this row is kept"
        known = ", ".join(f"'{each.name}'" for each in study.networks if each.name in pipelines)
        raise ArgumentError("name", f"{file}: {what}; there are {known}")
    if not is_in_zoo(study.provenance.model):
        raise ArgumentError("study", f"{file} is of '{study.provenance.model}'; a network of the zoo is expected")
    return Row(study, network, pipelines[name])


def trainings(
    row: Row, recipe: str | None, folder: Path, words: Mapping[str, str]
) -> tuple[list[Training], Training | None]:
    """What has to be trained: the original and other weights of it that teach, and afterwards the rewritten network.

    Args:
        row: what is made again.
        recipe: by which the network is trained; None for not at all.
        folder: where the files lie that commands name.
        words: what stands for words of the commands: DATA, SEED.

    Raises:
        ArgumentError: a recipe that the study has not, or without a command; a command that is none of ours; a file
            that no command makes, and that is not there.
    """
    last = None if recipe is None else _training(row, _command(row, recipe), folder, words)
    named = [] if last is None else [value for option, value in pairwise(last.arguments) if option == "--teacher"]
    teachers = [str(folder / WEIGHTS), *(value for value in named if value != NONE)]
    by_output = {
        made.output: made
        for made in (_training(row, text, folder, words) for text in row.study.provenance.commands if _is_train(text))
    }
    first = []
    for path in map(Path, dict.fromkeys(teachers)):
        if path in by_output:
            first.append(by_output[path])
        elif not path.exists():
            raise ArgumentError("out", f"no command of the study makes {path.name}; put the weights there: {path}")
    if last is not None:  # whether or not the study's command names one
        last = replace(last, arguments=(*last.arguments, "--seed", words["SEED"]))
    return first, last


def remake(
    row: Row,
    weights: Path,
    data: Path,
    out: Path,
    *,
    rounds: int = 10,
    device: torch.device | str | None = None,
    progress: Progress = silent,
) -> MeasuredNetwork:
    """Rewrites the trained original, repairs it, measures what it gives, and times it in turns with the original.

    Args:
        row: what is made again.
        weights: of the original (see `load_state`).
        data: its images (see `load_labelled_sets`).
        out: the `model.pt` that is written.
        rounds: of calls in turns.
        device: where accuracy is measured; None takes a CUDA device where there is one.
        progress: called with what is being done, how much is done, and of how much.

    Returns:
        What was measured, with as many threads as the study; nothing of a training.

    Raises:
        ArgumentError, DataError: the weights or images cannot be read, or fit something else.
        IllegalTransform: the pipeline does not fit the original.
    """
    named, stored = row.study.provenance.model, row.network
    loaded = resolve_model(named)
    load_state(loaded.model, weights)
    shape, classes = image_shape_of(loaded.example_inputs), loaded.classes or 0
    sets = load_labelled_sets(data, shape=shape, classes=classes, progress=progress)
    original = import_model(loaded.model, loaded.example_inputs)
    images = sets.train.normalised(sets.train.images[: stored.repair_images or len(sets.train)])
    rewritten = original.apply(row.pipeline)
    rewritten = inherit(original, rewritten, REPAIR, original.example_inputs, progress, fitted_to=(images,)).program
    module = rewritten.to_module()
    save_model(out, module, model=named, original=loaded.model, schedule=row.pipeline)
    held_out = sets.test.part(torch.arange(min(_KL_IMAGES, len(sets.test))))
    kl = joint_kl(loaded.model, module, held_out, device)
    before = measure_accuracy(module, sets.test, device, progress=progress).percent
    threads = row.study.provenance.threads or 1
    timed = bench_rewritten(named, {stored.name: row.pipeline}, threads=threads, rounds=rounds, progress=progress)
    (found,) = (each for each in timed.rows if each.name == stored.name)
    return replace(
        stored,
        speedup=found.speedup,
        ms=found.median_ms,
        macs=found.macs,
        parameters=found.parameters,
        kl=kl,
        before=before,
        runs=(),
    )


def _command(row: Row, recipe: str) -> str:
    known = {name: each.command for name, each in row.study.recipes.items() if each.command}
    if recipe not in known:
        raise ArgumentError(
            "recipe", f"the study has no command for '{recipe}'; there are {', '.join(known) or 'none'}"
        )
    return known[recipe]


def _is_train(text: str) -> bool:
    return text.startswith("loopmorph train ")


def _training(row: Row, text: str, folder: Path, words: Mapping[str, str]) -> Training:
    try:
        program, command, *arguments = shlex.split(text, comments=True)
    except ValueError:  # a quotation without an end, or less than two words
        program = command = ""
    if program != "loopmorph" or command not in ("train", "finetune") or "-o" not in arguments[:-1]:
        raise ArgumentError("recipe", f"it is done by '{text}'; loopmorph train or finetune is expected, with -o FILE")
    if command == "train" and arguments[:1] != [row.study.provenance.model]:
        raise ArgumentError("study", f"'{text}' trains another network than its '{row.study.provenance.model}'")
    placed = [str(folder / word) if _FILE.fullmatch(word) else words.get(word, word) for word in arguments]
    return Training(command, tuple(placed), Path(placed[placed.index("-o") + 1]))
