"""All signals by name: what a command can list, and what makes a proxy out of a name."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.registry import did_you_mean
from loopmorph.pipelines.legality.fisher_weights import fisher_of_weights
from loopmorph.pipelines.legality.jacov import jacov
from loopmorph.pipelines.legality.naswot import naswot
from loopmorph.pipelines.legality.proxy import FisherPotential, Score, Signal
from loopmorph.pipelines.legality.size import Macs, Params
from loopmorph.pipelines.legality.synflow import synflow
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.training.task import Task


@dataclass(frozen=True)
class Setting:
    """What signals are measured with.

    Attributes:
        task: the minibatch.
        seed: of the initialisations; repeat r takes seed + r.
        repeats: how many of them are averaged over.
        probes: what Fisher Potential probes (see `fisher_potential`).
        device: where to compute; None takes a CUDA device when there is one.
    """

    task: Task
    seed: int = 0
    repeats: int = 1
    probes: str | tuple[str, ...] = "blocks"
    device: str | None = None


@dataclass(frozen=True)
class SignalEntry:
    """A row of the table.

    Attributes:
        summary: what it is, in one line, for a list.
        source: who has defined it.
        cost: what it takes for one network.
        build: makes it.
    """

    summary: str
    source: str
    cost: str
    build: Callable[[Setting], Signal]


class _Once(Protocol):
    """One measurement at one initialisation."""

    def __call__(self, model: nn.Module, task: Task, *, seed: int, device: str | None) -> Score: ...


class _OnImages(Protocol):
    """The same, of a signal that takes no labels."""

    def __call__(self, model: nn.Module, images: torch.Tensor, *, seed: int, device: str | None) -> Score: ...


@dataclass(frozen=True)
class AtInitialisation:
    """A signal as the mean over random initialisations, with its standard error.

    Attributes:
        name, title: see `Proxy`.
        once: the measurement of one initialisation.
        setting: what it is measured with.
    """

    name: str
    title: str
    once: _Once
    setting: Setting
    larger_is_better: bool = True

    def score(self, network: Network) -> Score:
        return self.measure(to_module(network))

    def measure(self, model: nn.Module) -> Score:
        setting = self.setting
        seeds = range(setting.seed, setting.seed + setting.repeats)
        found = [self.once(model, setting.task, seed=seed, device=setting.device) for seed in seeds]
        values = [score.value for score in found]
        doubt = next((score.doubt for score in found if score.doubt), "")
        return Score(sum(values) / len(values), _standard_error(values), doubt)

    def describe(self) -> Any:
        setting = self.setting
        return {"name": self.name, "seed": setting.seed, "repeats": setting.repeats, "loss": setting.task.describe()}


def _standard_error(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    if not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values) / math.sqrt(len(values))


def _labelled(name: str, title: str, once: _Once) -> Callable[[Setting], Signal]:
    return lambda setting: AtInitialisation(name, title, once, setting)


def _unlabelled(name: str, title: str, on_images: _OnImages) -> Callable[[Setting], Signal]:
    def once(model: nn.Module, task: Task, *, seed: int, device: str | None) -> Score:
        (images,) = task.inputs
        return on_images(model, images, seed=seed, device=device)

    return _labelled(name, title, once)


def _fisher(setting: Setting) -> Signal:
    return FisherPotential(setting.task, setting.seed, setting.repeats, setting.probes, setting.device)


_ABDELFATTAH = "Abdelfattah et al., ICLR 2021"
_ONE_PASS = "one forward and one backward pass"

SIGNALS: dict[str, SignalEntry] = {
    "fisher": SignalEntry(
        "Fisher Potential of the blocks' outputs", "BlockSwap: Turner et al., ICLR 2020", _ONE_PASS, _fisher
    ),
    "fisher-weights": SignalEntry(
        "Fisher Potential of every layer's output, once for each weight",
        _ABDELFATTAH,
        _ONE_PASS,
        _labelled("fisher-weights", "Fisher Potential of weights", fisher_of_weights),
    ),
    "jacov": SignalEntry(
        "how little the Jacobians of different images are correlated",
        "Mellor et al., arXiv:2006.04647v1, 2020",
        _ONE_PASS,
        _unlabelled("jacov", "Jacobian covariance", jacov),
    ),
    "naswot": SignalEntry(
        "log-determinant of the kernel of ReLU codes",
        "Mellor et al., ICML 2021",
        "one forward pass",
        _unlabelled("naswot", "NASWOT", naswot),
    ),
    "synflow": SignalEntry(
        "synaptic flow of all weights; takes no data",
        f"Tanaka et al., NeurIPS 2020; {_ABDELFATTAH}",
        f"{_ONE_PASS} on one image",
        _unlabelled("synflow", "synaptic flow", synflow),
    ),
    "macs": SignalEntry(
        "multiply-accumulate operations of one image", "a baseline", "next to none", lambda setting: Macs(setting.task)
    ),
    "params": SignalEntry("trainable parameters", "a baseline", "none", lambda setting: Params()),
}


def parse_signals(text: str) -> tuple[str, ...]:
    """Names of signals out of a text that separates them by commas, each once, in their order.

    Raises:
        ArgumentError: an unknown name, or none.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ArgumentError("signals", f"none was named; known are {', '.join(SIGNALS)}")
    for name in names:
        if name not in SIGNALS:
            hint = did_you_mean(name, SIGNALS)
            raise ArgumentError("signals", f"'{name}' is not known{hint}; known are {', '.join(SIGNALS)}")
    return names


def build_signals(names: Sequence[str], setting: Setting) -> dict[str, Signal]:
    """The signals of some names, ready to measure.

    Raises:
        ArgumentError: an unknown name.
    """
    return {name: SIGNALS[name].build(setting) for name in parse_signals(",".join(names))}
