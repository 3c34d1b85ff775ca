"""The harm that variants do: what each does to its own repaired block, or, untrained, to Fisher Potential."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.block_signals import FISHER_CHANGE, RESIDUAL, BlockChange, BlockSignals
from loopmorph.pipelines.legality.proxy import FisherPotential
from loopmorph.pipelines.legality.trained import is_trained
from loopmorph.pipelines.network import Network, owning_module
from loopmorph.pipelines.support.module_paths import is_within
from loopmorph.pipelines.training.task import Task, UserTask

FISHER_DROP = "fisher-drop"
HARM = "harm"  # what a change of a block adds to the joint KL divergence, up to a factor that a network has
# Fitted to the joint KL of 45 rewritten ResNet-34 and ResNeXt-29 2x64d (docs/legality.md, "What adds up").
EXPONENTS = {FISHER_CHANGE: 0.3, RESIDUAL: 0.8}


class Harm(Protocol):
    """Measures what variants do to a network.

    Attributes:
        signal: the name of what `Variant.loss` is.
        signals: the names of all scores.
        together: how many variants that reach no layer in common to measure in one network.
    """

    @property
    def signal(self) -> str: ...

    @property
    def signals(self) -> tuple[str, ...]: ...

    @property
    def together(self) -> int: ...

    def describe(self) -> str:
        """What the scores depend on besides the network and the minibatch."""
        ...

    def measure(self, network: Network, parts: Sequence[Sequence[str]]) -> list[dict[str, float]] | None:
        """The scores of the variants that made a network, by signal.

        Args:
            network: the network after all of them.
            parts: the layers that each of them has changed.

        Returns:
            None where it cannot be told which of them has done what.

        Raises:
            ArgumentError, IllegalTransform: the network cannot be measured.
        """
        ...


@dataclass(frozen=True)
class BlockHarm:
    """The signals of each variant's own repaired blocks (see `BlockSignals`), on a trained network.

    Attributes:
        original: the network.
        task: the minibatch; one half is repaired on, the other measured.
        signal: "harm", which is the product of powers (`EXPONENTS`) of a block's signals, summed over blocks; or
            "residual" where there are no labels.
        device: where to compute.
    """

    original: Network
    task: Task
    signal: str
    device: str | None = None
    together: int = 8

    @property
    def signals(self) -> tuple[str, ...]:
        return (HARM, *EXPONENTS) if self.signal == HARM else (self.signal,)

    @cached_property
    def blocks(self) -> BlockSignals:
        """What measures; it runs the original when it is first asked for."""
        return BlockSignals(self.original, self.task, self.device)

    def describe(self) -> str:
        return f"{self.signal} of blocks"

    def measure(self, network: Network, parts: Sequence[Sequence[str]]) -> list[dict[str, float]] | None:
        changes = self.blocks.measure(network, [name for name in self.signals if name != HARM]).blocks
        found: list[dict[str, float]] = [dict.fromkeys(self.signals, 0.0) for _ in parts]
        for change in changes:
            owners = [
                k
                for k, layers in enumerate(parts)
                if any(is_within(owning_module(layer), change.path) for layer in layers)
            ]
            if len(owners) != 1:
                return None
            for name, value in self._scores(change).items():
                found[owners[0]][name] += value
        return found

    def _scores(self, change: BlockChange) -> dict[str, float]:
        """What `signals` are for one block; infinite where it overflows."""
        known = {name: change.score(name) for name in self.signals if name != HARM}
        scores = {name: math.inf if score is None else score.value for name, score in known.items()}
        if self.signal == HARM:
            whole = all(map(math.isfinite, scores.values()))
            scores[HARM] = math.prod(scores[name] ** power for name, power in EXPONENTS.items()) if whole else math.inf
        return scores


@dataclass(frozen=True)
class FisherHarm:
    """By what share a variant lowers Fisher Potential at random initialisation, which needs no trained weights.

    Attributes:
        original: the network.
        proxy: measures.
    """

    original: Network
    proxy: FisherPotential
    signal: str = FISHER_DROP
    together: int = 1

    @property
    def signals(self) -> tuple[str, ...]:
        return self.signal, self.proxy.name

    @cached_property
    def potential(self) -> float:
        """The original's.

        Raises:
            ArgumentError: nothing can be compared with it.
        """
        score = self.proxy.score(self.original)
        if score.doubt:
            raise ArgumentError("data", f"Fisher Potential says nothing of this network: {score.doubt}")
        return score.value

    def describe(self) -> str:
        return str(self.proxy.describe())

    def measure(self, network: Network, parts: Sequence[Sequence[str]]) -> list[dict[str, float]] | None:
        if len(parts) != 1:
            return None
        value = self.proxy.score(network).value
        drop = max(0.0, 1 - value / self.potential) if math.isfinite(value) else math.inf
        return [{FISHER_DROP: drop, self.proxy.name: value}]


def choose_harm(original: Network, task: Task, seed: int, device: str | None = None) -> Harm:
    """What suits a network and a minibatch: the signals of its blocks where it is trained, else Fisher Potential."""
    if task.targets is None and not isinstance(task, UserTask):
        return BlockHarm(original, task, RESIDUAL, device)
    if is_trained(original.model, task):
        return BlockHarm(original, task, HARM, device)
    return FisherHarm(original, FisherPotential(task, seed, device=device))
