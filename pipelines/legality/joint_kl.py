"""Joint KL: how far the predictions of a rewritten network are from the original's."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from loopmorph.pipelines.data.labelled_images import LabelledImages
from loopmorph.pipelines.support.devices import exact_arithmetic, resolve_device
from loopmorph.pipelines.support.inference import switch_to_inference

_BATCH = 250


def joint_kl(
    original: nn.Module, rewritten: nn.Module, held_out: LabelledImages, device: torch.device | str | None = None
) -> float:
    """KL(softmax of the original's logits || softmax of the rewritten network's), the mean over images, in nats.

    Both in inference form and float32, summed in float64. It needs no labels.

    Args:
        original, rewritten: take (N, C, H, W) and give logits (N, classes); left as they are.
        held_out: images that the rewritten network was not repaired on.
        device: where to compute; None takes a CUDA device when there is one.

    Returns:
        The divergence, at least 0; infinite where the rewritten network gives other than finite logits.
    """
    place = resolve_device(device)
    before, after = (switch_to_inference(copy.deepcopy(model)).to(place) for model in (original, rewritten))
    total = 0.0
    with torch.no_grad(), exact_arithmetic():
        for images in held_out.images.split(_BATCH):
            normalised = held_out.normalised(images.to(place))
            total += float(kl_of_images(before(normalised), after(normalised)).sum())
    return total / len(held_out) if math.isfinite(total) else math.inf


def kl_of_images(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """KL(softmax(before) || softmax(after)) of each image.

    Args:
        before, after: logits (N, classes) of the original and of the rewritten network.

    Returns:
        (N,) float64, in nats, at least 0; NaN where there are other than finite logits.
    """
    expected, found = (F.log_softmax(each.double(), dim=1) for each in (before, after))
    return F.kl_div(found, expected, reduction="none", log_target=True).sum(1).clamp_min(0)
