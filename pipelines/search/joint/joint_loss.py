"""What an assembled network has lost, and the job of measuring it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from loopmorph.passes.errors import LoopmorphError
from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.legality.predicted_loss import Judged
from loopmorph.pipelines.search.judge import Judge


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

    @staticmethod
    def of(judged: Judged) -> JointLoss:
        """What a judge has measured."""
        prediction, comparison = judged.prediction, judged.comparison
        interval = prediction.expected, prediction.low, prediction.high
        return JointLoss(comparison.kl.value, *interval, comparison.accuracy)


@dataclass(frozen=True)
class Compared:
    """What became of a network that was to be compared with its original.

    Attributes:
        loss: what it has lost; None where that could not be measured.
        refused: why the network cannot be judged; empty where it can.
        failure: why nobody knows: those who judge have ended over it.
    """

    loss: JointLoss | None = None
    refused: str = ""
    failure: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"loss": None if self.loss is None else dataclasses.asdict(self.loss), "refused": self.refused}


@dataclass(frozen=True)
class CompareJob:
    """A network that is repaired and compared with its original.

    Attributes:
        steps: from the original, as a pipeline.
        share: of the images, in (0, 1].
    """

    kind: ClassVar[str] = "compare"
    timed: ClassVar[bool] = False
    steps: str
    share: float

    def as_json(self) -> dict[str, Any]:
        return {"steps": self.steps, "share": self.share}

    @staticmethod
    def from_json(content: Any) -> CompareJob:
        """What `as_json` gave."""
        return CompareJob(content["steps"], content["share"])

    def perform(self, judge: Judge) -> Compared:
        steps = parse_steps(self.steps) if self.steps else ()
        try:
            return Compared(JointLoss.of(judge.compare(steps, self.share)))
        except LoopmorphError as error:
            return Compared(refused=str(error))

    def read(self, content: Any) -> Compared:
        loss = None if content["loss"] is None else JointLoss(**content["loss"])
        refused = content["refused"]
        if not isinstance(refused, str) or bool(refused) != (loss is None):
            raise ValueError("either a loss or a refusal are expected")
        if loss is not None:
            numbers = [loss.kl, loss.expected, loss.low, loss.high]
            if not all(isinstance(each, float) and not math.isnan(each) for each in numbers):
                raise ValueError(f"a loss of {numbers}")
            if loss.accuracy is not None and not 0 <= loss.accuracy <= 1:
                raise ValueError(f"an accuracy of {loss.accuracy}")
        return Compared(loss, refused)

    def failed(self, reason: str) -> Compared:
        return Compared(failure=reason)
