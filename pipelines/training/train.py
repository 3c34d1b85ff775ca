"""Training on a labelled data set, with what it has made of the network: from the beginning, or on from what it has."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.labelled_images import LabelledImages, LabelledSets, load_labelled_sets, own_image_shape
from loopmorph.pipelines.support.files import check_writable
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.accuracy import Accuracy, beats_chance, measure_accuracy
from loopmorph.pipelines.training.distillation import Teacher
from loopmorph.pipelines.training.finetune import Diverged
from loopmorph.pipelines.training.finetune import finetune as train_on
from loopmorph.pipelines.training.processes import Processes, training_processes
from loopmorph.pipelines.training.recipe import FineTuning

_MIRRORED = "mirrored"
SCRATCH = FineTuning(epochs=64, batch_size=256, learning_rate=0.2)  # how `train` does it unless told otherwise


@dataclass(frozen=True)
class Trained:
    """A network that was trained.

    Attributes:
        model: the network, on the CPU, in inference form.
        data: what it was trained on and what it was tested on, in one line.
        before, after: what it told right of the test part, before and after.
        mirrored: the same after it, by the mean over each image and its mirror image; None where training mirrors none.
        teacher: what its teacher does; None without one.
        loss: of the last step.
        steps: that were taken, those of earlier calls that a checkpoint holds included.
    """

    model: nn.Module
    data: str
    before: Accuracy
    after: Accuracy
    mirrored: Accuracy | None
    teacher: Accuracy | None
    loss: float
    steps: int


def train(
    model: nn.Module,
    data: str | Path | LabelledSets,
    *,
    image_shape: tuple[int, int, int] | None = None,
    settings: FineTuning | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Trains a network that begins with the weights that it has, which are fresh ones as a rule.

    It is the recipe of `finetune` with more epochs and a higher learning rate (`SCRATCH`); for all else see there.
    """
    return _trained(model, data, image_shape, SCRATCH, settings, None, device, checkpoint, progress)


