"""The loss of the first steps of fine-tuning as a proxy: what takes training, but little of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.labelled_images import LabelledImages
from loopmorph.pipelines.legality.calibration import EARLY_LOSS
from loopmorph.pipelines.legality.joint_signals import JointSignals
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.finetune import EARLY, Diverged, finetune
from loopmorph.pipelines.training.recipe import FineTuning


@dataclass(frozen=True)
class EarlyLoss:
    """The mean training loss of steps 10 to 60 (`EARLY`) of fine-tuning a repaired network, in nats.

    Ru et al., "Speedy Performance Estimation for Neural Architecture Search" (NeurIPS 2021): the sum of training
    losses (TSE) ranks networks by what they generalise to, since what learns fast generalises (Lyle et al., NeurIPS
    2020). There from random weights and over whole epochs; here from repaired ones, over the steps in which
    calibration notes it, with the learning rates that these have in the whole run. Infinite where the loss is not
    finite.

    Cost: the repair of the network and 60 steps of training. One run is one draw of images and shifts, the same for
    all networks of one seed; it has no standard error.

    Attributes:
        joint: repairs.
        train: what the network is trained on.
        settings: of the whole run.
        device: where to train; None takes a CUDA device when there is one.
        progress: see `finetune`.
    """

    joint: JointSignals
    train: LabelledImages
    settings: FineTuning
    device: str | None = None
    progress: Progress = silent
    name: str = EARLY_LOSS
    title: str = "early loss of fine-tuning"
    larger_is_better: bool = False

    def score(self, network: Network) -> Score:
        """See `Proxy`.

        Raises:
            ArgumentError: too few images for that many steps, or a network that cannot be trained on them.
        """
        module = to_module(self.joint.repaired(network).program)
        device, progress = self.device, self.progress
        try:
            tuned = finetune(module, self.train, self.settings, steps=EARLY[1], device=device, progress=progress)
        except Diverged:
            return Score(math.inf, math.nan)
        if tuned.early_loss is None:
            what = f"{len(self.train)} images make {tuned.steps} steps in {self.settings.epochs} epochs"
            raise ArgumentError("data", f"{what}; {self.name} is the mean loss of those after the first {EARLY[0]}")
        return Score(tuned.early_loss, doubt=self.joint.doubt)

    def describe(self) -> Any:
        return {"name": self.name, "training": self.settings.describe(), "images": self.train.source}
