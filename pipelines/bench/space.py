"""Rewrites of a trained network as a benchmark of signals: what these say beforehand, and what training gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.bench.signal_bench import TrainedNetwork
from loopmorph.pipelines.bench.signal_rows import SignalRow
from loopmorph.pipelines.bench.space_networks import SpaceRow, read_space, rewritten
from loopmorph.pipelines.data.held_out import load_in_two
from loopmorph.pipelines.data.labelled_images import LabelledImages
from loopmorph.pipelines.legality.block_signals import BlockSignals
from loopmorph.pipelines.legality.calibration import EARLY_LOSS
from loopmorph.pipelines.legality.joint_signals import JointSignals
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.legality.signals import TRAINED_SIGNALS, Setting, build_proxies
from loopmorph.pipelines.program import import_model
from loopmorph.pipelines.support.digests import digest_of
from loopmorph.pipelines.support.numbers import check_count, check_seed
from loopmorph.pipelines.training.task import Classification, image_shape, training_part


class SpaceBench:
    """The networks of a file (see `read_space`), each a `TrainedNetwork`, rebuilt from the trained original by passes.

    Signals of the trained original are measured as the gate of `optimize` does: repaired on some images, compared on
    others.

    Attributes:
        networks: the rewrites; the original itself, from which they are told, is left out.
        setting: what the scores depend on besides the network (see `RowFile`).
        source: where the images are from.
    """

    def __init__(
        self,
        rows: Path,
        model: nn.Module,
        example: torch.Tensor,
        data: Path,
        *,
        images: int = 512,
        held_out: int = 1000,
        count: int | None = None,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        """Reads the networks and the data.

        Args:
            rows: see `read_space`.
            model: the trained original.
            example: one input of it.
            data: see `load_batch`; where there is a test part, the images that are held out are from it. "early-loss"
                trains on all of the rest (see `load_labelled_sets`).
            images: how many the rewrites are repaired on.
            held_out: how many others they are compared on.
            count: how many networks, the first ones of the file; None for all.
            seed: chooses the images, and draws the weights of signals at initialisation.
            device: where to compute; None takes a CUDA device when there is one.

        Raises:
            ArgumentError: a count or a seed out of range, or a model that takes other than one image.
            DataError: the file or the data cannot be read.
            ImportRefused: the model cannot be imported.
        """
        check_seed(seed)
        for name, value in (("images", images), ("held_out", held_out), *([] if count is None else [("count", count)])):
            check_count(name, value)
        known = [row for row in read_space(rows) if not row.is_original][:count]
        if not known:
            raise DataError(f"{rows}: holds no rewrite")
        self._original, self._data, self._seed, self._device = import_model(model, (example,)), data, seed, device
        shape = image_shape(self._original)
        self._fitted_to, self._measured = load_in_two(data, count=images, held_out=held_out, shape=shape, seed=seed)
        self.source = f"{self._fitted_to.source}; held out {self._measured.source}"
        inputs = digest_of((self._fitted_to.images, self._measured.images, *model.state_dict().values()))[:16]
        self.setting = {"benchmark": "space", "seed": seed, "inputs": inputs}
        self.networks = [TrainedNetwork(row.name, row.accuracy, _Measure(self, row)) for row in known]

    def ranked(self, rows: Sequence[SignalRow]) -> list[SignalRow]:
        """The rows with what is better the smaller it is negated, as `rank_table` takes them."""
        return [replace(row, scores={name: _larger(name, score) for name, score in row.scores.items()}) for row in rows]

    def measure(self, row: SpaceRow, names: Sequence[str]) -> dict[str, Score]:
        """The scores of one network.

        Raises:
            LoopmorphError: the network cannot be built or measured.
        """
        program = rewritten(self._original, row.specification)
        setting = replace(self._proxies, train=self._train) if EARLY_LOSS in names else self._proxies
        return {name: proxy.score(program) for name, proxy in build_proxies(names, setting).items()}

    @cached_property
    def _train(self) -> LabelledImages:
        return training_part(self._original, self._data, self._seed)

    @cached_property
    def _proxies(self) -> Setting:
        task = Classification(self._measured)
        fitted_to = (self._fitted_to.images,)
        blocks = BlockSignals(self._original, task, self._device, fitted_to=fitted_to)
        joint = JointSignals(self._original, task, fitted_to, self._device)
        return Setting(task, self._seed, device=self._device, blocks=blocks, joint=joint)


class _Measure:
    """Measures one network when it is asked to."""

    def __init__(self, bench: SpaceBench, row: SpaceRow) -> None:
        self._bench, self._row = bench, row

    def __call__(self, names: Sequence[str]) -> dict[str, Score]:
        return self._bench.measure(self._row, names)


def _larger(name: str, score: Score) -> Score:
    return replace(score, value=-score.value) if name in TRAINED_SIGNALS else score
