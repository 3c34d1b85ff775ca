"""What `loopmorph-opt` reads: the text of a file, its parts, and the modules in them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from torch_mlir import ir

from loopmorph.passes.errors import DataError
from loopmorph.passes.input_check import check_input
from loopmorph.passes.text.nesting import MOST_LEVELS, too_deep

STDIN = "-"

_SPLIT = re.compile(r"^[ \t]*// -----[ \t]*$", re.MULTILINE)
# The parser of the bindings takes no file name; this is the one that it uses.
_PARSER_NAME = "-"


@dataclass(frozen=True)
class Part:
    """A stretch of a file, preceded by as many line ends as it has lines before it: its line numbers are the file's."""

    source: str
    text: str


def read_text(path: str) -> str:
    """The text of a file, or of the standard input for `-`.

    Raises:
        DataError: the file cannot be read or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise DataError(f"{path}:{line}:{column}: not UTF-8 (byte 0x{data[error.start]:02x})") from error


def split(source: str, text: str) -> list[Part]:
    """The parts between lines that hold `// -----` and nothing else."""
    parts, start = [], 0
    for end in [*_SPLIT.finditer(text), None]:
        stop = len(text) if end is None else end.start()
        parts.append(Part(source, "\n" * text.count("\n", 0, start) + text[start:stop]))
        start = stop if end is None else end.end()
    return parts


def parse(part: Part, context: ir.Context) -> ir.Module:
    """The module in a part; its locations name the file that it came from.

    Raises:
        ir.MLIRError: the text is not valid MLIR; the locations in the diagnostics still name the file `-`.
        DataError: it nests deeper than MLIR can parse.
        IllegalTransform: it is no module that the passes can rely on (see `check_input`).
    """
    offset = too_deep(part.text)
    if offset is not None:
        line, column = part.text.count("\n", 0, offset) + 1, offset - part.text.rfind("\n", 0, offset)
        raise DataError(f"{part.source}:{line}:{column}: nests deeper than {MOST_LEVELS} levels")
    module = ir.Module.parse(part.text, context=context)
    if part.source != STDIN:
        with context:
            module.operation.walk(lambda op: _relocate(op, part.source), ir.WalkOrder.PRE_ORDER)
    with context:
        check_input(module)
    return module


def file_name(location: ir.FileLineColLoc, source: str) -> str:
    """The file of a location; the parser's own name for its text stands for `source`."""
    return source if location.filename == _PARSER_NAME else str(location.filename)


def _relocate(op: ir.Operation, source: str) -> ir.WalkResult:
    op.location = _moved(op.location, source)
    return ir.WalkResult.ADVANCE


def _moved(location: ir.Location, source: str) -> ir.Location:
    if isinstance(location, ir.FileLineColLoc) and location.filename == _PARSER_NAME:
        return ir.Location.file(source, location.start_line, location.start_col)
    if isinstance(location, ir.NameLoc):
        return ir.Location.name(location.name_str, childLoc=_moved(location.child_loc, source))
    if isinstance(location, ir.CallSiteLoc):
        return ir.Location.callsite(_moved(location.callee, source), [_moved(location.caller, source)])
    if isinstance(location, ir.FusedLoc):
        return ir.Location.fused([_moved(inner, source) for inner in location.locations], location.metadata)
    return location
