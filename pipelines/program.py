"""`Program`: a network as affine nests that is also a network in PyTorch again; what a user imports and transforms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.affine import import_network
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherit import REPAIR, inherit
from loopmorph.pipelines.oracle.repair.repair import repair
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.oracle.trained_values import trained_values
from loopmorph.pipelines.support.progress import Progress, silent


@dataclass(frozen=True)
class Program(Network):
    """A network as affine loop nests, and the trainable module that it stands for (see `Network`)."""

    def inherit(self, how: str = "least-error", images: torch.Tensor | None = None, *, orders: bool = False) -> Program:
        """The same network with weights that are inherited otherwise; loops and shapes stay as they are.

        The choice becomes part of the recorded steps, so that a schedule or a `.mlir` file tells where each weight is
        from. The bottlenecks are decided anew, in order; all else inherits what it did.

        Args:
            how: "slice", "mean", "salient", "least-squares", "least-error" or "repair" (see
                `loopmorph.pipelines.oracle.inherit`).
            images: (N, C, H, W), on which all but "slice" and "mean" are judged, and to which "repair" fits the
                weights; the example inputs by default.
            orders: whether "repair" puts channels in order before they are grouped, by `morph-permute` steps that it
                chooses (see `loopmorph.pipelines.oracle.ordered`); minutes for a large network.

        Raises:
            ArgumentError: another `how`, or a network that takes more than tensors by position.
            IllegalTransform: the recorded steps do not lead to this program.
        """
        if self.example_kwargs or not all(isinstance(x, torch.Tensor) for x in self.example_inputs):
            reason = "its error cannot be judged of a network that takes keywords, nested inputs or constants"
            raise ArgumentError("how", f"{reason}; it keeps what it inherits now")
        inputs = self.example_inputs if images is None else (images,)
        judged = self.example_inputs if how == REPAIR else inputs  # the errors of what was repaired decide nothing
        return inherit(self._imported(), self, how, judged, fitted_to=inputs, orders=orders).program

    def repair(
        self,
        batches: torch.Tensor | Iterable[Any],
        settings: FitSettings | None = None,
        *,
        device: torch.device | str | None = None,
        progress: Progress = silent,
    ) -> Program:
        """The same network with the weights with which each layer is nearest to what the original's gives.

        See `loopmorph.pipelines.oracle.repair`; `repair` there also tells what was done to each layer. Loops, shapes
        and the recorded steps stay; transformations that come later keep the new values of every parameter whose
        `morph.inherit` they leave alone.

        Args:
            batches: images without labels: a tensor (N, ...), or an iterable of tensors or tuples of tensors, as a
                DataLoader gives them.
            settings: how layers are fitted; None for `FitSettings()`, plain least squares. With
                `FitSettings(refinements=8)` the fit is to what the rectifier after a layer lets through: nearer to the
                original, in twice the time; a calibration made without it does not hold for it.
            device: where to compute; None takes a CUDA device when there is one.
            progress: called with "repair", the layers that are done and all.

        Raises:
            ArgumentError: no images, or ones that the network does not take.
            IllegalTransform: the network's own code cannot run with the new shapes.
        """
        return repair(self._imported(), self, batches, settings, device=device, progress=progress).program

    def _imported(self) -> Program:
        """The network as it was imported, once more where that is not known."""
        return self.original or import_model(self.model, self.example_inputs, self.example_kwargs)

    def to_module(self) -> nn.Module:
        """The network as a trainable module: a copy of the imported one with the rewritten layers replaced.

        Raises:
            IllegalTransform: the imported module's own code cannot run with the new shapes.
        """
        return to_module(self)

    def with_weights(self, module: nn.Module) -> Program:
        """The same network with the weights that its module has now: what `to_module` gave, after it was trained.

        As with `repair`, transformations that come later keep the values of the parameters whose `morph.inherit` they
        leave alone.

        Raises:
            ArgumentError: it is the module of another program.
        """
        return self.with_values(trained_values(self, module))


def import_model(
    model: nn.Module, example_inputs: tuple[Any, ...], example_kwargs: Mapping[str, Any] | None = None
) -> Program:
    """Imports the inference form of any convolutional module as affine nests.

    Args:
        model: a module that `torch.export` accepts; it is left as it is.
        example_inputs: the positional arguments of `forward`: tensors, whose shapes become static, also in tuples,
            lists and dictionaries; numbers, text and None, whose values become part of the program.
        example_kwargs: its keyword arguments, likewise.

    Raises:
        ArgumentError: not a module, or arguments that hold something else.
        ImportRefused: an operation that cannot be exported or lowered, changes a buffer or an input in place, or draws
            random numbers; says which, and where.
    """
    network = import_network(model, example_inputs, example_kwargs)
    imported, origin = network.imported, network.origin
    return Program(network.module, model, example_inputs, imported, origin, network.example_kwargs, network.structure)
