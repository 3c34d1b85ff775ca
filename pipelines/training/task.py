"""What a network is for: what it takes, what it should give, and how wrong it is."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.batches import Batch, load_batch
from loopmorph.pipelines.network import Network


class Task(Protocol):
    """One minibatch of a task, with its loss and its metric.

    Attributes:
        inputs: the network's positional inputs, as a batch.
        targets: what the outputs are compared with, in whatever form `loss` takes.
        source: where the data comes from, in one line for a report.
    """

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]: ...

    @property
    def targets(self) -> Any: ...

    @property
    def source(self) -> str: ...

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

    def loss(self, outputs: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, self.batch.labels.to(outputs.device))

    def metric(self, outputs: torch.Tensor) -> float:
        return float((outputs.argmax(1) == self.batch.labels.to(outputs.device)).float().mean())


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
    if len(network.example_inputs) != 1 or network.example_inputs[0].dim() != 4:
        raise ArgumentError("example_inputs", "expected one tensor (N, C, H, W): Fisher Potential needs a classifier")
    (images,) = network.example_inputs
    with torch.no_grad():
        logits = copy.deepcopy(network.model).eval()(images)
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        raise ArgumentError("model", "expected logits (N, classes) from it: Fisher Potential needs a classifier")
    _, channels, height, width = images.shape
    shape = (channels, height, width)
    return Classification(load_batch(data, count=count, shape=shape, classes=logits.shape[1], seed=seed))
