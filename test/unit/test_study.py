"""A study in a file of Optuna's: what is kept, what survives a kill, who may share it, and which files are refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileSymlinkLock
from search_fakes import GROUP, LOOPS
from study_files import FAILED, GROUPED, IDENTITY, REFUSED, UNCHANGED, WHOLE, opened, split, times

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.search.identity import Identity
from loopmorph.pipelines.search.open_study import keep_result
from loopmorph.pipelines.search.optuna_study import read_studies
from loopmorph.pipelines.search.report import NOT_MEASURED, Report, ScoreReport
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.study import CANDIDATE, NETWORK, Record, StudyFile
from loopmorph.pipelines.search.study_store import StudyStore
from loopmorph.pipelines.store.optuna_storage import open_storage, quiet_optuna

BEGUN = 0  # what a process tells before its first record
FILES = pytest.mark.parametrize("name", ["study.log", "study.db"])


@FILES
def test_everything_is_kept_and_optuna_reads_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with closing(opened(path)) as study:
        assert [study.put(each) for each in (GROUPED, REFUSED, FAILED, WHOLE)] == [GROUPED, REFUSED, FAILED, WHOLE]
    with closing(opened(path)) as again:
        assert again.get((GROUP, LOOPS)) == GROUPED and again.get((GROUP,)) == REFUSED
        assert again.get((GROUP,), NETWORK) == WHOLE
        assert again.get((LOOPS,)) is None  # what failed is tried again
        better = again.put(split(4))
        assert again.get(better.steps) == better and better.steps == FAILED.steps
    (stored,) = read_studies(path)
    assert stored.identity.about == IDENTITY.about and stored.identity.name == "net"
    assert list(stored.records) == [GROUPED, REFUSED, better, WHOLE]
    candidates = optuna_study(path, CANDIDATE)
    assert [trial.state.name for trial in candidates.trials] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
    first, last = candidates.trials[0], candidates.trials[-1]
    assert first.params == {"layer": "conv2", "transforms": "group", "loop_steps": 1}
    assert first.values == [-1.5, 0.7] and first.user_attrs["steps"] == [GROUP, LOOPS]
    assert last.values == [-1.0, UNCHANGED] and last.params["transforms"] == "none"
    assert candidates.metric_names == ["ms", "score"]
    (network,) = optuna_study(path, NETWORK).trials
    assert network.values == [4.0, 0.6] and network.params == {"layers": 1, "steps": 1}


def optuna_study(path: Path, kind: str) -> optuna.Study:
    with quiet_optuna():
        return optuna.load_study(study_name=IDENTITY.optuna_name(kind), storage=open_storage(path))


def test_an_accepted_record_needs_its_values(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "a.log")) as study:
        with pytest.raises(ArgumentError, match="'record': a candidate that is accepted needs the number 'ms'"):
            study.put(Record(CANDIDATE, (GROUP,), "accepted", "", {"score": 1.0}))
        with pytest.raises(ArgumentError, match="'record': a network that is accepted needs the number 'score'"):
            study.put(Record(NETWORK, (GROUP,), "accepted", "", times(2.0, 1.0)))
        assert study.get((GROUP,)) is None


@FILES
def test_what_else_is_measured_of_networks_is_kept(name: str, tmp_path: Path) -> None:
    path, both = tmp_path / name, parse_steps(f"{GROUP},{LOOPS}")
    lost = {"kl": 0.25, "low": float("-inf"), "accuracy": None}
    with closing(opened(path)) as study:
        store = StudyStore(study)
        assert store.get("loss 0.25", both) is None and not has_study(path)
        store.put("loss 0.25", both, lost)
        store.put("loss 0.25", (), {"kl": float("inf")})
        store.put("time", both, {"share": 0.5})
    with closing(opened(path)) as study:
        store = StudyStore(study)
        assert store.get("loss 0.25", both) == {"kl": 0.25, "low": float("-inf")}
        assert store.get("loss 0.25", ()) == {"kl": float("inf")} and store.get("time", ()) is None
        assert store.get("time", both) == {"share": 0.5} and store.get("loss 1", both) is None
    losses = optuna_study(path, "loss 0.25")
    assert losses.metric_names == ["kl"] and [trial.value for trial in losses.trials] == [0.25, float("inf")]
    records = read_studies(path)[0].records
    assert [record.kind for record in records] == ["loss 0.25", "loss 0.25", "time"]
    assert [record.steps for record in records] == [(GROUP, LOOPS), (), (GROUP, LOOPS)]


def test_the_cache_keeps_what_else_is_measured(tmp_path: Path) -> None:
    def stored(key: str) -> StudyStore:
        return StudyStore(StudyFile(key, tmp_path))

    grouped = parse_steps(GROUP)
    stored("key").put("time", grouped, {"share": 0.5})
    assert stored("key").get("time", grouped) == {"share": 0.5}
    assert stored("other").get("time", grouped) is None and stored("key").get("loss 1", grouped) is None
    with closing(StudyFile("key", tmp_path)) as study:
        for nonsense in ("[1", "[1]", '{"kind": 1}'):
            study.execute(f"UPDATE records SET record = '{nonsense}'")
            assert StudyStore(study).get("time", grouped) is None


def test_a_result_is_kept_unless_an_interrupt_has_left_it_unmeasured(tmp_path: Path) -> None:
    scores = {"fisher": ScoreReport("Fisher Potential", 1.0, 2.0)}
    measured = {"baseline_ms": 2.0, "optimized_ms": 1.0, "macs_before": 8, "macs_after": 4}
    counted = {"parameters_before": 6, "parameters_after": 3, "layers": ()}
    whole = Report("net", "digits", legality="fisher", legal=True, scores=scores, **measured, **counted)
    untimed = replace(whole, baseline_ms=None, optimized_ms=None, interrupted=True)
    unjudged = replace(whole, scores=NOT_MEASURED, legal=None, interrupted=True)
    with closing(opened(tmp_path / "study.log")) as study:
        for report in (untimed, unjudged):
            keep_result(study, report, (GROUP,))
            assert study.get((GROUP,), NETWORK) is None
        keep_result(study, replace(whole, legal=False), (LOOPS,))
        keep_result(study, replace(whole, interrupted=True), (GROUP,))  # no more candidates were drawn
        numbers = {**times(2.0, 1.0), "score": 2.0, "macs": 4.0, "parameters": 3.0}
        assert study.get((GROUP,), NETWORK) == Record(NETWORK, (GROUP,), "accepted", "", numbers)
        assert study.get((LOOPS,), NETWORK) == Record(NETWORK, (LOOPS,), "fisher", "", numbers)


def has_study(path: Path) -> bool:
    """Whether a file has a study in it."""
    with quiet_optuna():
        return bool(optuna.get_all_study_names(open_storage(path)))


# ---- kills, and several searches at once


def write_many(path: Path, numbers: range, told: Connection) -> None:
    """Says when it begins, puts records, and tells the number of each when it is kept."""
    with closing(opened(path)) as study:
        told.send(BEGUN)
        for number in numbers:
            study.put(split(number))
            told.send(number)


def started(path: Path, numbers: range) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """A process that puts records, and what it tells: `BEGUN`, and the number of each record."""
    told, telling = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=write_many, args=(path, numbers, telling), daemon=True)
    process.start()
    telling.close()
    return process, told


def received(told: Connection) -> int:
    """The next number, which is waited for no longer than a minute."""
    assert told.poll(60), "nothing was told"
    number: int = told.recv()
    return number


def all_of(told: Connection) -> Iterator[int]:
    try:
        while True:
            yield received(told)
    except EOFError:
        return


@FILES
def test_a_kill_loses_at_most_the_trial_in_flight(name: str, tmp_path: Path) -> None:
    path, generator, begin = tmp_path / name, random.Random(3), 1
    for _ in range(3):
        process, told = started(path, range(begin, 1000))
        assert received(told) == BEGUN
        kept = [received(told) for _ in range(generator.randrange(1, 5))]
        told.poll(generator.random() * 0.003)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kept += all_of(told)
        found = [record.steps for study in read_studies(path) for record in study.records]
        assert found[: kept[-1]] == [split(number).steps for number in range(1, kept[-1] + 1)]
        assert len(found) <= kept[-1] + 1
        begin = kept[-1] + 1
    with closing(opened(path)) as study:
        assert study.get(split(1).steps) == split(1)


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    with closing(opened(path)) as study:
        study.put(split(2))
        with path.open("ab") as file:
            file.write(b'{"op_code":4,"worker_id":"' + b"7" * 200_000)
        study.put(split(3))  # another search goes on
    with path.open("ab") as file:
        file.write(b'{"op_co')
    with closing(opened(path)) as study:
        assert study.get(split(2).steps) == split(2) and study.get(split(3).steps) == split(3)
        study.put(split(4))
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_what_other_programs_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    lock = JournalFileSymlinkLock(str(path))
    with closing(opened(path)) as study:
        assert lock.acquire()
        process, told = started(path, range(2, 3))
        assert received(told) == BEGUN
        assert not told.poll(0.2)
        lock.release()
        assert list(all_of(told)) == [2]
        process.join()
        assert study.get(split(2).steps) == split(2)
    assert [each.name for each in tmp_path.iterdir()] == ["study.log"]


@FILES
def test_two_searches_share_a_study_and_agree(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    both = [started(path, range(1, 8)), started(path, range(1, 12))]  # both begin the file
    assert [len(list(all_of(told))) for _, told in both] == [1 + 7, 1 + 11]
    for process, _ in both:
        process.join()
        assert process.exitcode == 0
    (stored,) = read_studies(path)
    assert sorted(record.steps for record in stored.records) == sorted(split(number).steps for number in range(1, 12))


@FILES
def test_of_two_records_of_the_same_the_first_counts(name: str, tmp_path: Path) -> None:
    with closing(opened(tmp_path / name)) as first, closing(opened(tmp_path / name)) as second:
        mine = Record(CANDIDATE, (LOOPS,), "accepted", "", times(2.0, 1.0))
        theirs = Record(CANDIDATE, (LOOPS,), "accepted", "", times(2.0, 1.1))
        assert first.put(mine) == mine
        assert second.put(theirs) == mine and second.get((LOOPS,)) == mine


# ---- files that are refused


@FILES
def test_a_study_of_another_search_is_refused_by_what_differs(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with closing(opened(path)) as study:
        study.put(split(2))
    other = Identity("other", {**IDENTITY.about, "seed": "1", "network": "cd" * 40})
    message = r"study 'net' is of another search, differing in network, seed \('0', not '1'\); name another study"
    with pytest.raises(DataError, match=message):
        opened(path, other)
    with pytest.raises(DataError, match="differing in network, seed"):
        opened(path, Identity("net", other.about, named=True))
    with closing(opened(path, Identity("other", other.about, named=True))) as further:
        assert further.get(split(2).steps) is None
        further.put(split(3))
    assert [study.identity.name for study in read_studies(path)] == ["net", "other"]
    with closing(opened(path, other)), closing(opened(path)) as study:
        assert study.get(split(2).steps) == split(2)


def test_a_users_own_studies_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.log"
    with quiet_optuna():
        mine = optuna.create_study(storage=open_storage(path), study_name="mine")
        mine.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with pytest.raises(DataError, match=r"mine\.log: holds no study of loopmorph"):
        read_studies(path)
    with closing(opened(path)) as study:
        study.put(split(2))
    assert len(mine.trials) == 2 and len(read_studies(path)) == 1


def database(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


BAD_FILES = {
    "notes.log": (b"dear diary\nwithout an end", "line 1 is no entry of a journal of Optuna"),
    "torn.log": (b"dear diary", "line 1 is no entry of a journal of Optuna"),
    "list.journal": (b"[1, 2]\n", "line 1 is no entry of a journal of Optuna"),
    "deep.log": (b"[" * 100_000 + b"\n", "line 1 is no entry of a journal of Optuna"),
    "binary.log": (b"\xff\x00\n", "line 1 is no entry of a journal of Optuna"),
    "odd.log": (b'{"op_code": 77, "worker_id": 1}\n', r"Optuna cannot read it"),
    "empty.log": (b'{"op_code": 0}\n', r"Optuna cannot read it \(KeyError"),
    "text.db": (b"a long text that is no database at all, whatever its name says", "is no SQLite file"),
    "cut.db": (b"SQLite format 3\0" + b"\x10" * 40, "is damaged"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_of_something_else_are_refused_and_stay(name: str, tmp_path: Path) -> None:
    content, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    for attempt in (lambda: opened(path), lambda: read_studies(path)):
        with pytest.raises(DataError, match=message) as caught:
            attempt()
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert path.read_bytes() == content and [each.name for each in tmp_path.iterdir()] == [name]


def test_databases_of_something_else_are_refused_and_stay(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    database(other, "CREATE TABLE bookmarks (url TEXT)")
    mine = tmp_path / "mine.db"
    with closing(opened(mine)) as study:
        study.put(split(2))
    shutil.copy(mine, tmp_path / "trap.db")
    database(tmp_path / "trap.db", "CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END")
    page = bytearray(mine.read_bytes())
    page[len(page) // 2 : len(page) // 2 + 5000] = b"\xa5" * 5000
    (tmp_path / "rot.db").write_bytes(page)
    expected = {
        "other.db": "is a database of something else than studies of Optuna",
        "trap.db": "refused, it holds trigger 't'",
        "rot.db": "is damaged",
    }
    for name, message in expected.items():
        content = (tmp_path / name).read_bytes()
        with pytest.raises(DataError, match=message):
            opened(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content


def test_damaged_records_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    with closing(opened(path)) as study:
        study.put(split(2))
    text = path.read_text()
    path.write_text(text.replace('"steps":["morph', '"steps":[["morph').replace('factor=2}"]', 'factor=2}"]]'))
    with pytest.raises(DataError, match="trial 0 is damaged"):
        read_studies(path)
    with closing(opened(path)) as study, pytest.raises(DataError, match="trial 0 is damaged"):
        study.get(split(2).steps)
    path.write_text(text.replace('"about":{', '"about":[{').replace('"seed":"0"}', '"seed":"0"}]'))
    with pytest.raises(DataError, match="what a study says of itself is damaged"):
        read_studies(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("study.txt", r"'study': expected a name that ends in \.log, \.journal \(a journal\) or \.db, .*study\.txt'"),
        ("what?.db", "'study': expected a name without question marks"),
        ("none/study.log", "'study': cannot write .*: there is no folder"),
    ],
)
def test_names_that_cannot_be_studies(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        SearchSettings(study=tmp_path / name).check()


def test_other_settings_of_a_study(tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    with pytest.raises(DataError, match=r"folder\.log: is no file"):
        SearchSettings(study=tmp_path / "folder.log").check()
    with pytest.raises(ArgumentError, match="'study_name': names a study of a file, and no file is given"):
        SearchSettings(study_name="a").check()
    with pytest.raises(ArgumentError, match="'study_name': expected a name, got ' '"):
        SearchSettings(study=tmp_path / "a.log", study_name=" ").check()
    SearchSettings(study=tmp_path / "a.log", study_name="a").check()
    assert not (tmp_path / "a.log").exists()
