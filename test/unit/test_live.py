"""What a search shows while it runs: a table on a terminal, else a line now and then."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from loopmorph.pipelines.search.standing import Standing
from loopmorph.tools import live
from loopmorph.tools.live import search_view

STANDING = Standing("repair", {"repair": 2, "accepted": 3}, "1.5 ms saved in 2 layers")


def test_without_a_terminal_the_end_of_each_stage_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: 0.0))
    with search_view() as view:
        for done in range(6):
            view.watch(STANDING)
            view.tell("search", done, 5)
        view.tell("check", 0, 2)
        view.tell("check", 2, 2)
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines() == [
        "search 5/5, 0 s; 1.5 ms saved in 2 layers; 5: accepted 3, repair 2",
        "check 2/2, 0 s",
    ]


def test_a_long_stage_is_told_now_and_then_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 11.0, 12.0, 22.0])
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with search_view() as view:
        for done in range(5):
            view.tell("train", done, 10)
    assert capsys.readouterr().err.splitlines() == ["train 2/10, 11 s, 44 s left", "train 4/10, 22 s, 33 s left"]


def test_a_stage_that_goes_on_is_judged_by_what_it_does_now(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 20.0])
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with search_view() as view:
        view.tell("train", 500, 540)
        view.tell("train", 510, 540)
    assert capsys.readouterr().err == "train 510/540, 20 s, 60 s left\n"


def test_on_a_terminal_there_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(live, "Console", lambda **_: terminal)
    with search_view() as view:
        view.tell("search", 0, 10)
        view.watch(STANDING)
        view.tell("search", 5, 10)
    last = screen.getvalue()
    for told in ("best", "1.5 ms saved in 2 layers", "gate", "5: accepted 3, repair 2", "5/10", "left"):
        assert told in last, told
    assert last.rindex("best") < last.rindex("5/10")


def test_an_error_leaves_no_table_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(live, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with pytest.raises(ValueError, match="of its own"), search_view() as view:
        view.tell("search", 1, 10)
        raise ValueError("of its own")
    assert screen.getvalue().endswith("\x1b[2K\x1b[?25h") or "\x1b[1A\x1b[2K" in screen.getvalue()[-40:]
