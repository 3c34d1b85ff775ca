"""A study in a file, and records to put there."""

from __future__ import annotations

from pathlib import Path

from search_fakes import GROUP, LOOPS

from loopmorph.pipelines.search.identity import Identity
from loopmorph.pipelines.search.optuna_study import OptunaStudy
from loopmorph.pipelines.search.study import CANDIDATE, NETWORK, Record
from loopmorph.pipelines.search.study_trials import Objective, Space

UNCHANGED = 0.5  # the score of candidates with loop steps alone
IDENTITY = Identity("net", {"network": "ab" * 40, "data": "digits", "seed": "0"})


def split(factor: int, outcome: str = "accepted") -> Record:
    """A record of a candidate with loop steps alone."""
    return Record(CANDIDATE, (f"morph-split{{layer=conv1 iter=ow factor={factor}}}",), outcome, "", times(2.0, 1.0))


def times(before: float, after: float) -> dict[str, float]:
    return {"ms_before": before, "ms_after": after}


def opened(path: Path, identity: Identity = IDENTITY) -> OptunaStudy:
    """A study in a file, which is made where there is none."""
    scored = (Objective("ms"), Objective("score", True, lambda: UNCHANGED))
    networks = (Objective("ms"), Objective("score", True))
    return OptunaStudy(path, identity, Space(("conv1", "conv2")), {CANDIDATE: scored, NETWORK: networks})


GROUPED = Record(CANDIDATE, (GROUP, LOOPS), "accepted", "", {"score": 0.7, **times(3.0, 1.5)})
REFUSED = Record(CANDIDATE, (GROUP,), "fisher", "Fisher Potential 0.1 < 0.5", {"score": float("inf")})
FAILED = Record(CANDIDATE, (LOOPS,), "failed", "worker killed by SIGSEGV")
WHOLE = Record(NETWORK, (GROUP,), "accepted", "", {"score": 0.6, "kl": 0.25, **times(10.0, 4.0)})