def finetune(
    model: nn.Module,
    data: str | Path | LabelledSets,
    *,
    teacher: nn.Module | Teacher | None = None,
    image_shape: tuple[int, int, int] | None = None,
    settings: FineTuning | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Trains a network on from the weights that it has, and says what it is worth before and after.

    Trained on the training part; accuracies are those on the test part, or where the data has none, on a sixth that is
    held out, the same images for every network and seed. SGD with Nesterov momentum (or AdamW), one cycle of the
    learning rate, smoothed labels, shifts and flips (see `FineTuning`); on CUDA in bfloat16. Under `torchrun` the
    processes that it has started train together, when all of them call this.

    Args:
        model: takes images (N, C, H, W), float32, and gives logits (N, classes); left as it is.
        data: a labelled data set (see `load_labelled_sets`).
        teacher: a network whose outputs it learns as well, the original of a rewritten one for instance; a module
            stands for `Teacher(module)`.
        image_shape: (C, H, W) that images are resized to; None leaves those of CIFAR-10 and of an `.npz` as they are.
        settings: how to train; None for `FineTuning()`, with shifts that fit the images' size.
        device: where to compute; None takes a CUDA device when there is one.
        checkpoint: a file from which a run that was stopped goes on, to the same result; stays there (see
            `loopmorph.pipelines.training.finetune`). One that led to `Diverged` is removed.
        progress: called with "read", "test before", "test teacher", "train", "test after" or "test mirrored", how much
            of it is done, and all.

    Raises:
        ArgumentError: settings out of range; no such device; a model or teacher that is no classifier of these images.
        Diverged: the loss is not finite: the learning rate is too high.
        DataError: the data cannot be read; the checkpoint is damaged or of another training.
    """
    taught = Teacher(teacher) if isinstance(teacher, nn.Module) else teacher
    return _trained(model, data, image_shape, FineTuning(), settings, taught, device, checkpoint, progress)


def fitted(settings: FineTuning, image_shape: tuple[int, ...]) -> FineTuning:
    """Settings that shift images (C, H, W) by an eighth of their shorter side: by 4 pixels those of 32."""
    return replace(settings, padding=min(image_shape[1:]) // 8)


def image_shape_of(example_inputs: Sequence[Any]) -> tuple[int, int, int]:
    """The (C, H, W) of the images that a network takes, by its example inputs.

    Raises:
        ArgumentError: it takes other than one image.
    """
    first = example_inputs[0] if len(example_inputs) == 1 else None
    if not isinstance(first, torch.Tensor) or first.dim() != 4 or not first.is_floating_point():
        raise ArgumentError("model", "expected one that takes one tensor (N, C, H, W): it is trained on images")
    _, channels, height, width = first.shape
    return channels, height, width


def _trained(
    model: nn.Module,
    data: str | Path | LabelledSets,
    image_shape: tuple[int, int, int] | None,
    preset: FineTuning,
    settings: FineTuning | None,
    teacher: Teacher | None,
    device: torch.device | str | None,
    checkpoint: str | Path | None,
    progress: Progress,
) -> Trained:
    _check_types(data, image_shape, settings, teacher)
    (settings or preset).check()
    if teacher is not None:
        teacher.check()
    path = None if checkpoint is None else Path(checkpoint)
    check_writable("checkpoint", path)
    sets = _sets(model, data, image_shape, progress)
    chosen = settings or fitted(preset, tuple(sets.train.images.shape[1:]))
    if teacher is not None:
        for network in teacher.networks:
            _check_classifier("teacher", network, sets.test)
    with training_processes(device) as processes:
        before = _tested("before", model, sets.test, processes, progress)
        taught_by = None if teacher is None else _tested("teacher", teacher.whole, sets.test, processes, progress)
        if taught_by is not None:
            _require_trained(taught_by, sets.test)
        try:
            tuned = train_on(
                model,
                sets.train,
                chosen,
                teacher=teacher,
                device=processes,
                checkpoint=path,
                progress=progress,
            )
        except Diverged:
            if path is not None:  # whatever goes on from it diverges again
                path.unlink(missing_ok=True)
            raise
        after = _tested("after", tuned.model, sets.test, processes, progress)
        mirrored = _tested(_MIRRORED, tuned.model, sets.test, processes, progress) if chosen.flip else None
    source = f"{sets.train.source}; tested on {sets.test.source}"
    return Trained(tuned.model, source, before, after, mirrored, taught_by, tuned.loss, tuned.steps)


def _sets(
    model: nn.Module, data: str | Path | LabelledSets, image_shape: tuple[int, int, int] | None, progress: Progress
) -> LabelledSets:
    """The data as the model takes it.

    Raises:
        ArgumentError, DataError: see `finetune`.
    """
    if isinstance(data, LabelledSets):
        for part in (data.train, data.test):
            _check_classifier("model", model, part)
        return data
    shape = image_shape or own_image_shape(data)
    if shape is None:
        reason = f"the images of {data} have sizes of their own; expected (C, H, W), which they are resized to"
        raise ArgumentError("image_shape", reason)
    return load_labelled_sets(data, shape=shape, classes=_count_classes("model", model, shape), progress=progress)


def _check_classifier(argument: str, model: nn.Module, images: LabelledImages) -> None:
    """Raises:
    ArgumentError: a network that does not tell as many classes apart as there are.
    """
    shape = tuple(images.images.shape[1:])
    classes = _count_classes(argument, model, shape)
    if classes != images.classes:
        raise ArgumentError(argument, f"it tells {classes} classes apart, the images are of {images.classes}")


def _count_classes(argument: str, model: nn.Module, shape: tuple[int, ...]) -> int:
    """How many classes a network tells apart.

    Raises:
        ArgumentError: it is none, has weights that are no numbers, fails on a batch of images, or gives no logits.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(argument, f"a {type(model).__name__} was given; an nn.Module is expected")
    for name, parameter in model.named_parameters():
        if is_lazy(parameter) or parameter.is_meta:
            raise ArgumentError(argument, f"its parameter '{name}' has no values yet")
        if not bool(parameter.isfinite().all()):
            raise ArgumentError(argument, f"its parameter '{name}' holds NaN or infinities")
    images = torch.zeros(2, *shape)
    try:
        with torch.no_grad():
            logits: Any = switch_to_inference(copy.deepcopy(model)).cpu()(images)
    except Exception as error:  # the user's own forward may raise anything
        reason = f"in eval mode it fails on a batch of shape {tuple(images.shape)}: {describe(error)}"
        raise ArgumentError(argument, reason) from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != len(images):
        raise ArgumentError(argument, "expected logits (N, classes) from it: it is trained to tell classes apart")
    return logits.shape[1]


def _tested(what: str, model: nn.Module, test: LabelledImages, processes: Processes, progress: Progress) -> Accuracy:
    def tell(_stage: str, done: int, of: int) -> None:
        progress(f"test {what}", done, of)

    return measure_accuracy(model, test, processes.device, mirrored=what == _MIRRORED, progress=tell)


def _require_trained(teacher: Accuracy, test: LabelledImages) -> None:
    if not beats_chance(teacher.percent, test):
        what = f"it tells {teacher.percent:.1f} % of the test images right, no more than chance would"
        reason = f"{what}: it is not trained, or takes other inputs; expected a trained one, or none"
        raise ArgumentError("teacher", reason)


def _check_types(data: Any, image_shape: Any, settings: Any, teacher: Any) -> None:
    if settings is not None and not isinstance(settings, FineTuning):
        raise ArgumentError("settings", f"expected FineTuning(...), got a {type(settings).__name__}")
    if teacher is not None and not isinstance(teacher, Teacher):
        raise ArgumentError("teacher", f"a {type(teacher).__name__} was given; a module or Teacher(...) is expected")
    if isinstance(data, LabelledSets):
        if image_shape is not None:
            raise ArgumentError("image_shape", "the images are there and have a shape; expected none beside them")
        if not len(data.test):
            raise ArgumentError("data", "its test part has no image")
    if image_shape is not None:
        sizes = list(image_shape) if isinstance(image_shape, Sequence) else []
        if len(sizes) != 3 or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ArgumentError("image_shape", f"expected (C, H, W), positive numbers, got {image_shape!r}")
