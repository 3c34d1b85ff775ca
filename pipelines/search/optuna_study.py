"""A study in a file that a user names: one of Optuna's, so that its dashboard and its plots open it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from loopmorph.passes.errors import DataError, LoopmorphError
from loopmorph.pipelines.search.identity import Identity
from loopmorph.pipelines.search.study import CANDIDATE, Record
from loopmorph.pipelines.search.study_trials import Objective, Space, read_record, trial_of
from loopmorph.pipelines.store.optuna_storage import open_storage, quiet_optuna, read_storage
from loopmorph.pipelines.support.foreign import describe

_ABOUT = "loopmorph"  # the attribute of Optuna's studies that says what they are
_LONGEST = 60  # characters of what is quoted where two studies differ


class OptunaStudy:
    """A `Study` in a file of Optuna's; several searches may write to it at once, and use each other's records.

    Each kind of record has a study of Optuna, with a trial for each record: COMPLETE where it was accepted, PRUNED
    where a rule or the gate has refused it, FAIL where it failed or came out wrong. A trial is written at once and
    whole, so that a process that is killed loses none but the one in flight. Of two records of the same thing that two
    searches have made at once the first counts, for both.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        space: Space,
        objectives: Mapping[str, Sequence[Objective]],
    ) -> None:
        """Opens the file, or begins it.

        Args:
            path: a journal or SQLite, by its suffix (see `open_storage`).
            identity: what the study is of.
            space: what the parameters of its trials are drawn from.
            objectives: kind of record -> what its trials' values are; of other kinds it is a record's first number.

        Raises:
            ArgumentError: the file cannot be written, or its name does not say what it is.
            DataError: it is damaged, something else, or of another study, and says in what it differs.
        """
        self.path = path
        self._identity, self._space, self._objectives = identity, space, objectives
        self._known: dict[tuple[str, tuple[str, ...]], Record] = {}
        self._seen: dict[str, int] = {}
        self._studies: dict[str, optuna.Study] = {}
        self._storage = open_storage(path)
        with self._guarded():
            self._check_others()

    def get(self, steps: Sequence[str], kind: str = CANDIDATE) -> Record | None:
        self._refresh(kind)
        return self._known.get((kind, tuple(steps)))

    def put(self, record: Record) -> Record:
        known = self.get(record.steps, record.kind)
        if known is not None:
            return known
        objectives = self._objectives.get(record.kind) or [Objective(name) for name in [*record.numbers][:1]]
        with self._guarded():
            self._begun(record.kind, objectives).add_trial(trial_of(record, self._space, objectives))
        return self.get(record.steps, record.kind) or record

    def close(self) -> None:
        close_storage(self._storage)

    def _refresh(self, kind: str) -> None:
        with self._guarded():
            study = self._found(kind)
            trials = [] if study is None else study.get_trials(deepcopy=False)
        for trial in trials[self._seen.get(kind, 0) :]:
            if not trial.state.is_finished():
                break  # somebody else's; what comes after it is looked at again
            self._seen[kind] = trial.number + 1
            record = parse_trial(self.path, trial)
            if record is not None and record.final:
                self._known.setdefault((record.kind, record.steps), record)

    def _found(self, kind: str) -> optuna.Study | None:
        """The study of a kind, where somebody has begun it."""
        if kind not in self._studies:
            try:
                self._studies[kind] = optuna.load_study(
                    study_name=self._identity.optuna_name(kind), storage=self._storage
                )
            except KeyError:
                return None
        return self._studies[kind]

    def _begun(self, kind: str, objectives: Sequence[Objective]) -> optuna.Study:
        """The study of a kind, begun where it was not; one that a killed process has begun is completed."""
        study = self._found(kind) or optuna.create_study(
            storage=self._storage,
            study_name=self._identity.optuna_name(kind),
            directions=["maximize" if each.larger_is_better else "minimize" for each in objectives],
            load_if_exists=True,
        )
        self._studies[kind] = study
        if _ABOUT not in study.user_attrs:
            study.set_metric_names([each.name for each in objectives])
            about = {"name": self._identity.name, "kind": kind, "about": dict(self._identity.about)}
            study.set_user_attr(_ABOUT, about)
        return study

    def _check_others(self) -> None:
        """Refuses a file that has studies, but neither this one nor a place for it."""
        others = []
        for summary in optuna.get_all_study_summaries(self._storage, include_best_trial=False):
            if _ABOUT in summary.user_attrs:
                others.append(described(self.path, summary.user_attrs[_ABOUT]))
        if any((other.name, other.key) == (self._identity.name, self._identity.key) for other in others):
            return
        if self._identity.named:
            others = [other for other in others if other.name == self._identity.name]
        if others:
            nearest = min(others, key=lambda other: len(self._differences(other)))
            what = ", ".join(self._differences(nearest)) or "something that it does not tell"
            found = f"its study '{nearest.name}' is of another search, differing in {what}"
            raise DataError(f"{self.path}: {found}; name another study (--study-name) or another file")

    def _differences(self, other: Identity) -> list[str]:
        there, here = dict(other.about), dict(self._identity.about)
        names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        return [_difference(name, there.get(name, "none"), here.get(name, "none")) for name in names]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with quiet_optuna(), readable(self.path):
            yield


