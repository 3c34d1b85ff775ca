"""A `model.pt` in training: the rewritten network, and its original as the teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.ingress.state import load_state
from loopmorph.pipelines.rewritten.origin import origin_of
from loopmorph.pipelines.search.saved_model import load_model
from loopmorph.pipelines.training.distillation import Teacher
from loopmorph.pipelines.zoo import is_in_zoo

ORIGINAL, NONE = "original", "none"  # teachers; all else names a file of weights


@dataclass(frozen=True)
class Retrained:
    """A `model.pt` that is trained on.

    Attributes:
        path: the file.
        network: the rewritten network, with the file's weights.
        original: what it was made from; its weights are the user's own, or those that its seed gives.
        example_inputs: of both.
        named: what `original` was built from.
    """

    path: Path
    network: nn.Module
    original: nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    named: str

    @classmethod
    def load(cls, path: Path, original: str | None = None) -> Retrained:
        """Reads the file.

        Args:
            path: as `loopmorph optimize --out` wrote it.
            original: see `load_model`.

        Raises:
            ArgumentError, DataError, IllegalTransform: see `load_model`.
        """
        network = load_model(path, original)
        origin = origin_of(network)
        assert origin is not None  # what was loaded knows where it is from
        named = original or origin.model
        loaded = resolve_model(named, seed=origin.seed)  # once more: what is trained shares nothing with it
        return cls(path, network, loaded.model, loaded.example_inputs, named)

    def teacher(self, asked: Sequence[str] = ()) -> Teacher | None:
        """The original as a teacher, with other weights of it beside it, or None.

        Args:
            asked: each is `original` or a file with the original's weights (see `load_state`), the first of them that
                whose blocks count; or `none` alone; or nothing for the original where its weights are known, else none.

        Raises:
            ArgumentError: the original is asked for, and no file has its trained weights; `none` is asked for beside
                others.
            DataError: the weights cannot be read, or are of another network.
        """
        fresh = is_in_zoo(self.named)  # a network of the zoo is built with weights that nobody has trained
        names = list(asked) or [NONE if fresh else ORIGINAL]
        if names == [NONE]:
            return None
        if NONE in names:
            raise ArgumentError("teacher", f"'{NONE}' was asked for beside others; it is expected alone")
        if fresh and ORIGINAL in names:
            what = f"{self.path} was made from '{self.named}' of the zoo and does not hold its trained weights"
            raise ArgumentError("teacher", f"{what}; name their file (--teacher WEIGHTS.pt), or have none")
        first, *beside = [self._with_weights(name) for name in names]
        return Teacher(first, beside=tuple(beside))

    def _with_weights(self, name: str) -> nn.Module:
        network = copy.deepcopy(self.original)
        if name != ORIGINAL:
            load_state(network, Path(name))
        return network
