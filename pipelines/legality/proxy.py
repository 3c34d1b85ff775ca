"""A proxy: a number, known before training, by which a rewritten network is judged; and Fisher Potential as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from loopmorph.pipelines.legality.fisher import fisher_potential
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.training.task import Task


@dataclass(frozen=True)
class Score:
    """What a proxy says of a network.

    Attributes:
        value: the number.
        error: its standard error; 0 where it has none or it is not known.
    """

    value: float
    error: float = 0.0


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


def admits(proxy: Proxy, score: Score, original: Score) -> bool:
    """Whether a rewritten network is legal: its score is no worse than the original's. A NaN admits nothing."""
    return score.value >= original.value if proxy.larger_is_better else score.value <= original.value


@dataclass(frozen=True)
class FisherPotential:
    """Fisher Potential at random initialisation on one minibatch (BlockSwap, eq. 2-3; see `fisher_potential`).

    Attributes:
        task: the minibatch.
        seed: of the initialisations.
        repeats: how many of them are averaged over.
    """

    task: Task
    seed: int = 0
    repeats: int = 1
    name: str = "fisher"
    title: str = "Fisher Potential"
    larger_is_better: bool = True

    def score(self, network: Network) -> Score:
        (images,) = self.task.inputs
        found = fisher_potential(to_module(network), images, self.task.targets, seed=self.seed, repeats=self.repeats)
        return Score(found.mean, found.standard_error)

    def describe(self) -> Any:
        return {"name": self.name, "seed": self.seed, "repeats": self.repeats}
