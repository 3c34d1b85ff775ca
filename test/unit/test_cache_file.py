"""A cache that another program has locked is left aside soon, with one word."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.pipelines.search.study import Record, StudyFile
from loopmorph.pipelines.store import cache_file
from loopmorph.pipelines.store.code_cache import CodeCache, Entry

A, B = (Record("candidate", (f"morph-{name}",), "accepted") for name in "ab")


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "_locked", set())
    monkeypatch.setattr(cache_file, "_PATIENCE", 0.1)


@contextmanager
def locked(*paths: Path) -> Iterator[None]:
    connections = [sqlite3.connect(path, isolation_level=None) for path in paths]
    for connection in connections:
        connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        for connection in connections:
            connection.close()


def test_locked_files_are_told_once_and_done_without(tmp_path: Path) -> None:
    with closing(StudyFile("key", tmp_path)) as study, closing(CodeCache(tmp_path)) as code:
        study.put(A)
        code.put("a", Entry({}, b"code"))
    with (
        locked(tmp_path / "studies.sqlite3", tmp_path / "code.sqlite3"),
        pytest.warns(LoopmorphWarning, match=r"the cache .*studies\.sqlite3 is locked by another program") as told,
    ):
        for _ in range(3):
            with closing(StudyFile("key", tmp_path)) as study, closing(CodeCache(tmp_path)) as code:
                assert study.get(A.steps) is None and code.get("a") is None
                study.put(B)
    assert len(told) == 1
    with warnings.catch_warnings(), closing(StudyFile("key", tmp_path)) as study:
        warnings.simplefilter("error")
        assert study.get(A.steps) == A and study.get(B.steps) is None  # it is used again once it is free


def test_a_file_that_is_locked_later_is_done_without(tmp_path: Path) -> None:
    with closing(StudyFile("key", tmp_path)) as study:
        study.put(A)
        with locked(study.path), pytest.warns(LoopmorphWarning, match="is locked by another program"):
            study.put(B)
        assert study.get(A.steps) is None  # not asked again
    with closing(StudyFile("key", tmp_path)) as study:
        assert study.get(A.steps) == A and study.get(B.steps) is None
