"""The truth about an assembled network: what its predictions have lost, and how long it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from loopmorph.passes.history import Step, pipeline_text
from loopmorph.pipelines.search.joint.trial_store import Forgetful, TrialStore
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.tuner import Tuner

SHARES = (0.25, 1.0)  # of the images, of each level
_TIME = "time"


@dataclass(frozen=True)
class JointLoss:
    """What a whole network, repaired and not fine-tuned, has lost.

    Attributes:
        kl: joint KL in nats (see `joint_kl`); infinite where the network overflows.
        expected, low, high: points of accuracy that fine-tuning is predicted to leave it short of, and the ends of the
            interval; infinite where there is none.
        accuracy: the share of held-out images told right, before fine-tuning; None without labels.
    """

    kl: float
    expected: float
    low: float
    high: float
    accuracy: float | None = None


class Truth(Protocol):
    """Judges assembled networks, each given as the steps from the original."""

    @property
    def levels(self) -> int:
        """How many levels of care there are; the last one has all images, those before it fewer."""
        ...

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        """Whether the network admits the steps."""
        ...

    def loss(self, steps: Sequence[Step], level: int) -> JointLoss:
        """What the network with these steps has lost, measured at a level from 0.

        Raises:
            IllegalTransform: the network's own code cannot run with the new shapes.
            CompilationFailed: the process that judges crashed.
        """
        ...

    def milliseconds(self, steps: Sequence[Step]) -> float:
        """How long the whole network takes, in the table's milliseconds.

        Raises:
            CompilationFailed: it cannot be compiled, crashes or hangs.
            WrongResult: compiled, it differs from PyTorch.
        """
        ...


@dataclass
class JudgedTruth:
    """The truth as a `Judge` measures it; each network once, and what a store knows not at all.

    Times are measured in turns with the original's; what counts is the ratio, as clocks drift: milliseconds are that
    share of what the table says of the original.

    With a tuner, the code of a chosen operator is part of the choice: each network that is timed, the original and the
    baselines among them, has the algorithms and register blocks that were measured as the fastest for its layers.

    Attributes:
        judge: repairs, compares, compiles, checks and times.
        original_ms: what the table says of the original.
        store: what was measured before; keeps what is measured now.
        shares: of the images, for each level.
        tuner: tunes what is timed; None leaves code to the compiler's model.
    """

    judge: Judge
    original_ms: float
    store: TrialStore = field(default_factory=Forgetful)
    shares: tuple[float, ...] = SHARES
    tuner: Tuner | None = None
    _applicable: dict[str, bool] = field(default_factory=dict)

    @property
    def levels(self) -> int:
        return len(self.shares)

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        key = pipeline_text(steps)
        if key not in self._applicable:
            self._applicable[key] = self.judge.is_applicable(steps)
        return self._applicable[key]

    def loss(self, steps: Sequence[Step], level: int) -> JointLoss:
        share = self.shares[level]
        kind = f"loss {share:g}"
        known = _loss_from(self.store.get(kind, steps))
        if known is None:
            found = self.judge.compare(steps, share)
            prediction, comparison = found.prediction, found.comparison
            interval = prediction.expected, prediction.low, prediction.high
            known = JointLoss(comparison.kl.value, *interval, comparison.accuracy)
            self.store.put(kind, steps, dataclasses.asdict(known))
        return known

    def milliseconds(self, steps: Sequence[Step]) -> float:
        kind = _TIME if self.tuner is None else f"{_TIME} tuned {self.tuner.seconds:g} s"
        share = _number_from(self.store.get(kind, steps), "share")
        if share is None:
            timed, baseline = (self._tuned(each) for each in (steps, ()))
            self.judge.check_network(timed)
            times = self.judge.network_time(timed, baseline)
            share = times.rewritten / times.original
            self.store.put(kind, steps, {"share": share})
        return share * self.original_ms

    def _tuned(self, steps: Sequence[Step]) -> Sequence[Step]:
        return steps if self.tuner is None else self.tuner.steps(steps)


def _loss_from(content: Mapping[str, Any] | None) -> JointLoss | None:
    try:
        return None if content is None else JointLoss(**content)
    except TypeError:  # somebody else has written there
        return None


def _number_from(content: Mapping[str, Any] | None, name: str) -> float | None:
    value = None if content is None else content.get(name)
    return value if isinstance(value, float) else None
