"""A `model.pt` in training: the rewritten network, and its original as the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.ingress.state import load_state
from loopmorph.pipelines.rewritten.origin import origin_of
from loopmorph.pipelines.search.saved_model import load_model
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

    def teacher(self, asked: str | None) -> nn.Module | None:
        """The original as a teacher, or None.

        Args:
            asked: `original`; `none`; a file with the original's weights (see `load_state`); or None for the original
                where its weights are known, else none.

        Raises:
            ArgumentError: the original is asked for, and no file has its trained weights.
            DataError: the weights cannot be read, or are of another network.
        """
        fresh = is_in_zoo(self.named)  # a network of the zoo is built with weights that nobody has trained
        if asked == NONE or (asked is None and fresh):
            return None
        if asked is None or asked == ORIGINAL:
            if fresh:
                what = f"{self.path} was made from '{self.named}' of the zoo and does not hold its trained weights"
                raise ArgumentError("teacher", f"{what}; name their file (--teacher WEIGHTS.pt), or have none")
            return self.original
        load_state(self.original, Path(asked))
        return self.original
