"""KL of a network with one block replaced, as a proxy: what tells cheaply that a candidate alone does too much harm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.block_signals import KL_BLOCK, BlockSignals
from loopmorph.pipelines.legality.predicted_loss import images_key
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.training.task import Classification


@dataclass(frozen=True)
class BlockDivergence:
    """KL(original || original with the rewritten blocks replaced, each repaired alone), in nats, summed over them.

    Cost: one forward pass of the original for all candidates, and for each of them a repair of its own block and a
    forward pass of what comes after it (see `BlockSignals`).

    Attributes:
        measured_on: (N, C, H, W), the images of which predictions are compared.
        fitted_to: (M, C, H, W), others, that blocks are repaired on.
        device: where to compute; None takes a CUDA device when there is one.
    """

    measured_on: torch.Tensor
    fitted_to: torch.Tensor
    device: str | None = None
    name: str = KL_BLOCK
    title: str = "KL of the block"
    larger_is_better: bool = False
    _signals: list[BlockSignals] = field(default_factory=list, init=False, repr=False, compare=False)

    def score(self, network: Network) -> Score:
        if not self._signals:  # there is one original for each of these objects
            task = Classification(Batch(self.measured_on, None, 0, "images without labels"))
            original = network.original or network
            self._signals.append(BlockSignals(original, task, self.device, fitted_to=(self.fitted_to,)))
        found = self._signals[0].measure(network, (KL_BLOCK,))
        score = found.scores[KL_BLOCK]
        return Score(score.value, score.error, found.doubt)

    def describe(self) -> Any:
        return {"name": self.name, "images": images_key((self.measured_on, self.fitted_to))}
