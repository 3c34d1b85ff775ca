"""NAS-Bench-201 as a benchmark of signals: cells with their accuracies, and the figures that others have published."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.bench.signal_bench import TrainedNetwork
from loopmorph.pipelines.data.batches import load_batch
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.legality.signals import Setting, build_signals
from loopmorph.pipelines.support.digests import digest_of
from loopmorph.pipelines.support.numbers import check_count, check_seed
from loopmorph.pipelines.training.task import Classification
from loopmorph.pipelines.zoo.nasbench201 import INPUT_SHAPE, nasbench201, parse_architecture

CLASSES = 10
ARCHITECTURE = "arch"
ACCURACY = "cifar10_test_acc_200ep"

# Signal -> Spearman's correlation with the test accuracy on CIFAR-10, over all cells and within classes of equal FLOPs
# (None: not known), of the 9,445 cells without idle operations, by the scores that NAS-Bench-Suite-Zero (Krishnakumar
# et al., NeurIPS 2022) has published. Its "fisher" is the one that counts D_c once for each weight.
PUBLISHED: dict[str, tuple[float | None, float]] = {
    "fisher-weights": (0.50, 0.02),
    "jacov": (0.82, 0.53),
    "naswot": (0.79, 0.24),
    "synflow": (None, 0.11),
}


def load_cells(path: Path) -> list[tuple[str, float]]:
    """Architecture and CIFAR-10 test accuracy (per cent) of each cell of a CSV file.

    Args:
        path: has a column `arch` (see `parse_architecture`) and a column `cifar10_test_acc_200ep`.

    Raises:
        DataError: a file that is missing, cannot be read, lacks a column, or has a malformed or repeated cell; names
            the line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            missing = [name for name in (ARCHITECTURE, ACCURACY) if name not in columns]
            if missing:
                raise DataError(f"{path}: has no column '{missing[0]}' (it has {', '.join(columns) or 'none'})")
            cells = [_cell(row, f"{path}, line {reader.line_num}") for row in reader]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not a CSV file: {error}") from error
    if not cells:
        raise DataError(f"{path}: holds no cell")
    if len(dict(cells)) < len(cells):
        names = [name for name, _ in cells]
        raise DataError(f"{path}: has the cell '{next(name for name in names if names.count(name) > 1)}' twice")
    return cells


def _cell(row: dict[str, Any], where: str) -> tuple[str, float]:
    try:
        parse_architecture(row[ARCHITECTURE])
        accuracy = float(row[ACCURACY])
    except ArgumentError as error:
        raise DataError(f"{where}: {error.message}") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: '{row[ACCURACY]}' is no accuracy") from error
    if not 0 <= accuracy <= 100:
        raise DataError(f"{where}: the accuracy is {accuracy}; per cent are expected, 0 to 100")
    return row[ARCHITECTURE], accuracy


class NASBench201Bench:
    """Some cells of a file, each a `TrainedNetwork`, and the minibatch that their signals are measured on.

    Fisher Potential probes the outputs of the cells and of the reductions.

    Attributes:
        networks: the cells.
        batch: the minibatch.
        setting: what the scores depend on besides the cell (see `RowFile`).
    """

    def __init__(
        self,
        cells: Path,
        data: Path | None,
        *,
        count: int | None = None,
        images: int = 64,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        """Reads the cells and the data.

        Args:
            cells: see `load_cells`.
            data: see `load_batch`.
            count: how many cells, chosen at random by the seed; more begin with fewer. None takes all.
            images: number of images in the minibatch, at least 2.
            seed: of the weights, and chooses images and cells.
            device: where to compute; None takes a CUDA device when there is one.

        Raises:
            ArgumentError: a count or seed out of range, or fewer than 2 images.
            DataError: the cells or the data cannot be read, or are fewer than asked for.
        """
        check_seed(seed)
        check_count("images", images)
        if images < 2:
            raise ArgumentError("images", "one image was asked for; at least 2 are needed")
        chosen = _chosen(load_cells(cells), count, seed, cells)
        batch = load_batch(data, count=images, shape=INPUT_SHAPE, classes=CLASSES, seed=seed)
        inputs = digest_of((batch.images, batch.labels))[:16]
        # On a CPU these networks, with few channels and much pooling, take half the time in this layout.
        self.batch = replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
        self.setting = {"benchmark": "nasbench201", "seed": seed, "images": images, "batch": inputs}
        measure = partial(_measure, Classification(self.batch), seed, device)
        self.networks = [TrainedNetwork(name, accuracy, partial(measure, name)) for name, accuracy in chosen]


def _chosen(cells: Sequence[tuple[str, float]], count: int | None, seed: int, path: Path) -> list[tuple[str, float]]:
    shuffled = random.Random(seed).sample(cells, len(cells))
    if count is None:
        return shuffled
    check_count("count", count)
    if count > len(cells):
        raise DataError(f"{path}: holds {len(cells)} cells, fewer than the {count} asked for")
    return shuffled[:count]


def _measure(
    task: Classification, seed: int, device: str | None, architecture: str, signals: Sequence[str]
) -> dict[str, Score]:
    model = nasbench201(architecture, CLASSES)
    blocks = tuple(f"blocks.{name}" for name, _ in model.blocks.named_children())
    built = build_signals(signals, Setting(task, seed, probes=blocks, device=device))
    return {name: signal.measure(model) for name, signal in built.items()}
