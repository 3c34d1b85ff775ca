"""All signals by name: what a command can list, and what makes a proxy out of a name.

A plug-in is a package with an entry point in the group `loopmorph.signals` whose value is a mapping of names to
`SignalEntry`, as `SIGNALS` is.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.plug_ins import by_name, plug_ins
from loopmorph.passes.registry import did_you_mean
from loopmorph.pipelines.data.labelled_images import LabelledImages
from loopmorph.pipelines.legality.block_signals import FISHER_CHANGE, KL_BLOCK, RESIDUAL, BlockSignals
from loopmorph.pipelines.legality.calibration import EARLY_LOSS
from loopmorph.pipelines.legality.early_loss import EarlyLoss
from loopmorph.pipelines.legality.fisher_weights import fisher_of_weights
from loopmorph.pipelines.legality.jacov import jacov
from loopmorph.pipelines.legality.joint_signals import JointSignals
from loopmorph.pipelines.legality.naswot import naswot
from loopmorph.pipelines.legality.proxy import FisherPotential, Proxy, Score, Signal
from loopmorph.pipelines.legality.size import Macs, Params
from loopmorph.pipelines.legality.synflow import synflow
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.recipe import FineTuning
from loopmorph.pipelines.training.task import Task

ENTRY_POINT_GROUP = "loopmorph.signals"


@dataclass(frozen=True)
class Setting:
    """What signals are measured with.

    Attributes:
        task: the minibatch.
        seed: of the initialisations; repeat r takes seed + r.
        repeats: how many of them are averaged over.
        probes: what Fisher Potential probes (see `fisher_potential`).
        device: where to compute; None takes a CUDA device when there is one.
        blocks, joint: what `TRAINED_SIGNALS` are measured with: the trained original beside which rewrites are put.
        train: what "early-loss" is trained on.
        progress: called as it is trained (see `finetune`).
    """

    task: Task
    seed: int = 0
    repeats: int = 1
    probes: str | tuple[str, ...] = "blocks"
    device: str | None = None
    blocks: BlockSignals | None = None
    joint: JointSignals | None = None
    train: LabelledImages | None = None
    progress: Progress = silent


ProxyT_co = TypeVar("ProxyT_co", bound=Proxy, covariant=True)


@dataclass(frozen=True)
class SignalEntry(Generic[ProxyT_co]):
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
    build: Callable[[Setting], ProxyT_co]


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

SIGNALS: dict[str, SignalEntry[Signal]] = {
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


@dataclass(frozen=True)
class OfBlocks:
    """A signal of the blocks that a rewrite changes, summed over them, with its standard error over images.

    Attributes:
        name, title: see `Proxy`.
        blocks: measures; a block is repaired once for all of its signals.
    """

    name: str
    title: str
    blocks: BlockSignals
    larger_is_better: bool = False

    def score(self, network: Network) -> Score:
        found = self.blocks.measure(network, (self.name,))
        if self.name in found.missing:
            raise ArgumentError("signals", f"{self.name} cannot be measured: {found.missing[self.name]}")
        return replace(found.scores[self.name], doubt=found.doubt)

    def describe(self) -> Any:
        return {"name": self.name}


@dataclass(frozen=True)
class JointKL:
    """KL of the whole repaired network, with its standard error over images.

    Attributes:
        joint: measures.
    """

    joint: JointSignals
    name: str = "kl"
    title: str = "joint KL"
    larger_is_better: bool = False

    def score(self, network: Network) -> Score:
        return self.joint.measure(network).kl

    def describe(self) -> Any:
        return {"name": self.name}


def _of_blocks(name: str, title: str) -> Callable[[Setting], Proxy]:
    def build(setting: Setting) -> Proxy:
        if setting.blocks is None:
            raise ArgumentError("signals", f"{name} needs the trained original that a network is a rewrite of")
        return OfBlocks(name, title, setting.blocks)

    return build


def _joint_kl(setting: Setting) -> Proxy:
    if setting.joint is None:
        raise ArgumentError("signals", "kl needs the trained original that a network is a rewrite of, and its logits")
    return JointKL(setting.joint)


def _early_loss(setting: Setting) -> Proxy:
    if setting.joint is None or setting.train is None:
        reason = "needs the trained original that a network is a rewrite of, and labelled images to train on"
        raise ArgumentError("signals", f"{EARLY_LOSS} {reason}")
    settings = FineTuning(seed=setting.seed)
    return EarlyLoss(setting.joint, setting.train, settings, setting.device, setting.progress)


_BLOCK_COST = "the repair of the blocks that change"

TRAINED_SIGNALS: dict[str, SignalEntry[Proxy]] = {
    RESIDUAL: SignalEntry(
        "relative squared error of the repaired blocks' outputs",
        "He et al., ICCV 2017",
        _BLOCK_COST,
        _of_blocks(RESIDUAL, "residual of the blocks"),
    ),
    FISHER_CHANGE: SignalEntry(
        "Fisher Potential of the change of the blocks' outputs",
        "BlockSwap's eq. 2, with the change in the activation's place",
        f"{_BLOCK_COST}; one backward pass of the original for all",
        _of_blocks(FISHER_CHANGE, "Fisher of the change"),
    ),
    KL_BLOCK: SignalEntry(
        "KL of the predictions with one block replaced, summed over blocks",
        "a baseline",
        f"{_BLOCK_COST} and the network behind them",
        _of_blocks(KL_BLOCK, "KL of blocks"),
    ),
    "kl": SignalEntry(
        "KL of the predictions of the whole repaired network",
        "a baseline",
        "the repair of the network and one forward pass",
        _joint_kl,
    ),
    EARLY_LOSS: SignalEntry(
        "mean training loss of the repaired network, steps 10 to 60 of fine-tuning",
        "training speed estimation: Ru et al., NeurIPS 2021",
        "the repair of the network and 60 steps of training; wants a GPU",
        _early_loss,
    ),
}


@functools.cache
def all_signals() -> Mapping[str, SignalEntry[Signal]]:
    """The signals at initialisation: `SIGNALS` and those of plug-ins.

    The result is computed once in a process; `all_signals.cache_clear()` makes the next call look again.

    Raises:
        ArgumentError: a plug-in does not load, offers something that is no signal, or takes a name twice.
    """
    own = [("loopmorph", name, entry) for name, entry in SIGNALS.items()]
    trained = [("loopmorph", name, None) for name in TRAINED_SIGNALS]  # their names are taken as well
    found = by_name([*own, *trained, *_plug_in_signals()], "signals", "signal")
    return MappingProxyType({name: entry for name, entry in found.items() if entry is not None})


def _plug_in_signals() -> Iterator[tuple[str, str, SignalEntry[Signal]]]:
    for provider, offered in plug_ins(ENTRY_POINT_GROUP, Mapping, "a mapping of names to SignalEntry"):
        for name, entry in offered.items():
            if not (isinstance(name, str) and isinstance(entry, SignalEntry)):
                raise ArgumentError("signals", f"{provider} offers {name!r}: {entry!r}; expected a name: SignalEntry")
            yield provider, name, entry


def parse_signals(text: str, *, trained: bool = False) -> tuple[str, ...]:
    """Names of signals out of a text that separates them by commas, each once, in their order.

    Args:
        text: the names.
        trained: whether those of `TRAINED_SIGNALS` count as well.

    Raises:
        ArgumentError: an unknown name, or none.
    """
    known = [*TRAINED_SIGNALS, *all_signals()] if trained else [*all_signals()]
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ArgumentError("signals", f"none was named; known are {', '.join(known)}")
    for name in names:
        if name in TRAINED_SIGNALS and not trained:
            reason = "is a signal of a trained network's rewrites; see 'loopmorph legality'"
            raise ArgumentError("signals", f"'{name}' {reason}; known here are {', '.join(known)}")
        if name not in known:
            hint = did_you_mean(name, known)
            raise ArgumentError("signals", f"'{name}' is not known{hint}; known are {', '.join(known)}")
    return names


def build_signals(names: Sequence[str], setting: Setting) -> dict[str, Signal]:
    """The signals at initialisation of some names, ready to measure.

    Raises:
        ArgumentError: an unknown name.
    """
    return {name: all_signals()[name].build(setting) for name in parse_signals(",".join(names))}


def build_proxies(names: Sequence[str], setting: Setting) -> dict[str, Proxy]:
    """The signals of some names, those of `TRAINED_SIGNALS` among them, ready to score programs.

    Raises:
        ArgumentError: an unknown name, or one that needs what the setting does not have.
    """
    found: dict[str, Proxy] = {}
    for name in parse_signals(",".join(names), trained=True):
        entry = TRAINED_SIGNALS[name] if name in TRAINED_SIGNALS else all_signals()[name]
        found[name] = entry.build(setting)
    return found
