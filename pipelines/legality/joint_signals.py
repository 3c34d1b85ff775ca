"""The joint KL of a repaired network with what belongs to it: its error, the predictions that stay, the accuracy."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.initialisation import check_logits
from loopmorph.pipelines.legality.joint_kl import kl_of_images
from loopmorph.pipelines.legality.proxy import Score, mean_score
from loopmorph.pipelines.legality.recording import in_chunks
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.repair.repair import Repair, repair
from loopmorph.pipelines.oracle.repair.repair_work import LayerRepair
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.support.devices import exact_arithmetic, resolve_device
from loopmorph.pipelines.support.foreign import run_model
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.task import Classification, Task


@dataclass(frozen=True)
class JointMeasurement:
    """A whole network, repaired and not yet fine-tuned, beside its original, on held-out images.

    Attributes:
        kl: KL(softmax of the original's logits || softmax of the network's), in nats, with its standard error over
            images; infinite where the network overflows.
        agreement: the share of images of which both predict the same class.
        accuracy_original, accuracy: the shares of images that are told right; None without labels.
        images: how many images were held out.
        layers: what repair did to each layer.
    """

    kl: Score
    agreement: float
    accuracy_original: float | None
    accuracy: float | None
    images: int
    layers: tuple[LayerRepair, ...]


class JointSignals:
    """Repairs and measures whole rewrites of one trained network.

    Args:
        original: the network as imported, with its trained weights.
        held_out: the images to measure on; targets None, where there are no labels.
        fitted_to: the inputs, without labels, to repair on; others than those held out.
        device: where to compute; None takes a CUDA device when there is one.

    Attributes:
        doubt: why nothing can be compared with the original; empty where it can.

    Raises:
        ArgumentError: the network fails on the images, or gives no logits.
    """

    def __init__(
        self,
        original: Network,
        held_out: Task,
        fitted_to: Sequence[torch.Tensor],
        device: torch.device | str | None = None,
    ) -> None:
        self._original, self._task, self._fitted_to = original, held_out, tuple(fitted_to)
        self._place = resolve_device(device)
        self._logits = self._run(copy.deepcopy(original.model))
        self._known: dict[str, JointMeasurement] = {}
        self._repaired: tuple[str, Repair[Network]] | None = None  # the last one
        self.doubt = "" if bool(self._logits.isfinite().all()) else "the original gives NaN or infinities"

    def measure(self, program: Network, progress: Progress = silent) -> JointMeasurement:
        """Repairs a rewrite and compares it with the original.

        Raises:
            ArgumentError: the network takes more than tensors by position.
            IllegalTransform: the network's own code cannot run with the new shapes.
        """
        key = str(program)
        if key not in self._known:
            found = self.repaired(program, progress)
            self._known[key] = self.compare(found.program, found.layers)
        return self._known[key]

    def repaired(self, program: Network, progress: Progress = silent) -> Repair[Network]:
        """The rewrite with weights fitted to the original's outputs; the last one is kept.

        Raises:
            ArgumentError, IllegalTransform: see `measure`.
        """
        key = str(program)
        if self._repaired is None or self._repaired[0] != key:
            found = repair(self._original, program, [self._fitted_to], device=self._place, progress=progress)
            self._repaired = key, found
        return self._repaired[1]

    def compare(self, repaired: Network, layers: tuple[LayerRepair, ...] = ()) -> JointMeasurement:
        """Compares a network with the original, as it is.

        Args:
            repaired: has the weights to be judged.
            layers: what repair did to each layer.

        Raises:
            IllegalTransform: the network's own code cannot run with the new shapes.
        """
        changed = any(step.kind == "neural" for step in repaired.history)
        logits = self._run(to_module(repaired)) if changed else self._logits
        labelled = isinstance(self._task, Classification) and self._task.targets is not None
        return JointMeasurement(
            mean_score(kl_of_images(self._logits, logits)),
            float((logits.argmax(1) == self._logits.argmax(1)).double().mean()),
            self._task.metric(self._logits) if labelled else None,
            self._task.metric(logits) if labelled else None,
            len(logits),
            layers,
        )

    def _run(self, model: nn.Module) -> torch.Tensor:
        """The logits of a network, which is changed, on the held-out images; on the CPU."""
        twin = switch_to_inference(model).to(self._place)
        found = []
        with torch.no_grad(), exact_arithmetic():
            for chunk in in_chunks(self._task.inputs):
                logits = run_model(twin, *(x.to(self._place) for x in chunk))
                check_logits(logits, len(chunk[0]))
                found.append(logits.cpu())
        if not found:
            raise ArgumentError("images", "none are held out; at least one is needed")
        return torch.cat(found)
