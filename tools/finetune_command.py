"""`loopmorph finetune`: what `optimize` has made, trained on, with its original as the teacher."""

from __future__ import annotations

from pathlib import Path

import click

from loopmorph.tools.training import TrainingOptions, run_training, training_options


@click.command("finetune")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--teacher",
    metavar="original|none|WEIGHTS.pt",
    multiple=True,
    help="Whose outputs it learns as well: its original's, with the weights that the original has or those of a file.  "
    "Given more than once: the mean of what they tell.  [default: original, where its weights are known]",
)
@click.option("--original", metavar="MODEL", help="What model.pt was made from, where that is not of the zoo.")
@training_options
def finetune_command(options: TrainingOptions, model: Path, teacher: tuple[str, ...], original: str | None) -> None:
    """Train the network of a model.pt on, and write the same kind of file with its new weights.

    A run that was stopped goes on when the same command is given again. With several GPUs:
    torchrun --nproc-per-node 4 --no-python loopmorph finetune ...
    """
    from loopmorph.pipelines.search.retrained import Retrained
    from loopmorph.pipelines.search.saved_model import save_model
    from loopmorph.pipelines.training.processes import is_first
    from loopmorph.pipelines.training.recipe import FineTuning
    from loopmorph.pipelines.training.train import finetune, fitted, image_shape_of

    settings = options.settings(FineTuning())
    saved = Retrained.load(model, original)
    taught_by = saved.teacher(teacher)
    shape = image_shape_of(saved.example_inputs)
    settings = fitted(settings, shape)
    if taught_by is None and not teacher and is_first():
        click.echo(f"no teacher: {model} does not hold the original's trained weights; --teacher names their file")
    run_training(
        options,
        settings,
        lambda tell: finetune(
            saved.network,
            options.data,
            teacher=taught_by,
            image_shape=shape,
            settings=settings,
            device=options.device,
            checkpoint=options.checkpoint,
            progress=tell,
        ),
        lambda file, trained: save_model(file, trained.model),
        taught_by,
    )
