"""Distillation: a network learns what another one gives, beside what the labels say."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.support.devices import lay_out
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.inference import switch_to_inference

# Images as the network takes them, its outputs, and the labels -> the mean loss of the batch.
Objective = Callable[[torch.Tensor, Any, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Teacher:
    """A network whose outputs another one is trained to give (Hinton, Vinyals and Dean 2015, section 2).

    With t and s the logits of teacher and student, T the temperature and w the weight, the loss of an image is
    `w T^2 KL(softmax(t / T) || softmax(s / T)) + (1 - w) CE(s, label)`. T^2 keeps the two in proportion whatever T is,
    since the gradient of the first shrinks with it.

    Attributes:
        network: takes (N, C, H, W) and gives logits (N, classes), as the student; left as it is.
        temperature: T; the higher, the more the classes count that the teacher thinks unlikely.
        weight: w, from 0 to 1.
    """

    network: nn.Module
    temperature: float = 2.0
    weight: float = 0.9

    def check(self) -> None:
        """Raises:
        ArgumentError: a value that is out of range; names it.
        """
        if not isinstance(self.network, nn.Module):
            raise ArgumentError("teacher", f"a {type(self.network).__name__} was given; an nn.Module is expected")
        if not 0 < self.temperature < math.inf:
            raise ArgumentError("temperature", f"expected a positive number, got {self.temperature!r}")
        if not 0 <= self.weight <= 1:
            raise ArgumentError("weight", f"expected a share from 0 to 1, got {self.weight!r}")

    def describe(self) -> str:
        """The settings as one line that differs where they do."""
        return f"temperature={self.temperature}, teacher_weight={self.weight}"

    def objective(self, labels: Objective, device: torch.device) -> Objective:
        """The loss with a copy of the teacher on a device, in inference form, which computes as the student does.

        Args:
            labels: the loss against the labels.
            device: where the student is trained.
        """
        network = switch_to_inference(copy.deepcopy(self.network)).requires_grad_(False).to(device)
        lay_out(network, torch.channels_last)
        temperature, weight = self.temperature, self.weight

        def loss(images: torch.Tensor, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
            expected = _logits(network, images, outputs)
            found, wanted = (F.log_softmax(each.float() / temperature, dim=1) for each in (outputs, expected))
            divergence = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
            return weight * temperature**2 * divergence + (1 - weight) * labels(images, outputs, targets)

        return loss


def label_loss(smoothing: float) -> Objective:
    """Cross-entropy of logits, of which a share is spread over all classes."""

    def loss(_images: torch.Tensor, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.float(), labels, label_smoothing=smoothing)

    return loss


def _logits(network: nn.Module, images: torch.Tensor, outputs: Any) -> torch.Tensor:
    """What the teacher gives.

    Raises:
        ArgumentError: it fails, or gives something else than the student.
    """
    try:
        with torch.no_grad():
            logits: Any = network(images)
    except Exception as error:  # the user's own forward may raise anything
        reason = f"in eval mode it fails on a batch of shape {tuple(images.shape)}: {describe(error)}"
        raise ArgumentError("teacher", reason) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != outputs.shape:
        given = f"a tensor {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ArgumentError("teacher", f"it gives {given}, the network that it teaches {tuple(outputs.shape)}")
    return logits
