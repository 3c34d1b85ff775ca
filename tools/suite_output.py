"""What `loopmorph bench --suite` and `loopmorph bench-compare` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loopmorph.tools.slow_output import slow_lines

if TYPE_CHECKING:
    from loopmorph.pipelines.bench.result import EqualLayers, Row
    from loopmorph.pipelines.bench.suite_compare import Comparison
    from loopmorph.pipelines.bench.suite_result import SuiteResult, SuiteRow, Summary

_MIB = 1 << 20
_TITLES = {"cnn": "convolutional networks", "mixer": "mixers", "transformer": "transformers"}
_COSTS = ("roof %", "build s", "peer", "inductor", "MiB", "+MiB", "peer")
_RATIOS_ARE = "fastest peer's time / ours by batch x threads"
_COSTS_ARE = (
    "the roof's least share of our time; costs are the most of a network's rows, "
    "MiB of the process and added to it, peer the fastest one"
)
_SLOWEST = 3  # layers of a network that is slower than a peer


def row_line(row: SuiteRow) -> str:
    """One row in one line."""
    where = f"{row.network}, {_case(row.batch, row.threads)}"
    if row.ratio is None or row.ours is None or row.peer is None:
        return f"{where}: {row.outcome}: {row.reason}"
    return f"{where}: {row.ratio:.2f} ({row.ours.median_ms:.2f} ms, {row.peer.name} {row.peer.median_ms:.2f} ms)"


def print_suite(result: SuiteResult) -> None:
    """Prints a table for each kind of networks, what is slow in them, and what was not timed."""
    from loopmorph.pipelines.bench.suite_result import summaries

    console = Console(highlight=False)
    console.print(escape(f"suite {result.suite} on {result.setting.processor}"), soft_wrap=True)
    used = ", ".join(f"{name} {version}" for name, version in result.setting.versions.items() if version)
    console.print(escape(used), soft_wrap=True)
    for kind, title in _TITLES.items():
        rows = [row for row in result.rows if row.kind == kind]
        if rows:
            console.print(f"\n{title}: {_RATIOS_ARE}; {_COSTS_ARE}", soft_wrap=True)
            console.print(_ratios(rows))
            for summary in summaries(rows):
                console.print(escape(_in_words(summary)), soft_wrap=True)
    _print_slow(console, result.rows)
    _print_explained(console, result.rows)
    for row in result.rows:
        if row.ratio is None:
            console.print(escape(row_line(row)), soft_wrap=True)
    for name, reason in _absent(result.rows).items():
        console.print(escape(f"{name}: not run: {reason}"), soft_wrap=True)
    if result.stopped:
        console.print(f"stopped early: {result.stopped}", soft_wrap=True)


def _absent(rows: Sequence[SuiteRow]) -> dict[str, str]:
    """Peer that is not installed -> what would install it."""
    found = (each for row in rows if row.result is not None for each in row.result.missing)
    return {each.name: each.reason for each in found if each.kind == "absent"}


def _ratios(rows: Sequence[SuiteRow]) -> Table:
    """One line a network: its ratios, and what the least of them is measured with."""
    cases = list(dict.fromkeys((row.batch, row.threads) for row in rows))
    table = _table()
    table.add_column("network", overflow="fold")
    for heading in (*(f"{batch}x{threads}" for batch, threads in cases), *_COSTS):
        table.add_column(heading, justify="right", no_wrap=True)
    networks: dict[str, dict[tuple[int, int], SuiteRow]] = {}
    for row in rows:
        networks.setdefault(row.network, {})[row.batch, row.threads] = row
    for name, found in networks.items():
        cells = [_ratio(found.get(case)) for case in cases]
        table.add_row(escape(name), *cells, *_costs(list(found.values())))
    return table


def _ratio(row: SuiteRow | None) -> str:
    if row is None:
        return ""
    if row.ratio is None:
        return row.outcome
    return f"[red]{row.ratio:.2f}[/red]" if row.ratio < 1 else f"{row.ratio:.2f}"


def _costs(rows: Sequence[SuiteRow]) -> list[str]:
    """The least share of the roof, the longest builds and the most memory of a network's rows."""
    ours = [row.ours for row in rows if row.ours is not None]
    peers = [row.peer for row in rows if row.peer is not None]
    inductor = [found for row in rows if row.result is not None and (found := row.result.row("inductor")) is not None]
    seconds = [_most([each.build_s for each in group], 1.0, 1) for group in (ours, peers, inductor)]
    roofs = [each.share_of_roof for each in ours if each.share_of_roof is not None]
    roof = f"{100 * min(roofs):.0f}" if roofs else "-"
    whole = _most([each.peak_bytes for each in ours], _MIB)
    return [roof, *seconds, whole, *(_most([each.added_bytes for each in group], _MIB) for group in (ours, peers))]


