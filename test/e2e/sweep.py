"""Many cases in a process of their own, with progress, a file that a stopped sweep goes on from, and a table.

The file has one line of JSON a case, written as the case ends; cases that it has are not run again.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from case_runner import Report, Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from verdicts import CRASH, FALLBACK, FAULTS, RAW, REFUSED, RIGHT, SKIPPED, TIMEOUT, WRONG

VERDICTS = (RIGHT, REFUSED, FALLBACK, SKIPPED, *FAULTS)
INTERRUPTED = 130
_BY_KIND = {"crash": CRASH, "timeout": TIMEOUT, "mismatch": WRONG, "error": RAW}


@dataclass(frozen=True)
class Line:
    """What became of a case at one door.

    Attributes:
        case: its name.
        door: where it was tried; "" where the process that ran it came to no verdict.
        verdict: one of `VERDICTS`.
        reason: why, where it is not right.
        seconds: wall time by what it went to.
    """

    case: str
    door: str
    verdict: str
    reason: str
    seconds: dict[str, float]


def lines_of(report: Report) -> list[Line]:
    """What a report says, by door."""
    if report.kind != "done":
        return [Line(str(report.case), "", _BY_KIND[report.kind], report.text, {})]
    return [Line(str(report.case), **finding) for finding in report.outcome["findings"]]


def sweep(cases: Sequence[str], function: str, limit: float, path: Path | None, fresh: bool = False) -> list[Line]:
    """Runs the cases, as many as are left, and says on stderr what is wrong as it is found.

    Args:
        cases: their names.
        function: "module:name" of what runs one in another process; see `Runner`.
        limit: seconds for one case.
        path: the file to go on from.
        fresh: whether to begin that file anew.

    Returns:
        The lines of all cases that have run, those of the file first; of those until Ctrl-C, where it came.
    """
    console = Console(stderr=True)
    done = {} if fresh or path is None else _read(path)
    if fresh and path is not None:
        path.unlink(missing_ok=True)
    found = [line for case in cases for line in done.get(case, ())]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(cases), completed=sum(case in done for case in cases))
        try:
            for lines in _run([case for case in cases if case not in done], function, limit):
                found += lines
                _append(path, lines)
                for line in lines:
                    if line.verdict in FAULTS:
                        progress.console.print(told(line), markup=False, highlight=False, soft_wrap=True)
                bad = sum(line.verdict in FAULTS for line in found)
                progress.update(task, advance=1, description=f"{lines[0].case} ({bad} bad)")
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from here" if path else "stopped")
    return found


def told(line: Line) -> str:
    return f"{line.verdict} {line.case} {line.door}: {line.reason}"


def _run(cases: Sequence[str], function: str, limit: float) -> Iterator[list[Line]]:
    with Runner(function, limit, renew=100) as runner:
        for case in cases:
            started = time.perf_counter()
            lines = lines_of(runner.run(case))
            for line in lines:
                line.seconds.setdefault("case", time.perf_counter() - started)
            yield lines


def _read(path: Path) -> dict[str, list[Line]]:
    done: dict[str, list[Line]] = {}
    for text in path.read_text().splitlines() if path.exists() else ():
        lines = [Line(**fields) for fields in json.loads(text)]
        done[lines[0].case] = lines
    return done


def _append(path: Path | None, lines: Sequence[Line]) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps([asdict(line) for line in lines]) + "\n")


# ---- what is shown


def show(found: Sequence[Line], group: Callable[[Line], str]) -> None:
    """Prints how often each verdict fell, by group and door, and the reasons of refusals, the most frequent first.

    Args:
        found: the lines.
        group: the row of the table that a line belongs to.
    """
    console = Console()
    rows = Counter((group(line), line.door, line.verdict) for line in found)
    table = Table(title=f"{len({line.case for line in found})} cases")
    for column in ("", "door", *VERDICTS):
        table.add_column(column, justify="left" if column in ("", "door") else "right")
    for name, door in sorted({key[:2] for key in rows}):
        table.add_row(name, door or "(none)", *(str(rows[name, door, verdict]) for verdict in VERDICTS))
    reasons = Table(title="refusals and fallbacks, without names and numbers")
    for column in ("reason", "cases"):
        reasons.add_column(column, overflow="fold")
    why = Counter(kind_of(line.reason) for line in found if line.verdict in (REFUSED, FALLBACK))
    for reason, count in why.most_common(40):
        reasons.add_row(reason, str(count))
    console.print(table)
    console.print(reasons)


def kind_of(reason: str) -> str:
    """A reason without places, layers and numbers; with its operators."""
    text = re.sub(r"^loopmorph: a graph of \d+ operations runs in eager PyTorch: ", "", reason)
    text = re.sub(r"\(loc\(.*|\bloc\([^)]*\)|(?<!\w)'(?!aten|torch)[^']*'|\"[^\"]*\"|\[[^]]*\]", "_", text)
    return re.sub(r"-?\d+(?!d\b)", "N", text)[:160]


def exit_code(cases: Sequence[str], found: Sequence[Line]) -> int:
    """0 where all cases ran and none shows a fault, 1 where one does, 130 where the sweep was stopped."""
    if any(line.verdict in FAULTS for line in found):
        return 1
    return INTERRUPTED if {line.case for line in found} < set(cases) else 0


def finish(cases: Sequence[str], found: Sequence[Line], group: Callable[[Line], str]) -> None:
    """Shows what was found and ends the program."""
    show(found, group)
    sys.exit(exit_code(cases, found))
