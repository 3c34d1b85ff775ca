"""The diagnostics of `loopmorph-opt`, and their comparison with the comments that expect them.

A comment `// expected-error {{text}}` asks for an error on its own line whose message contains the text; after
`expected-error` may stand `@+N` or `@-N` (lines from here), `@above` or `@below` (the nearest line without such a
comment) or `@unknown` (an error without a place in the file). Likewise expected-warning, -remark and -note.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.diagnostics import file_location
from loopmorph.passes.errors import IllegalTransform, LoopmorphError, one_line
from loopmorph.tools.opt_input import Part, file_name

_EXPECTED = re.compile(
    r"expected-(?P<severity>error|warning|remark|note)"
    r"[ \t]*(?:@(?P<where>[+-]\d+|above|below|unknown))?[ \t]*\{\{(?P<text>.*?)\}\}"
)


@dataclass(frozen=True)
class Report:
    """One diagnostic; `line` is its line in the input, 0 where it has no place there."""

    severity: str
    line: int
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.message}" if self.where else f"{self.severity}: {self.message}"


@dataclass(frozen=True)
class Expectation:
    """What one comment asks for; `comment_line` is where it stands."""

    severity: str
    line: int
    text: str
    comment_line: int

    def met_by(self, report: Report) -> bool:
        return (self.severity, self.line) == (report.severity, report.line) and self.text in report.message


def from_diagnostic(diagnostic: ir.DiagnosticInfo | ir.Diagnostic, source: str) -> list[Report]:
    """A diagnostic of MLIR and its notes."""
    severity = str(diagnostic.severity).rpartition(".")[2].lower()
    message = one_line(diagnostic.message)
    place = file_location(diagnostic.location)
    own = Report(severity, 0, "", message)
    if place is not None:
        name = file_name(place, source)
        where = f"{name}:{place.start_line}:{place.start_col}"
        own = Report(severity, place.start_line if name == source else 0, where, message)
    return [own, *(report for note in diagnostic.notes for report in from_diagnostic(note, source))]


def from_error(error: LoopmorphError | ir.MLIRError, source: str) -> list[Report]:
    """An error as diagnostics: all that MLIR gave, or the text of one of loopmorph's own."""
    if isinstance(error, ir.MLIRError):
        found = [report for d in error.error_diagnostics for report in from_diagnostic(d, source)]
        return found or [Report("error", 0, "", one_line(str(error)))]
    if isinstance(error, IllegalTransform) and isinstance(error.__cause__, ir.MLIRError):
        return from_error(error.__cause__, source)
    place = re.search(rf"(?:^|[\s(\"]){re.escape(source)}\"?:(\d+):\d+", str(error))
    return [Report("error", int(place[1]) if place else 0, "", str(error))]


def expectations(part: Part) -> list[Expectation]:
    """The expectations in the comments of a part."""
    lines = part.text.split("\n")
    commented = {number for number, line in enumerate(lines, start=1) if _EXPECTED.search(line)}
    found = []
    for number in sorted(commented):
        for match in _EXPECTED.finditer(lines[number - 1]):
            line = _line(match["where"] or "+0", number, commented)
            found.append(Expectation(match["severity"], line, match["text"], number))
    return found


def compare(part: Part, reports: Sequence[Report]) -> list[Report]:
    """What is wrong with `reports`: those that no comment expects (notes are free) and those that are missing."""
    missing = expectations(part)
    problems = []
    for report in reports:
        met = next((e for e in missing if e.met_by(report)), None)
        if met is not None:
            missing.remove(met)
        elif report.severity != "note":
            message = f"unexpected {report.severity}: {report.message}"
            problems.append(Report("error", report.line, report.where, message))
    for e in missing:
        message = f"expected {e.severity} '{e.text}' was not produced"
        problems.append(Report("error", e.line, f"{part.source}:{e.comment_line}", message))
    return problems


def _line(where: str, number: int, commented: set[int]) -> int:
    if where == "unknown":
        return 0
    if where in ("above", "below"):
        step = -1 if where == "above" else 1
        line = number + step
        while line in commented:
            line += step
        return line
    return number + int(where)
