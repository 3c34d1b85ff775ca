"""What a rewrite does to its blocks, as proxies: what tells cheaply that a candidate alone does too much harm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.block_signals import KL_BLOCK, RESIDUAL, BlockSignals
from loopmorph.pipelines.legality.predicted_loss import images_key
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.training.task import Classification

_TITLES = {RESIDUAL: "relative squared error of the block", KL_BLOCK: "KL of the block"}


@dataclass(frozen=True)
class BlockImages:
    """What blocks of rewrites of one network are repaired and compared on; what was measured serves all proxies.

    Attributes:
        measured_on: (N, C, H, W), the images on which outputs are compared.
        fitted_to: (M, C, H, W), others, that blocks are repaired on.
        device: where to compute; None takes a CUDA device when there is one.
    """

    measured_on: torch.Tensor
    fitted_to: torch.Tensor
    device: str | None = None
    _signals: list[BlockSignals] = field(default_factory=list, init=False, repr=False, compare=False)

    def signals(self, network: Network) -> BlockSignals:
        """What measures rewrites of the network's original: there is one for each of these objects."""
        if not self._signals:
            task = Classification(Batch(self.measured_on, None, 0, "images without labels"))
            original = network.original or network
            self._signals.append(BlockSignals(original, task, self.device, fitted_to=(self.fitted_to,)))
        return self._signals[0]


@dataclass(frozen=True)
class BlockHarm:
    """A signal of the rewritten blocks, each repaired alone, summed over them (see `BlockSignals`).

    Cost: one forward pass of the original for all candidates, and for each of them a repair of its own block, whichever
    of its signals are asked for; "kl-block" takes a forward pass of what comes after it, too.

    Attributes:
        name: "residual" or "kl-block", in nats.
        images: what is compared.
    """

    name: str
    images: BlockImages
    larger_is_better: bool = False

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return _TITLES[self.name]

    def score(self, network: Network) -> Score:
        """See `Proxy`."""
        found = self.images.signals(network).measure(network, (self.name,))
        score = found.scores[self.name]
        return Score(score.value, score.error, found.doubt)

    def describe(self) -> Any:
        return {"name": self.name, "images": images_key((self.images.measured_on, self.images.fitted_to))}
