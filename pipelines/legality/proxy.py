"""A proxy: a number, known before training, by which a rewritten network is judged; and Fisher Potential as one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from loopmorph.pipelines.legality.fisher import FisherScore, fisher_potential
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.training.task import Task


@dataclass(frozen=True)
class Score:
    """What a proxy says of a network.

    Attributes:
        value: the number.
        error: its standard error; 0 where it has none or it is not known.
        doubt: why nothing can be compared with it, where this is the original network's score; empty where it can.
    """

    value: float
    error: float = 0.0
    doubt: str = ""


def mean_score(values: torch.Tensor) -> Score:
    """The mean of (N,) values, one an image, with its standard error; infinite where one is not finite."""
    mean = float(values.mean())
    if not math.isfinite(mean):
        return Score(math.inf, math.nan)
    return Score(mean, float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0)


class Proxy(Protocol):
    """A score of rewritten networks.

    Attributes:
        name: one word, for reports.
        title: what it is called in messages.
        larger_is_better: the direction.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def larger_is_better(self) -> bool: ...

    def score(self, network: Network) -> Score:
        """The score of a network.

        Raises:
            IllegalTransform: the network's own code cannot run with the new shapes.
        """
        ...

    def describe(self) -> Any:
        """What the scores depend on besides the network, as JSON can hold it."""
        ...


class Signal(Proxy, Protocol):
    """A proxy that needs nothing but a network as PyTorch has it: no program, no original."""

    def measure(self, model: nn.Module) -> Score:
        """The score of a network, which stays as it was.

        Raises:
            ArgumentError: the model cannot be measured; names what is missing.
        """
        ...


@dataclass(frozen=True)
class FisherPotential:
    """Fisher Potential at random initialisation on one minibatch (BlockSwap, eq. 2-3; see `fisher_potential`).

    Attributes:
        task: the minibatch.
        seed: of the initialisations.
        repeats: how many of them are averaged over.
        probes: what to probe.
        device: where to compute; None takes a CUDA device when there is one.
    """

    task: Task
    seed: int = 0
    repeats: int = 1
    probes: str | tuple[str, ...] = "blocks"
    device: str | None = None
    name: str = "fisher"
    title: str = "Fisher Potential"
    larger_is_better: bool = True

    def score(self, network: Network) -> Score:
        return self.measure(to_module(network))

    def measure(self, model: nn.Module) -> Score:
        (images,) = self.task.inputs
        found = fisher_potential(
            model,
            images,
            self.task.targets,
            seed=self.seed,
            repeats=self.repeats,
            probes=self.probes,
            device=self.device,
            loss=self.task.function,
        )
        return Score(found.mean, found.standard_error, fisher_doubt(found, images))

    def describe(self) -> Any:
        about = {"name": self.name, "seed": self.seed, "repeats": self.repeats, "loss": self.task.describe()}
        probes = self.probes if isinstance(self.probes, str) else [*self.probes]
        return about if probes == "blocks" else {**about, "probes": probes}


def fisher_doubt(found: FisherScore, images: torch.Tensor) -> str:
    """Why nothing can be compared with a potential; empty where it can."""
    if not found.finite:
        return f"the original's is {found.mean}: the network overflows"
    if found.mean == 0:
        return "the original's is 0: no gradient reaches its layers (dead activations, a single class, a constant loss)"
    if torch.equal(images.amax((0, 2, 3)), images.amin((0, 2, 3))):
        return "all images are the same single colour"
    return ""
