"""Two runs of a suite side by side: what a change of loopmorph has done to which network."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.suite_result import Setting, SuiteResult, SuiteRow


@dataclass(frozen=True)
class Change:
    """A row of two runs, timed beside a peer in both.

    Attributes:
        before, after: the rows.
        ratio: the ratio (fastest peer's time over ours) after over that before; more than 1 is better.
        build: seconds of our build before over those after; more than 1 is better.
    """

    before: SuiteRow
    after: SuiteRow
    ratio: float
    build: float


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        changes: rows that were timed in both, in the order of the second run.
        others: rows that are in both, but were not timed in both.
        alone: how many rows are in the first and in the second run only.
        notes: in what the runs differ besides loopmorph, one line each.
    """

    changes: tuple[Change, ...]
    others: tuple[tuple[SuiteRow, SuiteRow], ...]
    alone: tuple[int, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MeanChange:
    """Geometric means of the changes of one batch size and number of threads, over `count` networks."""

    batch: int
    threads: int
    count: int
    before: float
    after: float
    ratio: float
    build: float


def compare_suites(before: SuiteResult, after: SuiteResult) -> Comparison:
    """Puts two runs of a suite side by side.

    Raises:
        ArgumentError: they are of different suites or processors, or have no row in common.
    """
    if before.suite != after.suite:
        raise ArgumentError("after", f"it is of the suite '{after.suite}', and the other one of '{before.suite}'")
    theirs, ours = before.setting.processor, after.setting.processor
    if theirs != ours:
        reason = f"times of different processors do not compare: '{ours}' here, '{theirs}' before"
        raise ArgumentError("after", f"{reason}; run both on one of them")
    old, new = ({(row.network, row.batch, row.threads): row for row in each.rows} for each in (before, after))
    pairs = [(old[key], row) for key, row in new.items() if key in old]
    if not pairs:
        raise ArgumentError("after", "the two have no row in common: other networks, batches or threads")
    changes = tuple(change for pair in pairs if (change := _change(*pair)) is not None)
    others = tuple(pair for pair in pairs if _change(*pair) is None)
    alone = len(old.keys() - new.keys()), len(new.keys() - old.keys())
    return Comparison(changes, others, alone, tuple(_differences(before.setting, after.setting)))


def mean_changes(changes: Iterable[Change]) -> list[MeanChange]:
    """One for each batch size and number of threads, in the order in which they come."""
    groups: dict[tuple[int, int], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.after.batch, change.after.threads), []).append(change)
    return [_mean(*key, group) for key, group in groups.items()]


def _change(before: SuiteRow, after: SuiteRow) -> Change | None:
    if before.ratio is None or after.ratio is None or before.ours is None or after.ours is None:
        return None
    return Change(before, after, after.ratio / before.ratio, before.ours.build_s / after.ours.build_s)


def _mean(batch: int, threads: int, changes: list[Change]) -> MeanChange:
    mean = statistics.geometric_mean
    return MeanChange(
        batch,
        threads,
        len(changes),
        mean(each.before.ratio or 0.0 for each in changes),
        mean(each.after.ratio or 0.0 for each in changes),
        mean(each.ratio for each in changes),
        mean(each.build for each in changes),
    )


def _differences(before: Setting, after: Setting) -> Iterable[str]:
    for name in sorted({*before.versions, *after.versions}):
        old, new = (each.versions.get(name) or "none" for each in (before, after))
        if old != new:
            yield f"{name}: {old} before, {new} after"
    for name in ("peers", "rounds", "seed", "algorithm", "tune"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name}: {_shown(old)} before, {_shown(new)} after"
    if before.sources == after.sources:
        yield "loopmorph's sources are the same in both"


def _shown(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
