"""What signals said of networks, as lines of a file: a measurement that can be stopped."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.legality.proxy import Score

_START = '{"network":'  # of each line


@dataclass(frozen=True)
class SignalRow:
    """One network.

    Attributes:
        network: its name, by which it is known again.
        accuracy: what training gave, in per cent; None for a network that nobody has trained.
        scores: name of each signal -> its score.
    """

    network: str
    accuracy: float | None
    scores: Mapping[str, Score]


class RowFile:
    """Rows in a file of JSON lines, one a network, to which more are appended; of one network the last line holds.

    A last line that was cut off while it was written is dropped. A value that is not finite is null in JSON.

    Attributes:
        rows: name of the network -> its row.
    """

    def __init__(self, path: Path | None, setting: Mapping[str, Any]) -> None:
        """Reads what is there.

        Args:
            path: the file, which need not exist; None keeps the rows in memory alone.
            setting: what the scores depend on besides the network, as JSON can hold it.

        Raises:
            ArgumentError: the file cannot be read or written, or holds rows of another setting.
            DataError: the file holds something else. Nothing is written then.
        """
        self.rows: dict[str, SignalRow] = {}
        self._path = path
        self._setting = dict(setting)
        if path is not None:
            self._read(path)

    def put(self, row: SignalRow) -> None:
        """Adds a row, at once.

        Raises:
            ArgumentError: the file cannot be written.
        """
        if self._path is not None:
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(self._as_json(row), allow_nan=False) + "\n")
            except OSError as error:
                raise _unusable(self._path, error) from error
        self.rows[row.network] = row

    def _as_json(self, row: SignalRow) -> dict[str, Any]:
        scores = {name: _score_as_json(score) for name, score in row.scores.items()}
        return {"network": row.network, "accuracy": row.accuracy, "scores": scores, "setting": self._setting}

    def _read(self, path: Path) -> None:
        try:
            path.touch()
            content = path.read_bytes()
            end = _whole(path, content)
            for number, line in enumerate(content[:end].splitlines(), start=1):
                row = self._parse(line, f"{path}, line {number}")
                self.rows[row.network] = row
            if end < len(content):
                os.truncate(path, end)
        except OSError as error:
            raise _unusable(path, error) from error

    def _parse(self, line: bytes, where: str) -> SignalRow:
        try:
            found = json.loads(line)
            accuracy = found["accuracy"]
            row = SignalRow(
                str(found["network"]),
                None if accuracy is None else float(accuracy),
                {str(name): _score_from_json(score) for name, score in found["scores"].items()},
            )
            setting = found["setting"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{where}: is not a row of signals; name another file to write to") from error
        if setting != self._setting:
            raise ArgumentError(
                "out", f"{where}: was measured with {setting}, not {self._setting}; name another file to write to"
            )
        return row


def _whole(path: Path, content: bytes) -> int:
    """How many bytes are whole lines.

    Raises:
        DataError: what follows them is not the beginning of a row, so that the file is somebody else's.
    """
    end = content.rfind(b"\n") + 1
    rest, start = content[end:], _START.encode()
    if rest and not (rest.startswith(start) or start.startswith(rest)):
        raise DataError(f"{path}: its last line is not a row of signals; name another file to write to")
    return end


def _score_as_json(score: Score) -> dict[str, Any]:
    return {"value": _finite(score.value), "error": _finite(score.error), "doubt": score.doubt}


def _score_from_json(found: Mapping[str, Any]) -> Score:
    value, error = (math.nan if found[name] is None else float(found[name]) for name in ("value", "error"))
    return Score(value, error, str(found["doubt"]))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _unusable(path: Path, error: OSError) -> ArgumentError:
    return ArgumentError("out", f"cannot use '{path}': {error.strerror or error}")
