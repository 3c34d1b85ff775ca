"""Progress bars of the commands, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from loopmorph.pipelines.support.progress import Progress as Tell


class StageBars:
    """A bar for each stage, with its rate and the time that is left; `tell` is what long work calls."""

    def __init__(self) -> None:
        self.bars = _bars(
            TextColumn("{task.description}", justify="right"), TextColumn("{task.fields[rate]}"), transient=False
        )
        self._tasks: dict[str, TaskID] = {}
        self._first: dict[str, int] = {}  # the steps that were done before, where a stage goes on

    def tell(self, stage: str, done: int, of: int) -> None:
        """Takes a stage as far as it has come; the first call shows its bar."""
        if stage not in self._tasks:
            self._tasks[stage] = self.bars.add_task(stage, total=of, rate="")
            self._first[stage] = done
        task = self._tasks[stage]
        elapsed, own = self.bars.tasks[task].elapsed or 0.0, done - self._first[stage]
        rate = _rate(elapsed / own) if own > 0 else ""
        self.bars.update(task, completed=done, total=of, rate=rate)


@contextmanager
def stage_bars() -> Iterator[Tell]:
    """A bar for each stage, which stays."""
    stages = StageBars()
    with _showing(stages.bars):
        yield stages.tell


@contextmanager
def one_bar(past: float = 30.0) -> Iterator[Tell]:
    """One bar, which goes away, for what is at hand, with the time that is left.

    Args:
        past: seconds of the past by which the time that is left is estimated: more than a step takes.
    """
    bars = _bars(TextColumn("{task.description:<40}"), transient=True, past=past)
    task = bars.add_task("starting", total=1)

    def tell(what: str, done: int, of: int) -> None:
        bars.update(task, description=what, completed=done, total=of)

    with _showing(bars):
        yield tell


def _rate(seconds: float) -> str:
    return f"{seconds:.1f} s each" if seconds >= 0.1 or seconds == 0 else f"{1 / seconds:,.0f} each second"


def _bars(first: ProgressColumn, *more: ProgressColumn, transient: bool, past: float = 30.0) -> Progress:
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (first, BarColumn(), MofNCompleteColumn(), *more, *times)
    return Progress(*columns, console=Console(stderr=True), transient=transient, speed_estimate_period=past)


@contextmanager
def _showing(bars: Progress) -> Iterator[None]:
    """Shows the bars; an error takes them away, so that its one line stands alone."""
    bars.start()
    try:
        yield
    except BaseException:
        bars.live.transient = True
        bars.live.stop()  # `bars.stop` would add an empty line where the standard error is no terminal
        raise
    bars.stop()