@dataclass(frozen=True)
class StoredStudy:
    """A study of a file, as it is read to be shown.

    Attributes:
        identity: what it is of.
        records: what was tried of all kinds, of the same thing the first final record, in the order in which they came.
    """

    identity: Identity
    records: tuple[Record, ...]


def read_studies(path: Path) -> list[StoredStudy]:
    """All of loopmorph's studies in a file, in the order of their beginnings; the file stays as it is.

    Raises:
        ArgumentError: the file's suffix.
        DataError: there is no such file, it is damaged or something else, or it has no such study.
    """
    storage = read_storage(path)
    found: dict[tuple[str, str], tuple[Identity, dict[tuple[str, tuple[str, ...]], Record]]] = {}
    with quiet_optuna(), readable(path):
        for summary in optuna.get_all_study_summaries(storage, include_best_trial=False):
            if _ABOUT not in summary.user_attrs:
                continue
            identity = described(path, summary.user_attrs[_ABOUT])
            _, records = found.setdefault((identity.name, identity.key), (identity, {}))
            for trial in optuna.load_study(study_name=summary.study_name, storage=storage).get_trials(deepcopy=False):
                record = parse_trial(path, trial)
                if record is not None:
                    _keep(records, record)
    close_storage(storage)
    if not found:
        raise DataError(f"{path}: holds no study of loopmorph")
    return [StoredStudy(identity, tuple(records.values())) for identity, records in found.values()]


def _keep(records: dict[tuple[str, tuple[str, ...]], Record], record: Record) -> None:
    key = record.kind, record.steps
    if key not in records or not records[key].final:
        records[key] = record


def parse_trial(path: Path, trial: FrozenTrial) -> Record | None:
    """The record of a trial; None where somebody else has made it.

    Raises:
        DataError: it was a record, and is damaged.
    """
    try:
        return read_record(trial.user_attrs)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: trial {trial.number} is damaged ({describe(error)}); it is left as it is") from error


def described(path: Path, content: Any) -> Identity:
    """What a study says that it is of.

    Raises:
        DataError: it says something else.
    """
    try:
        texts = {str(name): str(value) for name, value in content["about"].items()}
        return Identity(str(content["name"]), texts)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: what a study says of itself is damaged; it is left as it is") from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever Optuna raises over a file becomes one line.

    Raises:
        DataError: the file cannot be read or written.
    """
    try:
        yield
    except LoopmorphError:
        raise
    except Exception as error:  # its storages raise their own errors, SQLAlchemy's and the system's
        raise DataError(f"{path}: Optuna cannot go on with it: {describe(error)}") from error


def close_storage(storage: BaseStorage) -> None:
    """Closes what a storage has open."""
    engine = getattr(storage, "engine", None)  # SQLite's
    if engine is not None:
        storage.remove_session()
        engine.dispose()


def _difference(name: str, there: str, here: str) -> str:
    short = max(len(there), len(here)) <= _LONGEST
    return f"{name} ('{there}', not '{here}')" if short else name
