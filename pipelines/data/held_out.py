"""Images in two parts that share none: some to fit weights to, others to judge the result on."""

from __future__ import annotations

from pathlib import Path

import torch

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.data.batches import Batch, check_shape, open_pool, open_test_pool, read_batch, shuffled
from loopmorph.pipelines.support.numbers import check_seed

LEAST = 64  # images held out: of fewer a mean says little
_PART = 3  # of a set without a test part, one image in so many may be held out


class TooFewImages(DataError):
    """There are too few images to hold some out; says how many are needed."""


def load_in_two(
    path: str | Path, *, count: int, held_out: int, shape: tuple[int, int, int], seed: int = 0
) -> tuple[Batch, Batch]:
    """Up to `count` images, and up to `held_out` others.

    The others are from the test part that a data set has for it (see `load_labelled_sets`), or else images that are
    not among the first; at most a third of all, but `LEAST`. The first are those that `load_images` gives for the same
    seed. Labels may be of any kind.

    Args:
        path, shape, seed: see `load_batch`.
        count, held_out: images of each part, at least 1.

    Raises:
        TooFewImages: fewer than `LEAST` for each part.
        ArgumentError, DataError: see `load_targets`.
    """
    check_shape(shape, 1)
    check_seed(seed)
    pool = open_pool(Path(path), any_labels=True)
    order = shuffled(pool, seed)
    test = open_test_pool(pool)
    if test is None:
        kept = count_held_out(len(order), held_out, str(pool.where))
        first = order[: min(count, len(order) - kept)]
        return read_batch(pool, first, shape), read_batch(pool, order[len(first) : len(first) + kept], shape)
    if len(test.labels) < LEAST:
        raise TooFewImages(f"{test.where}: holds {len(test.labels)} images to test with; at least {LEAST} are needed")
    return read_batch(pool, order[:count], shape), read_batch(test, shuffled(test, seed)[:held_out], shape)


def split_in_two(batch: Batch, count: int, held_out: int) -> tuple[Batch, Batch]:
    """The same of a batch: its first images, and others after them.

    Raises:
        TooFewImages: fewer than `LEAST` for each part.
    """
    total = len(batch.images)
    kept = count_held_out(total, held_out, "the data")
    first = min(count, total - kept)
    return part_of(batch, 0, first), part_of(batch, first, first + kept)


def count_held_out(total: int, wanted: int, where: str) -> int:
    """How many of some images are held out.

    Raises:
        TooFewImages: fewer than `LEAST` for each part.
    """
    if total < 2 * LEAST:
        what = f"holds {total} images; to repair with some and to judge on others, at least {2 * LEAST} are needed"
        raise TooFewImages(f"{where}: {what}")
    return min(wanted, max(LEAST, total // _PART))


def part_of(batch: Batch, begin: int, end: int) -> Batch:
    """Some of the images; with their labels where these are a tensor."""
    labels = batch.labels[begin:end] if isinstance(batch.labels, torch.Tensor) else None
    return Batch(batch.images[begin:end], labels, batch.classes, f"{batch.source}, {end - begin} of them")
