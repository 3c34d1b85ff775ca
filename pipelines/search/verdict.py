"""What became of one candidate."""

from __future__ import annotations

from dataclasses import dataclass

from loopmorph.passes.errors import IllegalTransform, LoopmorphError

ACCEPTED, STRUCTURE, FAILED, WRONG = "accepted", "structure", "failed", "wrong"
WORTHWHILE = 0.98  # a candidate has to take less than this share of the original's time


@dataclass(frozen=True)
class Verdict:
    """One candidate and what became of it.

    Attributes:
        transforms: pass texts, in order.
        outcome: "accepted" (legal, checked, timed); "structure", refused by the structural rules; the name of the gate
            that refused it; "failed", not compiled, crashed or hung; "wrong", code that differs from PyTorch.
        reason: why it was refused; empty for an accepted one.
        score: what the gate's proxy says of the network with it, None where it was not measured.
        ms_before, ms_after: milliseconds of all the layers that it changes.
    """

    transforms: tuple[str, ...]
    outcome: str
    reason: str = ""
    score: float | None = None
    ms_before: float | None = None
    ms_after: float | None = None

    @property
    def saved(self) -> float | None:
        """Milliseconds that it saves on the layers that it changes; None where it is not worth it, or not accepted."""
        if self.outcome != ACCEPTED or self.ms_before is None or self.ms_after is None:
            return None
        return self.ms_before - self.ms_after if self.ms_after < WORTHWHILE * self.ms_before else None


def refused(transforms: tuple[str, ...], refusal: LoopmorphError) -> Verdict:
    """The verdict on what could not be drawn: the structure forbids it, or a pass has offered what it refuses."""
    outcome = STRUCTURE if isinstance(refusal, IllegalTransform) else FAILED
    return Verdict(transforms, outcome, str(refusal))
