"""Whole data sets in memory, as bytes: what a network is trained on, and a held-out part to test it with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.data.batches import (
    Pool,
    check_labels,
    check_shape,
    fit_image,
    open_pool,
    open_test_pool,
    shuffled,
)
from loopmorph.pipelines.support.devices import sent
from loopmorph.pipelines.support.numbers import check_seed
from loopmorph.pipelines.support.progress import Progress, silent

Indices = npt.NDArray[np.int64]

MAX_BYTES = 4 << 30  # of the images of one set
HELD_OUT = 6  # one image in so many is held out where a data set has no test part of its own
_TOLD = 1000  # images between two calls of the progress
_LEAST_VARIANCE = 1e-12  # of a channel that is more than constant


@dataclass(frozen=True)
class LabelledImages:
    """A labelled set.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64 in [0, classes).
        classes: number of classes that the network tells apart.
        mean, deviation: per channel, on the [0, 1] scale, by which images are normalised; CIFAR-10's own, or those of
            the training part.
        source: where the images come from, in one line for a report.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Images of the set, or of the same kind, as a network takes them.

        Args:
            images: (N, C, H, W) uint8 on any device.

        Returns:
            The same, float32, scaled to [0, 1] and normalised; what `load_batch` gives for CIFAR-10.
        """
        shape = (1, -1, 1, 1)
        mean, deviation = (sent(torch.tensor(each), images.device) for each in (self.mean, self.deviation))
        return (images.float() / 255 - mean.reshape(shape)) / deviation.reshape(shape)

    def part(self, indices: torch.Tensor) -> LabelledImages:
        """The images with these indices, (M,) int64, normalised as the whole set."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True)
class LabelledSets:
    """A data set in two parts that share no image: one to train on, one to test with."""

    train: LabelledImages
    test: LabelledImages


def load_labelled_sets(
    path: str | Path, *, shape: tuple[int, int, int], classes: int, seed: int = 0, progress: Progress = silent
) -> LabelledSets:
    """Reads a whole labelled data set.

    The test part is what the data set has for it (`test_batch` of CIFAR-10, `test` or `val` beside `train` in an image
    folder); else one image in `HELD_OUT`, a choice that is a function of `seed` alone. Images of another size are
    resized and grey ones become RGB, as `load_batch` does it.

    Args:
        path: a CIFAR-10 python-batches folder (or the folder that contains it); a folder with one sub-folder of image
            files for each class, or with `train` and `test` (or `val`) that have them; an `.npz` with `images`
            (N, H, W, C uint8) and `labels` (N integers).
        shape: the network's input, (C, H, W).
        classes: number of classes; every label has to be below it.
        seed: chooses what is held out.
        progress: called with "read", the images read and all.

    Raises:
        ArgumentError: `shape` or `classes` is not positive.
        DataError: a path that is missing, damaged, of another format or unsafe to read; wrong shapes, types or labels;
            a part with too few images, or one that takes more than `MAX_BYTES`. The message begins with the file's
            name.
    """
    check_shape(shape, classes)
    check_seed(seed)
    own = open_pool(Path(path))
    pools, indices = _parts(own, seed)
    total, done, parts = sum(map(len, indices)), 0, []
    for pool, chosen in zip(pools, indices, strict=True):
        parts.append(_read(pool, chosen, shape, classes, _telling(progress, done, total)))
        done += len(chosen)
    mean, deviation = _statistics(own, parts[0])
    train, tested = (dataclasses.replace(part, mean=mean, deviation=deviation) for part in parts)
    return LabelledSets(train, tested)


def own_image_shape(path: str | Path) -> tuple[int, int, int] | None:
    """The (C, H, W) of a data set's images (see `load_labelled_sets`); None where each has a size of its own.

    Raises:
        DataError: it cannot be read.
    """
    return open_pool(Path(path)).shape


def _parts(own: Pool, seed: int) -> tuple[tuple[Pool, Pool], tuple[Indices, Indices]]:
    """Whose images, and which of them, are the training part and the test part."""
    test = open_test_pool(own)
    count = len(own.labels)
    if test is not None:
        return (own, test), (np.arange(count), np.arange(len(test.labels)))
    order = np.array(shuffled(own, seed))
    if count < HELD_OUT:
        raise DataError(f"{own.where}: holds {count} images, too few to hold one in {HELD_OUT} out for a test")
    held = count // HELD_OUT
    return (own, own), (np.sort(order[held:]), np.sort(order[:held]))


def _telling(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    """Tells how many images of both parts are read, from how many of this one are."""
    return lambda count: progress("read", before + count, total)


def _read(
    pool: Pool, indices: Indices, shape: tuple[int, int, int], classes: int, tell: Callable[[int], None]
) -> LabelledImages:
    """Some images of a pool, not normalised yet."""
    check_labels(pool, classes)
    size = len(indices) * math.prod(shape)
    if size > MAX_BYTES:
        what = f"{len(indices):,} images of {'x'.join(map(str, shape))} take {size / 2**30:,.1f} GiB"
        raise DataError(f"{pool.where}: {what}; at most {MAX_BYTES >> 30} GiB are held, give a smaller set")
    images = torch.empty((len(indices), *shape), dtype=torch.uint8)
    for place, index in enumerate(indices):
        pixels = fit_image(pool.read(int(index)), shape, pool.where)[0]
        images[place] = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
        if (place + 1) % _TOLD == 0 or place + 1 == len(indices):
            tell(place + 1)
    labels = torch.from_numpy(pool.labels[indices].astype(np.int64))
    return LabelledImages(images, labels, classes, (), (), f"{pool.kind}, {len(indices)} images")


def _statistics(pool: Pool, train: LabelledImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel; a constant channel has an infinite deviation, so that it becomes 0."""
    if pool.statistics is not None and train.images.shape[1] == 3:
        return tuple(pool.statistics[0]), tuple(pool.statistics[1])
    each = [_channel_statistics(train.images[:, channel]) for channel in range(train.images.shape[1])]
    return tuple(mean for mean, _ in each), tuple(deviation for _, deviation in each)


def _channel_statistics(pixels: torch.Tensor) -> tuple[float, float]:
    """Of (N, H, W) bytes, by their histogram; exact, and in little memory."""
    counts = torch.zeros(256, dtype=torch.float64)
    for chunk in pixels.split(_TOLD):
        counts += torch.bincount(chunk.flatten(), minlength=256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts / counts.sum()
    mean = float(shares @ levels)
    variance = float(shares @ (levels - mean) ** 2)
    return mean, math.sqrt(variance) if variance > _LEAST_VARIANCE else math.inf
