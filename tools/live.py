"""A search, or a training, as it goes: a live table on a terminal, else a line now and then; on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from loopmorph.tools.bars import StageBars

if TYPE_CHECKING:
    from loopmorph.pipelines.search.standing import Standing

_BETWEEN = 10.0  # seconds between two lines of one stage


class SearchView(Protocol):
    """What shows a search: `tell` and `watch` are its `progress` and its `watch`."""

    def tell(self, stage: str, done: int, of: int) -> None:
        """How far a stage has come."""
        ...

    def watch(self, standing: Standing) -> None:
        """How the search stands."""
        ...


@contextmanager
def search_view() -> Iterator[SearchView]:
    """Shows a search while it runs: what is the best so far, what became of candidates, the stages, the time left."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    table = _Table()
    with Live(console=console, get_renderable=table.render, refresh_per_second=4) as live:
        try:
            yield table
        except BaseException:
            live.transient = True  # the error's one line stands alone
            raise


class _Table(StageBars):
    """A table of how the search stands over the stages' bars."""

    def __init__(self) -> None:
        super().__init__()
        self._standing: Standing | None = None

    def watch(self, standing: Standing) -> None:
        self._standing = standing

    def render(self) -> RenderableType:
        if self._standing is None:
            return self.bars
        table = Table.grid(padding=(0, 2))
        table.add_row("best", self._standing.best)
        table.add_row("gate", self._standing.gate)
        table.add_row("tried", _counts(self._standing))
        return Group(table, self.bars)


class _Lines:
    """A line at the end of each stage, and of a long one now and then."""

    def __init__(self) -> None:
        self._standing: Standing | None = None
        self._stage, self._first = "", 0
        self._began = self._told = 0.0

    def tell(self, stage: str, done: int, of: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._first, self._began, self._told = stage, done, now, now
        if done < of and now - self._told < _BETWEEN:
            return
        self._told = now
        passed, own = now - self._began, done - self._first
        left = f", {passed / own * (of - done):.0f} s left" if own > 0 and done < of else ""
        click.echo(f"{stage} {done}/{of}, {passed:.0f} s{left}{self._of_search(stage)}", err=True)

    def watch(self, standing: Standing) -> None:
        self._standing = standing

    def _of_search(self, stage: str) -> str:
        if stage != "search" or self._standing is None:
            return ""
        return f"; {self._standing.best}; {_counts(self._standing)}"


def _counts(standing: Standing) -> str:
    told = [f"{outcome} {count}" for outcome, count in sorted(standing.outcomes.items())]
    return f"{sum(standing.outcomes.values())}: {', '.join(told)}" if told else "none"
