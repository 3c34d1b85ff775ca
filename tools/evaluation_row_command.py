"""`loopmorph evaluation row`: one row of a study made again, from nothing but the images."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopmorph.pipelines.support.files import prepare_folder, write_atomically
from loopmorph.tools.bars import stage_bars
from loopmorph.tools.finetune_command import finetune_command
from loopmorph.tools.options import POSITIVE, SEEDS
from loopmorph.tools.train_command import train_command

if TYPE_CHECKING:
    from loopmorph.pipelines.evaluation.remade import Training
    from loopmorph.pipelines.evaluation.study import MeasuredNetwork

_FILE = click.Path(path_type=Path)
_NONE = "none"


@click.command("row")
@click.argument("study", type=_FILE)
@click.argument("name")
@click.option("--data", type=_FILE, required=True, help="The images that the study is of.")
@click.option("-o", "--out", type=_FILE, required=True, help="A folder for all that is made.")
@click.option("--recipe", metavar="NAME|none", help="How it is trained on.  [default: as first in the study]")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Of the training.")
@click.option("--rounds", type=POSITIVE, default=10, show_default=True, help="Of calls in turns with the original.")
@click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1; by default a GPU when there is one.")
def row_command(
    study: Path, name: str, data: Path, out: Path, recipe: str | None, seed: int, rounds: int, device: str | None
) -> None:
    """Make the row NAME of STUDY again, by the study's own commands, and print it beside what is stored.

    Trains the original, rewrites and repairs it, compiles and times it in turns with the original, and trains it on.
    What is in the folder under the name that the commands give it (WEIGHTS.pt, model.pt, tuned.pt) is not made again:
    a run that was stopped goes on when the same command is given again.
    """
    from loopmorph.pipelines.evaluation.outputs import training_of
    from loopmorph.pipelines.evaluation.remade import REWRITTEN, WEIGHTS, find_row, remake, trainings
    from loopmorph.pipelines.evaluation.study import Run
    from loopmorph.pipelines.support.json_file import read_json

    row = find_row(study, name)
    chosen = recipe or next((run.recipe for run in row.network.runs), _NONE)
    chosen_recipe = None if chosen == _NONE else chosen
    first, last = trainings(row, chosen_recipe, out, {"DATA": str(data), "SEED": str(seed)})
    prepare_folder(out)
    for each in first:
        _train(each, device)
    measured = out / "measured.json"
    if measured.exists() and (out / REWRITTEN).exists():
        found = replace(row.network, runs=(), **read_json(measured))
    else:
        with stage_bars() as tell:
            found = remake(row, out / WEIGHTS, data, out / REWRITTEN, rounds=rounds, device=device, progress=tell)
        kept = {key: getattr(found, key) for key in ("speedup", "ms", "macs", "parameters", "kl", "before")}
        write_atomically(measured, lambda file: file.write(json.dumps(kept).encode()))
    if chosen_recipe is not None and last is not None:
        told = _train(last, device)
        if told.exists():  # not beside weights that were put there
            found = replace(found, runs=(Run(chosen_recipe, seed, training_of(told).accuracy),))
    write_atomically(out / "row.json", lambda file: file.write((json.dumps(asdict(found), indent=1) + "\n").encode()))
    for line in _beside(row.network, found, chosen_recipe):
        click.echo(line)


def _train(training: Training, device: str | None) -> Path:
    """Runs a command of the study, unless what it makes is there; returns where it tells how it went."""
    told = training.output.with_suffix(".json")
    if not training.output.exists():
        command = {"train": train_command, "finetune": finetune_command}[training.command]
        more = ["--json", str(told), *(["--device", device] if device else [])]
        click.echo(f"loopmorph {training.command} {' '.join(training.arguments)}")
        command.main([*training.arguments, *more], f"loopmorph {training.command}", standalone_mode=False)
    return told


def _beside(stored: MeasuredNetwork, found: MeasuredNetwork, recipe: str | None) -> list[str]:
    """A table of what is stored and what was found."""
    from loopmorph.pipelines.evaluation.markdown import NOTHING, number
    from loopmorph.pipelines.support.markdown import table

    def shown(network: MeasuredNetwork) -> list[str]:
        after = [] if recipe is None else network.accuracies(recipe)
        return [
            number(network.parameters, 2, 1e-6),
            number(network.kl, 3),
            number(network.before, 2),
            number(network.ms, 2),
            number(network.speedup, 2),
            ", ".join(number(each, 2) for each in after) or NOTHING,
        ]

    what = [
        "million parameters",
        "joint KL after repair",
        "accuracy before training, %",
        "ms",
        "times as fast as the original",
        f"accuracy after training ({recipe or _NONE}), %",
    ]
    return table([stored.name, "stored", "now"], zip(what, shown(stored), shown(found), strict=True))
