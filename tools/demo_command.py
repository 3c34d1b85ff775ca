"""`loopmorph demo`: a network that is trained, made faster and trained again, on real images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopmorph.pipelines.support.files import prepare_folder, write_atomically
from loopmorph.tools.live import search_view
from loopmorph.tools.options import POSITIVE, SEEDS
from loopmorph.tools.search_output import print_report, write_search

if TYPE_CHECKING:
    from torch import nn

    from loopmorph.pipelines.data.batches import Batch
    from loopmorph.pipelines.data.labelled_images import LabelledImages
    from loopmorph.pipelines.support.progress import Progress

NETWORK = "resnet8_digits"
FITTED_TO, JUDGED_ON = 512, 256  # images
TRAINING = {"epochs": 4, "learning_rate": 0.05}
FINE_TUNING = {"epochs": 2, "learning_rate": 0.01}


@click.command("demo")
@click.option("--candidates", type=POSITIVE, default=30, show_default=True, help="Candidates to draw.")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads of the compiled code.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights, candidates and images.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out/demo"), show_default=True, help="Folder for results."
)
def demo_command(candidates: int, threads: int, seed: int, out: Path) -> None:
    """Train a small network on handwritten digits, optimise it, fine-tune it; about two minutes, without a download."""
    from loopmorph.pipelines.data.digits import DIGITS
    from loopmorph.pipelines.data.labelled_images import load_labelled_sets
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.search.optimize import optimize
    from loopmorph.pipelines.search.saved_model import save_model
    from loopmorph.pipelines.search.settings import SearchSettings
    from loopmorph.pipelines.zoo import ZOO

    prepare_folder(out)
    entry, loaded = ZOO[NETWORK], resolve_model(NETWORK, seed=seed)
    channels, rows, columns = entry.input_shape
    sets = load_labelled_sets(DIGITS, shape=(channels, rows, columns), classes=entry.classes, seed=seed)
    seen, unseen = in_two(sets.train, seed)
    settings = SearchSettings(repair_images=FITTED_TO, held_out=JUDGED_ON, name=NETWORK, legality="repair")
    with search_view() as view:
        loaded = replace(loaded, model=_trained("train", loaded.model, seen, seed, view.tell, **TRAINING))
        result = optimize(
            loaded.model,
            loaded.example_inputs,
            batch_of(seen, unseen),
            candidates=candidates,
            seed=seed,
            threads=threads,
            settings=settings,
            progress=view.tell,
            watch=view.watch,
        )
        write_search(out, result, loaded, seed, view.tell)
        tuned = _trained("finetune", result.model, seen, seed, view.tell, **FINE_TUNING)
    write_atomically(
        out / "finetuned.pt",
        lambda file: save_model(file, tuned, model=NETWORK, seed=seed, original=loaded.model, schedule=result.schedule),
    )
    print_report(result.report, out)
    click.echo(f"fine-tuned, as {out / 'finetuned.pt'}; lm.load_model takes it, too")
    after = f"{FINE_TUNING['epochs']} epochs of fine-tuning"
    click.echo(_accuracies({"as trained": loaded.model, "repaired": result.model, after: tuned}, sets.test))


def in_two(images: LabelledImages, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Images to train on and to fit weights to, and others to judge rewritten networks on."""
    import torch

    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.part(order[JUDGED_ON:]), images.part(order[:JUDGED_ON])


def batch_of(fitted_to: LabelledImages, judged_on: LabelledImages) -> Batch:
    """The images that repair fits weights to, and after them those that it is judged on."""
    import torch

    from loopmorph.pipelines.data.batches import Batch

    first = fitted_to.part(torch.arange(FITTED_TO))
    images, labels = (torch.cat([getattr(first, name), getattr(judged_on, name)]) for name in ("images", "labels"))
    return Batch(first.normalised(images), labels, first.classes, "handwritten digits, 8x8 pixels made 16x16")


def _trained(stage: str, model: nn.Module, images: LabelledImages, seed: int, tell: Progress, **how: Any) -> nn.Module:
    """The network after some epochs, told of as `stage`."""
    from loopmorph.pipelines.training.finetune import finetune
    from loopmorph.pipelines.training.recipe import FineTuning

    settings = FineTuning(batch_size=64, padding=1, flip=False, seed=seed, **how)
    return finetune(model, images, settings, device="cpu", progress=lambda _, done, of: tell(stage, done, of)).model


def _accuracies(models: dict[str, nn.Module], test: LabelledImages) -> str:
    """How many images of the test part each network tells right."""
    from loopmorph.pipelines.training.accuracy import accuracy

    told = [f"{accuracy(model, test, 'cpu'):.1f} % ({how})" for how, model in models.items()]
    return f"accuracy on {len(test)} images that took no part in any of it: {' -> '.join(told)}"
