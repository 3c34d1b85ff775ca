"""Distillation: a network learns what another one gives, beside what the labels say."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.hooks import RemovableHandle

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.support.blocks import outer_blocks
from loopmorph.pipelines.support.devices import lay_out
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.inference import switch_to_inference

# Images as the network takes them, its outputs, and the labels -> the mean loss of the batch.
Objective = Callable[[torch.Tensor, Any, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Teacher:
    """A network whose outputs another one is trained to give (Hinton, Vinyals and Dean 2015, section 2).

    With t and s the logits of teacher and student, T the temperature and w the weight, the loss of a batch is
    `w T^2 KL(softmax(t / T) || softmax(s / T)) + (1 - w) CE(s, label)`. T^2 keeps the two in proportion whatever T is,
    since the gradient of the first shrinks with it. To it comes, for a student that has the teacher's blocks, rewritten
    or not, `b mean_k (|s_k - t_k|^2 / |t_k|^2)`, with s_k and t_k what the k-th of them gives (Romero et al. 2015,
    without their regressor, as shapes agree): what a block is told of itself, it learns sooner than from the logits.

    The defaults are what served ResNet-34 best of what was tried (docs/legality.md). Networks beside it make t the
    logarithm of the mean of all their probabilities, which is right more often than any of them; a network that is
    taught so may become better than what it began as (Furlanello et al. 2018).

    Attributes:
        network: takes (N, C, H, W) and gives logits (N, classes), as the student; left as it is.
        temperature: T; the higher, the more the classes count that the teacher thinks unlikely.
        weight: w, from 0 to 1.
        blocks: b; 0 leaves the blocks out. A block is a module in which activations meet, and that is in no other such
            module; those count that the student has under the same name, with an output of the same shape. A block
            of which the student has no parameter left gives on what the one before it gave: that one is told to give
            what comes after both, and not two things at once. A student that begins as the teacher itself is told
            nothing by its blocks but to stay: there they are left out.
        beside: networks that teach together with it, by their logits alone.
    """

    network: nn.Module
    temperature: float = 4.0
    weight: float = 1.0
    blocks: float = 16.0
    beside: tuple[nn.Module, ...] = ()

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All that teach, the one whose blocks count first."""
        return self.network, *self.beside

    @property
    def whole(self) -> nn.Module:
        """What gives its logits: the network, or all of them together."""
        return Together(self.networks) if self.beside else self.network

    def check(self) -> None:
        """Raises:
        ArgumentError: a value that is out of range; names it.
        """
        for network in self.networks:
            if not isinstance(network, nn.Module):
                raise ArgumentError("teacher", f"a {type(network).__name__} was given; an nn.Module is expected")
        if not 0 < self.temperature < math.inf:
            raise ArgumentError("temperature", f"expected a positive number, got {self.temperature!r}")
        if not 0 <= self.weight <= 1:
            raise ArgumentError("weight", f"expected a share from 0 to 1, got {self.weight!r}")
        if not 0 <= self.blocks < math.inf:
            raise ArgumentError("blocks", f"expected a number of at least 0, got {self.blocks!r}")

    def describe(self) -> str:
        """The settings as one line that differs where they do."""
        several = f", teachers={1 + len(self.beside)}" if self.beside else ""
        return f"temperature={self.temperature}, teacher_weight={self.weight}, teacher_blocks={self.blocks}{several}"

    @contextmanager
    def objective(
        self, labels: Objective, student: nn.Module, images: torch.Tensor, device: torch.device
    ) -> Iterator[Objective]:
        """The loss with a copy of the teacher on a device, in inference form, which computes as the student does.

        Args:
            labels: the loss against the labels.
            student: what is trained; within the context the outputs of its blocks are noted whenever it runs.
            images: (N, C, H, W), N of at least 1, as the networks take them, by which blocks are found.
            device: where the student is trained.

        Raises:
            ArgumentError: the teacher fails on the images.
        """
        paths = self._blocks_in_common(student, images)
        twins = copy.deepcopy(self)
        whole, network = switch_to_inference(twins.whole).requires_grad_(False).to(device), twins.network
        lay_out(whole, torch.channels_last)
        temperature, weight = self.temperature, self.weight
        found_in: dict[str, torch.Tensor] = {}
        wanted_in: dict[str, torch.Tensor] = {}

        def loss(images: torch.Tensor, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
            expected = _logits(whole, images, outputs)
            found, wanted = (F.log_softmax(each.float() / temperature, dim=1) for each in (outputs, expected))
            divergence = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
            total = weight * temperature**2 * divergence
            if weight < 1:
                total = total + (1 - weight) * labels(images, outputs, targets)
            errors = _relative_errors(found_in, wanted_in)
            found_in.clear()
            wanted_in.clear()
            return total + self.blocks * torch.stack(errors).mean() if errors else total

        with hooked(_noting(student, paths, found_in)), hooked(_noting(network, paths, wanted_in)):
            yield loss

    def _blocks_in_common(self, student: nn.Module, images: torch.Tensor) -> list[str]:
        if not self.blocks or _are_same(student, self.network):
            return []
        try:
            paths = outer_blocks(copy.deepcopy(self.network).cpu(), images.cpu())
        except ArgumentError as error:
            raise ArgumentError("teacher", error.message) from error
        owned = dict(student.named_modules())
        found = [path for path in paths if path in owned]
        dropped = {path for path in found if next(owned[path].parameters(), None) is None}
        return [path for path, after in itertools.zip_longest(found, found[1:]) if after not in dropped]


class Together(nn.Module):
    """Several networks that tell classes apart as one: gives the logarithm of the mean of their probabilities."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, classes)."""
        logs = [F.log_softmax(network(images).float(), dim=1) for network in self.networks]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))


def _are_same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(tensor.cpu(), states[1][name].cpu()) for name, tensor in states[0].items()
    )


def _noting(network: nn.Module, paths: list[str], outputs: dict[str, torch.Tensor]) -> Iterator[RemovableHandle]:
    """Keeps what some modules give when the network runs in `outputs`, by their paths."""
    for path in paths:

        def note(_module: nn.Module, _args: object, output: Any, path: str = path) -> None:
            if isinstance(output, torch.Tensor):
                outputs[path] = output

        yield network.get_submodule(path).register_forward_hook(note)


def _relative_errors(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """|s - t|^2 / |t|^2 of the outputs that both have in the same shape; one of all zeros says nothing."""
    errors = []
    for path, target in wanted.items():
        output = found.get(path)
        if output is not None and output.shape == target.shape:
            squared = (output.float() - target.float()).square().mean()
            errors.append(squared / target.float().square().mean().clamp_min(torch.finfo(torch.float32).tiny))
    return errors


def label_loss(smoothing: float) -> Objective:
    """Cross-entropy of logits, against (N,) or (N, classes) labels, of which a share is spread over all classes."""

    def loss(_images: torch.Tensor, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.float(), labels, label_smoothing=smoothing)

    return loss


def _logits(network: nn.Module, images: torch.Tensor, outputs: Any) -> torch.Tensor:
    """What the teacher gives.

    Raises:
        ArgumentError: it fails, or gives something else than the student.
    """
    try:
        with torch.no_grad():
            logits: Any = network(images)
    except Exception as error:  # the user's own forward may raise anything
        reason = f"in eval mode it fails on a batch of shape {tuple(images.shape)}: {describe(error)}"
        raise ArgumentError("teacher", reason) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != outputs.shape:
        given = f"a tensor {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ArgumentError("teacher", f"it gives {given}, the network that it teaches {tuple(outputs.shape)}")
    return logits