def _most(values: Sequence[float | None], unit: float, digits: int = 0) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known) / unit:.{digits}f}" if known else "-"


def _in_words(summary: Summary) -> str:
    found = _case(summary.batch, summary.threads) + ": "
    if summary.mean is not None and summary.worst is not None:
        found += f"geometric mean {summary.mean:.2f} of {summary.outcomes['timed']}, {summary.slow} below 1, "
        found += f"worst {summary.worst.network} {summary.worst.ratio:.2f}; "
        found += "fastest peer " + ", ".join(f"{name} {count}" for name, count in sorted(summary.fastest.items()))
    else:
        found += "none timed"
    others = [f"{count} {outcome}" for outcome, count in sorted(summary.outcomes.items()) if outcome != "timed"]
    return "; ".join([found, *others])


def _print_slow(console: Console, rows: Sequence[SuiteRow]) -> None:
    """The slowest layers of networks that a peer computes faster."""
    slow = [row for row in rows if row.ratio is not None and row.ratio < 1]
    if slow:
        console.print("\nbelow 1, with the layers that take most of our time (equal ones together):")
    for row in slow:
        console.print(escape(row_line(row)), soft_wrap=True)
        for each in row.slowest_layers(_SLOWEST):
            console.print(escape(_layer(each, row.ours)), soft_wrap=True)


def _print_explained(console: Console, rows: Sequence[SuiteRow]) -> None:
    """The nests that could run faster, of the networks for which they were asked for."""
    explained = [(row, row.result) for row in rows if row.result is not None and row.result.slow]
    if explained:
        console.print("\nnests that could run faster, by their layers' time:")
    for row, result in explained:
        console.print(escape(row_line(row)), soft_wrap=True)
        for line in slow_lines(result):
            console.print(escape(line), soft_wrap=True)


def _layer(each: EqualLayers, ours: Row | None) -> str:
    ms = each.ms or 0.0
    told = f"  {each.first.name}: {each.count} x {ms:.3f} ms"
    if ours is not None:
        told += f", {100 * ms * each.count / ours.median_ms:.0f}% of our time"
    return told if each.share_of_peak is None else f"{told}, {100 * each.share_of_peak:.1f}% of peak"


def print_comparison(comparison: Comparison) -> None:
    """Prints the ratios of two runs side by side, and the geometric means of their changes."""
    from loopmorph.pipelines.bench.suite_compare import mean_changes

    console = Console(highlight=False)
    for note in comparison.notes:
        console.print(escape(note), soft_wrap=True)
    console.print(
        f"\n{_RATIOS_ARE}, before and after; changes of it and of builds: more than 1 is better", soft_wrap=True
    )
    table = _table()
    table.add_column("network", no_wrap=True)
    for heading in ("case", "before", "after", "change", "ms", "ms", "build s", "build s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in sorted(comparison.changes, key=lambda change: change.ratio):
        old, new = each.before, each.after
        case = (escape(new.network), f"{new.batch}x{new.threads}")
        ratios = (f"{old.ratio:.2f}", f"{new.ratio:.2f}", f"{each.ratio:.2f}")
        table.add_row(*case, *ratios, *_times(old.ours, new.ours))
    console.print(table)
    for mean in mean_changes(comparison.changes):
        told = f"geometric mean of {mean.count}: {mean.before:.2f} -> {mean.after:.2f}, change {mean.ratio:.3f}"
        console.print(f"{_case(mean.batch, mean.threads)}: {told}; builds {mean.build:.2f}", soft_wrap=True)
    for old, new in comparison.others:
        before, after = (row.outcome if row.ratio is None else f"{row.ratio:.2f}" for row in (old, new))
        why = f": {new.reason or old.reason}"
        told = f"{new.network}, {_case(new.batch, new.threads)}: {before} before, {after} after{why}"
        console.print(escape(told), soft_wrap=True)
    for count, which in zip(comparison.alone, ("before", "after"), strict=True):
        if count:
            console.print(f"{count} row{'s' if count > 1 else ''} only {which}")


def _times(before: Row | None, after: Row | None) -> list[str]:
    if before is None or after is None:
        return ["", "", "", ""]
    times = (before.median_ms, after.median_ms), (before.build_s, after.build_s)
    return [f"{value:.2f}" if pair is times[0] else f"{value:.1f}" for pair in times for value in pair]


def _case(batch: int, threads: int) -> str:
    return f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}"


def _table() -> Table:
    """A table narrow enough for 80 columns."""
    return Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
