"""What a classifier tells right of labelled images."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import nn

from loopmorph.pipelines.data.labelled_images import LabelledImages
from loopmorph.pipelines.support.devices import exact_arithmetic, resolve_device
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.progress import Progress, silent

LEVEL = 0.95  # of the intervals of accuracies
_BATCH = 500


@dataclass(frozen=True)
class Accuracy:
    """How many images a network tells right.

    Attributes:
        right: so many.
        images: of so many.
    """

    right: int
    images: int

    @property
    def percent(self) -> float:
        """The share in points."""
        return 100 * self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927) of the share at the level `LEVEL`, in points.

        It says what other images of the same kind could give; two networks on the same images differ by less.
        """
        n, p = self.images, self.right / self.images
        z = NormalDist().inv_cdf((1 + LEVEL) / 2)
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def accuracy(model: nn.Module, test: LabelledImages, device: torch.device | str | None = None) -> float:
    """The share of images that a classifier tells right, in points (per cent); see `measure_accuracy`."""
    return measure_accuracy(model, test, device).percent


def measure_accuracy(
    model: nn.Module,
    test: LabelledImages,
    device: torch.device | str | None = None,
    *,
    mirrored: bool = False,
    progress: Progress = silent,
) -> Accuracy:
    """How many images a classifier tells right, in inference form and float32.

    Args:
        model: takes (N, C, H, W) and gives logits (N, classes); left as it is.
        test: the images, at least one.
        device: where to compute; None takes a CUDA device when there is one.
        mirrored: by the mean of the logits of each image and of its mirror image, which costs two passes.
        progress: called with "test", the images done and all.
    """
    place = resolve_device(device)
    twin = switch_to_inference(copy.deepcopy(model)).to(place)
    right = 0
    with torch.no_grad(), exact_arithmetic():
        for start in range(0, len(test), _BATCH):
            images = test.normalised(test.images[start : start + _BATCH].to(place))
            labels = test.labels[start : start + _BATCH].to(place)
            logits = twin(images) + twin(images.flip(3)) if mirrored else twin(images)
            right += int((logits.argmax(1) == labels).sum())
            progress("test", min(start + _BATCH, len(test)), len(test))
    return Accuracy(right, len(test))


def beats_chance(percent: float, test: LabelledImages) -> bool:
    """Whether so many of the images are more than what guessing tells right, by three standard errors of a guess."""
    chance = 100 / test.classes
    return percent >= chance + 3 * math.sqrt(chance * (100 - chance) / len(test))
