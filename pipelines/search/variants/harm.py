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
HARM = "harm"  # of a block: the geometric mean of these two, which adds up better than either (docs/legality.md)
_OF_BLOCK = (FISHER_CHANGE, RESIDUAL)


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
        signal: "harm", the geometric mean of a block's Fisher of the change and residual, summed over blocks: the first
            alone underrates what a hundred images do not feel, the second that not every block counts as much. Or
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
        return (HARM, *_OF_BLOCK) if self.signal == HARM else (self.signal,)

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
            scores[HARM] = math.sqrt(math.prod(scores.values())) if whole else math.inf
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
