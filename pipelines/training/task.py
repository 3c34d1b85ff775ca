"""What a network is for: what it takes, what it should give, and how wrong it is."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.batches import Batch, load_batch, load_images, load_targets
from loopmorph.pipelines.data.labelled_images import LabelledImages, load_labelled_sets
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.numbers import check_size
from loopmorph.pipelines.support.progress import Progress, silent

if TYPE_CHECKING:
    from loopmorph.pipelines.network import Network

Loss = Callable[[Any, Any], torch.Tensor]  # outputs and targets -> the mean over the batch
CROSS_ENTROPY = "cross-entropy"


class Task(Protocol):
    """One minibatch of a task, with its loss and its metric.

    Attributes:
        inputs: the network's positional inputs, as a batch.
        targets: what the outputs are compared with, in whatever form `loss` takes.
        source: where the data comes from, in one line for a report.
        function: the loss as a function of outputs and targets; None for the cross-entropy of logits.
    """

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]: ...

    @property
    def targets(self) -> Any: ...

    @property
    def source(self) -> str: ...

    @property
    def function(self) -> Loss | None: ...

    def describe(self) -> str:
        """What the loss is, in a text that differs where the loss does."""
        ...

    def loss(self, outputs: Any) -> torch.Tensor:
        """The mean loss over the batch, a scalar that gradients flow through; smaller is better."""
        ...

    def metric(self, outputs: Any) -> float:
        """What a user judges the network by, over the batch; larger is better."""
        ...


@dataclass(frozen=True)
class Classification:
    """Images, each of one class: cross-entropy of logits (N, classes), and the share that is told right."""

    batch: Batch

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        return (self.batch.images,)

    @property
    def targets(self) -> torch.Tensor:
        return self.batch.labels

    @property
    def source(self) -> str:
        return self.batch.source

    @property
    def function(self) -> None:
        return None

    def describe(self) -> str:
        return CROSS_ENTROPY

    def loss(self, outputs: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, self.batch.labels.to(outputs.device))

    def metric(self, outputs: torch.Tensor) -> float:
        return float((outputs.argmax(1) == self.batch.labels.to(outputs.device)).float().mean())


@dataclass(frozen=True)
class UserTask:
    """Images with targets of any form, and a loss of the user's; its metric is the loss, negated."""

    batch: Batch
    function: Loss

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        return (self.batch.images,)

    @property
    def targets(self) -> Any:
        return self.batch.labels

    @property
    def source(self) -> str:
        return self.batch.source

    def describe(self) -> str:
        try:
            code = inspect.getsource(self.function)
        except (OSError, TypeError):  # not written in a file, or not in Python
            code = repr(self.function)
        return f"{loss_name(self.function)} {hashlib.sha256(code.encode()).hexdigest()}"

    def loss(self, outputs: Any) -> torch.Tensor:
        return checked_loss(self.function, outputs, self.targets)

    def metric(self, outputs: Any) -> float:
        return -float(self.loss(outputs))


def checked_loss(function: Loss, outputs: Any, targets: Any) -> torch.Tensor:
    """The loss of outputs.

    Raises:
        ArgumentError: the function fails, or gives something else than a scalar that depends on the outputs.
    """
    try:
        value = function(outputs, targets)
    except ArgumentError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise ArgumentError("loss", f"{loss_name(function)} fails: {describe(error)}") from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = f"a tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
        raise ArgumentError("loss", f"{loss_name(function)} gives {got}; a tensor with one number is expected")
    if not value.requires_grad:
        raise ArgumentError("loss", f"{loss_name(function)} does not depend on the outputs: no gradient reaches them")
    return value.reshape(())


def loss_name(function: Loss) -> str:
    """What a loss is called in messages and reports."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def make_task(network: Network, data: str | Path | Batch | None, count: int, seed: int, loss: Loss | None) -> Task:
    """The task with a loss of the user's, or, without one, that of telling images apart (see `classification`).

    Args:
        network, data, count, seed: see `classification`; with a loss, an `.npz` may hold labels of any shape (N, ...),
            and synthetic images have None for their targets.
        loss: takes the network's outputs, as it gives them, and the targets.

    Raises:
        ArgumentError: the network takes other than one image; without a loss, it gives no logits.
        DataError: the data cannot be read.
    """
    if not isinstance(data, Batch):
        check_size("batch_size", (count, *image_shape(network)), "a minibatch")
    if loss is None:
        return classification(network, data, count, seed)
    if not callable(loss):
        raise ArgumentError("loss", f"a {type(loss).__name__} was given; a function of outputs and targets is expected")
    if isinstance(data, Batch):
        return UserTask(data, loss)
    return UserTask(load_targets(data, count=count, shape=image_shape(network), seed=seed), loss)


def load_inputs(network: Network, data: str | Path | Batch | None, count: int, seed: int) -> tuple[torch.Tensor, ...]:
    """The inputs of up to `count` images without their labels, of the shape that an image network takes.

    Raises:
        ArgumentError: the network takes other than one image, or they are too large.
        DataError: the data cannot be read.
    """
    if isinstance(data, Batch):
        return (data.images[:count],)
    return (load_images(data, count=count, shape=image_shape(network), seed=seed),)


def training_part(network: Network, data: str | Path, seed: int = 0, progress: Progress = silent) -> LabelledImages:
    """The images of a data set that a classifier is trained on (see `load_labelled_sets`).

    Raises:
        ArgumentError: the network takes other than one image, or gives no logits.
        DataError: the data cannot be read.
    """
    classes = count_classes(network)
    if classes is None:
        raise ArgumentError("model", "expected logits (N, classes) from it: it is trained to tell classes apart")
    shape = image_shape(network)
    return load_labelled_sets(data, shape=shape, classes=classes, seed=seed, progress=progress).train


def image_shape(network: Network) -> tuple[int, int, int]:
    """The (C, H, W) of the images that a network takes.

    Raises:
        ArgumentError: it takes other than one image.
    """
    inputs = network.example_inputs
    if len(inputs) != 1 or inputs[0].dim() != 4 or not inputs[0].is_floating_point():
        raise ArgumentError("example_inputs", "expected one tensor (N, C, H, W): legality is judged on images")
    _, channels, height, width = inputs[0].shape
    return channels, height, width


def classification(network: Network, data: str | Path | Batch | None, count: int, seed: int) -> Classification:
    """The task of telling images apart, on a minibatch of the shape and with as many classes as a network takes.

    Args:
        network: the network.
        data: a `Batch`; or a folder or file of images, or None for synthetic ones (see `load_batch`).
        count: images in the minibatch, where it is not given.
        seed: chooses the images.

    Raises:
        ArgumentError: the network takes other than one image, or gives no logits.
        DataError: the data cannot be read.
    """
    if isinstance(data, Batch):
        return Classification(data)
    shape, classes = image_shape(network), count_classes(network)
    if classes is None:
        reason = "expected logits (N, classes) from it; for what is no classifier, give a loss (--loss module:function)"
        raise ArgumentError("model", reason)
    return Classification(load_batch(data, count=count, shape=shape, classes=classes, seed=seed))


def count_classes(network: Network) -> int | None:
    """How many classes a network tells apart; None where its output is no logits (N, classes)."""
    with torch.no_grad():
        logits = copy.deepcopy(network.model).eval()(*network.example_inputs)
    return logits.shape[1] if isinstance(logits, torch.Tensor) and logits.dim() == 2 else None
