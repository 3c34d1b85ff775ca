"""The gate: what decides whether a rewritten network is legal, of a candidate alone and of an assembled network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loopmorph.pipelines.legality.proxy import Proxy, Score

BY_FISHER, BY_REPAIR, NOT_AT_ALL = "fisher", "repair", "none"
LEGALITIES = (BY_FISHER, BY_REPAIR, NOT_AT_ALL)


@dataclass(frozen=True)
class Criterion:
    """A proxy and the score that it asks for.

    Attributes:
        proxy: scores networks.
        limit: the worst score that is legal; None for the original's.
    """

    proxy: Proxy
    limit: float | None = None

    def required(self, original: Score) -> float:
        """The worst score that is legal."""
        return original.value if self.limit is None else self.limit

    def admits(self, score: Score, original: Score) -> bool:
        """Whether a rewritten network is legal: its score is no worse than what is required.

        A NaN admits nothing, nor does an original whose score says nothing.
        """
        if original.doubt:
            return False
        required = self.required(original)
        return score.value >= required if self.proxy.larger_is_better else score.value <= required

    def refusal(self, score: Score, original: Score) -> str:
        """Why a network is not legal, in one line."""
        if original.doubt:
            return f"{self.proxy.title} cannot judge: {original.doubt}"
        relation = "<" if self.proxy.larger_is_better else ">"
        return f"{self.proxy.title} {score.value:.6g} {relation} {self.required(original):.6g}"


@dataclass(frozen=True)
class Gate:
    """How legality is judged.

    Attributes:
        name: one word, for reports; a candidate that it refuses has it for its outcome.
        reason: why this gate and no other, in one line.
        alone: what a candidate has to pass by itself, in order of the cost; none where everything passes. Candidates
            are ranked by the score of the last one.
        together: what an assembled network has to pass; None where everything does.
    """

    name: str
    reason: str = ""
    alone: tuple[Criterion, ...] = ()
    together: Criterion | None = None

    @staticmethod
    def of(proxy: Proxy, reason: str = "") -> Gate:
        """One proxy for both, whose score must not be worse than the original's."""
        criterion = Criterion(proxy)
        return Gate(proxy.name, reason, (criterion,), criterion)

    def describe(self) -> Any:
        """What verdicts depend on besides the network, as JSON can hold it."""
        if self.together is not None and self.alone == (self.together,) and self.together.limit is None:
            return self.together.proxy.describe()
        criteria = [*self.alone, *([] if self.together is None else [self.together])]
        return {"name": self.name, "criteria": [[each.proxy.describe(), each.limit] for each in criteria]}
