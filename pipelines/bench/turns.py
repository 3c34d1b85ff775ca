"""Contenders that take turns, so that whatever the machine does meanwhile slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from loopmorph.pipelines.support.progress import Progress, silent

CALLS, _SETTLING = 8, 2  # of one contender in one round; the first ones do not count: caches still hold the one before

KeyT = TypeVar("KeyT", bound=Hashable)
Run = Callable[[], Any]


def timed_calls(run: Run, calls: int = CALLS) -> list[float]:
    """Seconds of each call of a round, without the first two."""
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds[_SETTLING:]


def in_turns(
    runs: Mapping[KeyT, Run], rounds: int, *, calls: int = CALLS, progress: Progress = silent
) -> dict[KeyT, list[float]]:
    """Seconds of each contender's calls that count.

    Args:
        runs: by what they are called.
        rounds: in each of which all have their turn.
        calls: of a contender in a round, more than two.
        progress: called with "measuring", the rounds that are done and all.
    """
    seconds: dict[KeyT, list[float]] = {key: [] for key in runs}
    for done in range(rounds):
        progress("measuring", done, rounds)
        for key, run in runs.items():
            seconds[key] += timed_calls(run, calls)
    progress("measuring", rounds, rounds)
    return seconds
