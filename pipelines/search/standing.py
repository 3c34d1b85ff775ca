"""How a search stands, for whoever looks on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.search.combiner import Judged
from loopmorph.pipelines.search.joint.trials import Trial


@dataclass(frozen=True)
class Standing:
    """How a search stands.

    Attributes:
        gate: by what networks are judged.
        outcomes: what became of candidates (see `Verdict.outcome`) -> of how many.
        best: the best that is known so far, in a few words.
    """

    gate: str
    outcomes: Mapping[str, int]
    best: str


Watch = Callable[[Standing], None]


def unwatched(standing: Standing) -> None:
    """Nobody looks on."""


def standing_of(gate: Gate, tried: Sequence[Judged]) -> Standing:
    """How a search stands that has judged these candidates; the best is what layers save that are not combined yet."""
    saved: dict[str, float] = {}
    for entry in tried:
        if entry.verdict.saved is not None:
            saved[entry.candidate.layer] = max(entry.verdict.saved, saved.get(entry.candidate.layer, 0.0))
    layers = f"{len(saved)} layer{'s' if len(saved) > 1 else ''}"
    best = f"{sum(saved.values()):.3g} ms saved in {layers}" if saved else "nothing faster yet"
    return Standing(gate.name, Counter(entry.verdict.outcome for entry in tried), best)


def standing_of_trials(gate: Gate, trials: Sequence[Trial], levels: int, limit_ms: float | None) -> Standing:
    """How a joint choice stands: the best is the one with the least KL of those that keep a limit of milliseconds.

    Args:
        gate: judges.
        trials: what was assembled.
        levels: of joint losses, the last one on all images.
        limit_ms: by the clock of the trials; None where there is none.
    """
    outcomes = Counter("failed" if trial.failure else "judged" for trial in trials if trial.failure or trial.losses)
    whole = [trial for trial in trials if trial.is_whole(levels)]
    timed = [(trial.kl, trial.milliseconds) for trial in whole if trial.milliseconds is not None]
    kept = [(kl, ms) for kl, ms in timed if limit_ms is None or ms <= limit_ms]
    best = "KL {:.3g} nats at {:.3g} ms".format(*min(kept)) if kept else "none that keeps the limit yet"
    return Standing(gate.name, outcomes, best)
