"""What `train` and `finetune` have in common: options, progress, an interrupt, what is printed and written."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from loopmorph.pipelines.support.files import check_writable, write_atomically
from loopmorph.tools.live import search_view
from loopmorph.tools.options import POSITIVE, SEEDS

if TYPE_CHECKING:
    from loopmorph.pipelines.support.progress import Progress
    from loopmorph.pipelines.training.accuracy import Accuracy
    from loopmorph.pipelines.training.distillation import Teacher
    from loopmorph.pipelines.training.recipe import FineTuning
    from loopmorph.pipelines.training.train import Trained

_OPTIONS = (
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        required=True,
        help="Labelled images: CIFAR-10 python batches, an image folder, or an .npz.",
    ),
    click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The file to write."),
    click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write how and with what result here."),
    click.option("--epochs", type=POSITIVE, help="Passes over the training part."),
    click.option("--batch-size", type=POSITIVE, help="Images of a step."),
    click.option("--learning-rate", type=float, help="At the top of its cycle."),
    click.option("--weight-decay", type=float, help="Of parameters with two axes and more."),
    click.option("--optimiser", type=click.Choice(("sgd", "adamw")), help="adamw for transformers.  [default: sgd]"),
    click.option("--erased", type=click.IntRange(min=0), help="Side of a square of each image that is made grey."),
    click.option("--mixed", type=float, help="Share of images of which a rectangle is replaced by another's (CutMix)."),
    click.option("--no-flip", is_flag=True, help="Do not mirror images: digits, text."),
    click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of the training."),
    click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1; by default a GPU when there is one."),
    click.option("--threads", type=POSITIVE, help="Threads of the CPU; by default as PyTorch chooses."),
)

_SETTINGS = ("epochs", "batch_size", "learning_rate", "weight_decay", "optimiser", "erased", "mixed")


@dataclass(frozen=True)
class TrainingOptions:
    """The options that both commands have."""

    data: Path
    out: Path
    json_path: Path | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    weight_decay: float | None
    optimiser: str | None
    erased: int | None
    mixed: float | None
    no_flip: bool
    seed: int
    device: str | None
    threads: int | None

    @property
    def checkpoint(self) -> Path:
        """Where a run that is stopped leaves what it has."""
        return self.out.with_name(f"{self.out.name}.checkpoint")

    def settings(self, preset: FineTuning) -> FineTuning:
        """A preset with what was asked for instead.

        Raises:
            ArgumentError: a value that is out of range.
        """
        given = {name: getattr(self, name) for name in _SETTINGS}
        chosen = {name: value for name, value in given.items() if value is not None}
        settings = replace(preset, **chosen, flip=preset.flip and not self.no_flip, seed=self.seed)
        settings.check()
        return settings


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of training as its first argument, `options`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        own = {name: given.pop(name) for name in TrainingOptions.__dataclass_fields__}
        options = TrainingOptions(**own)
        check_writable("out", options.out)
        check_writable("json", options.json_path)
        if options.threads is not None:
            import torch

            torch.set_num_threads(options.threads)
        command(options, **given)

    return functools.reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), with_options)


def run_training(
    options: TrainingOptions,
    settings: FineTuning,
    train: Callable[[Progress], Trained],
    write: Callable[[IO[bytes], Trained], None],
    taught_by: Teacher | None = None,
) -> None:
    """Trains, and writes and prints what came of it, in the first of the processes that `torchrun` has started.

    Args:
        options: of the command.
        settings, taught_by: what it is trained with and by, for what is written of it.
        train: trains, with the checkpoint of the options.
        write: writes the network.

    Raises:
        KeyboardInterrupt: it was interrupted; how to go on is said.
    """
    from loopmorph.pipelines.support.progress import silent
    from loopmorph.pipelines.training.processes import is_first

    first = is_first()
    try:
        with search_view() if first else contextlib.nullcontext() as view:
            trained = train(silent if view is None else view.tell)
    except KeyboardInterrupt:
        if first and options.checkpoint.exists():
            kept = f"what was trained is kept in {options.checkpoint}"
            click.echo(f"{kept}; the same command goes on from there", err=True)
        raise
    if not first:
        return
    write_atomically(options.out, lambda file: write(file, trained))
    options.checkpoint.unlink(missing_ok=True)
    click.echo(f"data: {trained.data}")
    if trained.teacher is not None:
        click.echo(f"the teacher's accuracy on {trained.teacher.images} test images: {_share(trained.teacher)}")
    click.echo(
        f"accuracy on {trained.after.images} test images: {_share(trained.before)} -> {_share(trained.after)}; "
        "intervals of 95 %"
    )
    if trained.after.percent < trained.before.percent:
        lower = f"a lower one than {settings.learning_rate:g} changes less"
        click.echo(f"training has made it worse: it may have been good already, and --learning-rate too high; {lower}")
    if trained.mirrored is not None:
        click.echo(f"by the mean over each image and its mirror image: {_share(trained.mirrored)}")
    click.echo(f"written to {options.out}")
    if options.json_path is not None:
        from loopmorph.pipelines.training.report import training_report

        text = training_report(trained, settings, taught_by, options.device)
        write_atomically(options.json_path, lambda file: file.write(text.encode()), argument="json")
        click.echo(f"written to {options.json_path}")


def _share(accuracy: Accuracy) -> str:
    low, high = accuracy.interval
    return f"{accuracy.percent:.2f} % ({low:.2f} to {high:.2f})"
