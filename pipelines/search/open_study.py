"""The study of a search: in the file that the user names, else in the user's cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loopmorph.pipelines.legality.gate import NOT_AT_ALL, Criterion, Gate
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.search.identity import Identity
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.report import Report
from loopmorph.pipelines.search.search_space import candidate_layers
from loopmorph.pipelines.search.study import CANDIDATE, NETWORK, Record, Study, StudyFile
from loopmorph.pipelines.search.verdict import ACCEPTED


def open_study(path: Path | None, identity: Identity, network: Network, gate: Gate, judge: Judge) -> Study:
    """The study, where it ended.

    Args:
        path: a file of Optuna's (see `OptunaStudy`); None for the user's cache.
        identity: what the study is of.
        network: as imported.
        gate: gives what is scored its direction.
        judge: scores the original, which a candidate of loop steps alone does not change.

    Raises:
        ArgumentError, DataError: as of `OptunaStudy`.
    """
    if path is None:
        return StudyFile(identity.key)
    from loopmorph.pipelines.search.optuna_study import OptunaStudy  # Optuna takes long to load
    from loopmorph.pipelines.search.study_trials import MILLISECONDS, SCORE, Objective, Space

    time = Objective(MILLISECONDS)

    def unchanged() -> float:
        found = judge.score_of_original()
        return 0.0 if found is None else found.value

    objectives = {
        CANDIDATE: (time, *(Objective(SCORE, up, unchanged) for up in _directions(gate.alone[-1:]))),
        NETWORK: (time, *(Objective(SCORE, up) for up in _directions([gate.together] if gate.together else []))),
    }
    return OptunaStudy(path, identity, Space(tuple(candidate_layers(network))), objectives)


def keep_result(study: Study, report: Report, steps: tuple[str, ...]) -> None:
    """Keeps the optimised network: milliseconds, the gate's score, and what else was measured of it.

    Args:
        study: there; it gets nothing where an interrupt came before the network was timed and judged.
        report: what was measured.
        steps: the transformations that made it.
    """
    score = report.scores.get(report.legality)
    judged = report.legal is not None or not report.interrupted or report.legality == NOT_AT_ALL
    if report.optimized_ms is None or not judged:
        return
    repair = report.repair
    numbers = {
        "ms_before": report.baseline_ms,
        "ms_after": report.optimized_ms,
        "score": None if score is None else score.optimized,
        "macs": float(report.macs_after),
        "parameters": float(report.parameters_after),
        "kl": repair.kl,
        "predicted_loss": repair.predicted_loss,
        "accuracy": repair.accuracy_repaired,
    }
    known = {name: value for name, value in numbers.items() if value is not None}
    study.put(Record(NETWORK, steps, report.legality if report.legal is False else ACCEPTED, "", known))


def _directions(criteria: Sequence[Criterion]) -> tuple[bool, ...]:
    """Of each score whether a larger one is better."""
    return tuple(criterion.proxy.larger_is_better for criterion in criteria)
