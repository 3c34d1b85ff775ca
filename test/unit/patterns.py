"""Images that even a small network can tell apart: a pattern for each class, under noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from loopmorph.pipelines.data.labelled_images import LabelledImages

CLASSES = 4


def patterns(count: int, seed: int) -> LabelledImages:
    """(count, 3, 8, 8) images of four classes in turn; the seed makes the noise."""
    labels = torch.arange(count) % CLASSES
    own = torch.randint(0, 128, (CLASSES, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    noise = torch.randint(0, 128, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    images = (own[labels] + noise).to(torch.uint8)
    return LabelledImages(images, labels, CLASSES, (0.5,) * 3, (0.25,) * 3, f"patterns, {count} images")


def save_patterns(path: Path, count: int, seed: int, first_label: int = 0) -> None:
    """Writes such images and their labels, the first of which is 0 or another number, as an .npz."""
    found = patterns(count, seed)
    images = found.images.permute(0, 2, 3, 1).numpy()
    np.savez(path, images=images, labels=found.labels.numpy() + first_label)
