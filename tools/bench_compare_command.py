"""`loopmorph bench-compare`: two runs of a suite of networks side by side."""

from __future__ import annotations

from pathlib import Path

import click

from loopmorph.tools.suite_output import print_comparison


@click.command("bench-compare")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def bench_compare_command(before: Path, after: Path) -> None:
    """Compare two runs, as `loopmorph bench --suite ... --json` has written them: ratios, times and builds of each row.

    A change is of the ratio to the fastest peer, more than 1 is better; means are over what was timed in both.
    """
    from loopmorph.pipelines.bench.suite_compare import compare_suites
    from loopmorph.pipelines.bench.suite_result import read_suite

    print_comparison(compare_suites(read_suite(before), read_suite(after)))
