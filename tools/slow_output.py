"""What `loopmorph bench --explain-slow` prints: nests that could run faster, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopmorph.pipelines.bench.result import SlowRow, ThreadResult

_MOST = 12  # kinds of nests that are printed; the JSON has all


def slow_lines(result: ThreadResult) -> Iterator[str]:
    """The nests that could run faster, equal ones of several layers together, those of the slowest layers first."""
    kinds: dict[tuple[object, ...], list[SlowRow]] = {}
    for row in result.slow:
        kinds.setdefault((row.role, tuple(row.extents.items()), row.reasons), []).append(row)
    ranked = sorted(kinds.values(), key=lambda rows: -sum(row.share or 0.0 for row in rows))
    for rows in ranked[:_MOST]:
        yield _heading(rows)
        yield from (f"    {reason}" for reason in rows[0].reasons)
    if len(ranked) > _MOST:
        yield f"  and {len(ranked) - _MOST} kinds of nests more, in layers that take less time"


def _heading(rows: list[SlowRow]) -> str:
    first, layers = rows[0], len({row.layer for row in rows})
    extents = " ".join(f"{name}={'?' if extent is None else extent}" for name, extent in first.extents.items())
    beside = f" and {layers - 1} like it" if layers > 1 else ""
    shares = {row.layer: row.share for row in rows if row.share is not None}
    told = f", {100 * sum(shares.values()):.1f}% of our time" if shares else ""
    return f"  {first.layer or 'the network itself'}{beside}, {first.role}: {extents}{told}"
