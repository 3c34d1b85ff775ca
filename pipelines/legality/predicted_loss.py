"""The loss of accuracy that fine-tuning will leave of a repaired network, as a proxy: repair, then measure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import Step, parse_steps, pipeline_text
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.data.held_out import part_of
from loopmorph.pipelines.legality.calibration import Calibration, Prediction
from loopmorph.pipelines.legality.joint_signals import JointMeasurement, JointSignals
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.legality.size import compression
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherit import REPAIR, Inherited, NetworkT, inherit
from loopmorph.pipelines.oracle.kept_channels import KnownLosses
from loopmorph.pipelines.oracle.repair.repair_work import LayerRepair
from loopmorph.pipelines.support.digests import digest_of
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.task import Classification

KL, COMPRESSION = "kl", "compression"
_CHANNELS_ON = 64  # images


@dataclass(frozen=True)
class Judged:
    """What was measured of a repaired network.

    Attributes:
        comparison: its predictions beside the original's, before any fine-tuning.
        prediction: what it will lose after fine-tuning.
    """

    comparison: JointMeasurement
    prediction: Prediction


@dataclass(frozen=True)
class Fitted:
    """A network as it was repaired to be judged, as data that another process can be sent.

    Attributes:
        steps: of the network, as pass texts; they say which channels bottlenecks keep.
        values: name of each parameter that was fitted -> its values, on the CPU.
        errors, layers: see `Inherited`.
        judged: what was measured of it.
    """

    steps: tuple[str, ...]
    values: Mapping[str, torch.Tensor]
    errors: Mapping[str, float]
    layers: tuple[LayerRepair, ...]
    judged: Judged


@dataclass(frozen=True)
class PredictedLoss:
    """The upper end of the interval for the points of accuracy that a network will lose after fine-tuning.

    The whole network is repaired (see `inherit`), its predictions on images that the repair did not see are compared
    with the original's (joint KL), and a calibration says what networks with such a KL, and so much smaller, lost.

    Cost: a repair, and a forward pass of the held-out images.

    Attributes:
        fitted_to: the inputs that weights are fitted to.
        held_out: other images, with labels or None in their place.
        calibration: has the signal "kl".
        device: where predictions are compared; None takes a CUDA device when there is one.
        max_loss: points; what was fitted of the last network that `score` says to lose no more is kept (see `kept`).
    """

    fitted_to: tuple[torch.Tensor, ...]
    held_out: Batch
    calibration: Calibration
    device: str | None = None
    name: str = "predicted-loss"
    title: str = "predicted loss of accuracy, upper end,"
    larger_is_better: bool = False
    max_loss: float = math.inf
    _kept: dict[str, Fitted] = field(default_factory=dict, init=False, repr=False, compare=False)
    _channels: KnownLosses = field(default_factory=dict, init=False, repr=False, compare=False)
    _joint: list[JointSignals] = field(default_factory=list, init=False, repr=False, compare=False)

    def score(self, network: Network) -> Score:
        original = network.original or network
        found = self.repaired(original, network)
        judged = self.measure(original, found.program)
        score = self.verdict(original, judged)
        if score.value <= self.max_loss:
            self.keep(network, found, judged)
        return score

    def keep(self, network: Network, found: Inherited[Network], judged: Judged) -> None:
        """Keeps what was fitted of a network, in place of what was kept before; of the original there is nothing."""
        if network.history:
            self._kept.clear()  # of a large network it is much
            self._kept[pipeline_text(network.history)] = _fitted(found, judged)

    def kept(self, steps: Sequence[Step]) -> Fitted | None:
        """What was fitted when the network after some steps was judged; None where that was not kept."""
        return self._kept.get(pipeline_text(steps))

    def restored(self, original: NetworkT, network: NetworkT, fitted: Fitted) -> Inherited[NetworkT]:
        """A network with the weights that were fitted when it was judged, and what `repaired` tells of them.

        Args:
            original: the network as imported.
            network: the neural steps that were judged, and perhaps others, which change no value.
            fitted: of those.
        """
        judged = parse_steps(",".join(fitted.steps))
        chosen = (step for step in judged if step.kind == "neural")
        steps = [next(chosen) if step.kind == "neural" else step for step in network.history]
        program = original.after(steps).with_values(fitted.values)
        return Inherited(program, REPAIR, fitted.errors, fitted.layers)

    def verdict(self, original: Network, judged: Judged) -> Score:
        """What was measured, as a score."""
        return Score(judged.prediction.high, doubt=self._comparing(original).doubt)

    def repaired(self, original: NetworkT, network: NetworkT, tell: Progress = silent) -> Inherited[NetworkT]:
        """The network with weights that are fitted to the original's outputs.

        Raises:
            IllegalTransform: the network's own code cannot run with the new shapes.
        """
        first = tuple(x[:_CHANNELS_ON] for x in self.fitted_to)
        return inherit(original, network, REPAIR, first, tell, fitted_to=self.fitted_to, known=self._channels)

    def measure(self, original: Network, repaired: Network) -> Judged:
        """Compares a network that is repaired with its original, and predicts its loss."""
        comparison = self._comparing(original).compare(repaired)
        signals = {KL: comparison.kl.value, COMPRESSION: compression(original, repaired)}
        return Judged(comparison, self.calibration.predict(signals))

    def on_share(self, share: float) -> PredictedLoss:
        """The same with the first images alone, of those that weights are fitted to and of those held out: cheaper.

        Args:
            share: of the images, in (0, 1].
        """
        if share >= 1:
            return self
        fitted_to = tuple(x[: math.ceil(share * len(x))] for x in self.fitted_to)
        count = math.ceil(share * len(self.held_out.images))
        return replace(self, fitted_to=fitted_to, held_out=part_of(self.held_out, 0, count))

    def describe(self) -> Any:
        about = [self.held_out.images, *self.fitted_to]
        return {"name": self.name, "calibration": calibration_key(self.calibration), "images": images_key(about)}

    def _comparing(self, original: Network) -> JointSignals:
        """What has run the original on the held-out images: there is one original for each of these objects."""
        if not self._joint:
            self._joint.append(JointSignals(original, Classification(self.held_out), self.fitted_to, self.device))
        return self._joint[0]


def _fitted(found: Inherited[Network], judged: Judged) -> Fitted:
    values = {name: repaired.value.cpu() for name, repaired in found.program.repaired.items()}
    return Fitted(found.program.steps, values, dict(found.errors), found.layers, judged)


def calibration_key(calibration: Calibration) -> str:
    """What identifies a calibration: all that it predicts by."""
    networks = [[network.signals, network.accuracy] for network in calibration.networks]
    content = [asdict(calibration.provenance), calibration.accuracy, networks]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=dict).encode()).hexdigest()[:16]


def images_key(tensors: Sequence[torch.Tensor]) -> str:
    """What identifies some images."""
    return digest_of(tensors)[:16]


def greatest_kl(calibration: Calibration, max_loss: float) -> float:
    """The greatest KL, in nats, of which the calibration still says that no more than `max_loss` points are lost.

    That is of a network with as much work as the original. What is predicted grows with the KL and with how much work
    is saved, so that no network with a greater KL is said to lose so little.

    Raises:
        ArgumentError: it does not know the signal, or says so of no network at all.
    """
    if KL not in calibration.signals:
        known = ", ".join(calibration.signals)
        raise ArgumentError("calibration", f"it has no signal '{KL}' to judge a repaired network by; it has {known}")

    def high(kl: float) -> float:
        return calibration.predict({KL: kl, COMPRESSION: 1.0}).high

    least = high(0.0)
    if least > max_loss:
        reason = f"of {len(calibration.networks)} networks of the calibration, even one that predicts as the original"
        what = f"is said to lose up to {least:.2g} points; expected no less, or a calibration with more networks"
        raise ArgumentError("max_loss", f"{max_loss:g} is not to be told apart from none: by {reason} {what}")
    worst = max(network.signals[KL] for network in calibration.networks)
    low, greatest = 0.0, worst
    if high(worst) <= max_loss:
        return worst
    for _ in range(50):  # the upper end grows with the KL
        middle = (low + greatest) / 2
        low, greatest = (middle, greatest) if high(middle) <= max_loss else (low, middle)
    return low
