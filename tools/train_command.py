"""`loopmorph train`: a network's weights from the beginning, on the user's own data."""

from __future__ import annotations

import click

from loopmorph.tools.options import trust_option
from loopmorph.tools.training import TrainingOptions, run_training, training_options


@click.command("train")
@click.argument("model")
@training_options
@trust_option
def train_command(options: TrainingOptions, model: str, trust: bool) -> None:
    """Train MODEL from the weights that it has (of the zoo: fresh ones), and write it as a model.pt.

    A run that was stopped goes on when the same command is given again. With several GPUs:
    torchrun --nproc-per-node 4 --no-python loopmorph train ...
    """
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.search.saved_model import save_model
    from loopmorph.pipelines.training.train import SCRATCH, fitted, image_shape_of, train

    settings = options.settings(SCRATCH)
    loaded = resolve_model(model, seed=options.seed, trust=trust)
    shape = image_shape_of(loaded.example_inputs)
    settings = fitted(settings, shape)
    run_training(
        options,
        settings,
        lambda tell: train(
            loaded.model,
            options.data,
            image_shape=shape,
            settings=settings,
            device=options.device,
            checkpoint=options.checkpoint,
            progress=tell,
        ),
        lambda file, trained: save_model(file, trained.model, model=model, seed=options.seed, original=loaded.model),
    )
