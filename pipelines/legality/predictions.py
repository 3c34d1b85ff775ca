"""What a rewritten network predicts on held-out images, beside what the original does."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from loopmorph.pipelines.legality.initialisation import run_model
from loopmorph.pipelines.support.devices import resolve_device
from loopmorph.pipelines.support.inference import switch_to_inference

_BATCH = 250


@dataclass(frozen=True)
class Comparison:
    """How far a network's predictions are from the original's.

    Attributes:
        kl: KL(softmax of the original's logits || softmax of the network's), the mean over images, in nats, at least 0;
            infinite where its logits are not all finite.
        error: the standard error of that mean.
        agreement: the share of images of which both tell the same class.
        accuracy_original, accuracy: the share of images that each tells right, in points (per cent); None without
            labels.
        images: how many they were.
    """

    kl: float
    error: float
    agreement: float
    accuracy_original: float | None
    accuracy: float | None
    images: int


def log_probabilities(model: nn.Module, images: torch.Tensor, device: torch.device | str | None = None) -> torch.Tensor:
    """The logarithms of what a classifier predicts, in inference form: (N, classes) float64 on the CPU.

    Args:
        model: takes (N, C, H, W) and gives logits (N, classes); left as it is.
        images: (N, C, H, W), as the network takes them.
        device: where to compute; None takes a CUDA device when there is one.

    Raises:
        ArgumentError: the model's own code fails.
    """
    place = resolve_device(device)
    twin = switch_to_inference(copy.deepcopy(model)).to(place)
    with torch.no_grad():
        parts = [run_model(twin, part.to(place)).double().log_softmax(1).cpu() for part in images.split(_BATCH)]
    return torch.cat(parts)


def compare(before: torch.Tensor, after: torch.Tensor, labels: torch.Tensor | None = None) -> Comparison:
    """Compares the predictions of two networks.

    Args:
        before, after: (N, classes), logarithms of probabilities, of the original and the rewritten network.
        labels: (N,) int64; None where there are none.
    """
    each = F.kl_div(after, before, reduction="none", log_target=True).sum(1)
    kl = max(float(each.mean()), 0.0)
    error = float(each.std(correction=1)) / math.sqrt(len(each)) if len(each) > 1 else 0.0
    finite = math.isfinite(kl)
    told, told_before = after.argmax(1), before.argmax(1)
    return Comparison(
        kl if finite else math.inf,
        error if finite else math.inf,
        float((told == told_before).double().mean()),
        None if labels is None else _share(told_before, labels),
        None if labels is None else _share(told, labels),
        len(each),
    )


def _share(told: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * float((told == labels).double().mean())
