"""The networks of a calibration that have been trained so far: a line of JSON each, appended as they come."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.legality.calibration import CalibrationNetwork
from loopmorph.pipelines.legality.calibration_file import Malformed, network_content, parse_network

FORMAT = "loopmorph-calibration-run-1"
_MAX_BYTES = 64 << 20
_AGAIN = "remove it, or write elsewhere"


@dataclass
class CalibrationResults:
    """What became of the networks of a run, in a file that survives it.

    Attributes:
        path: the file.
        networks: name -> network; the original's is "".
        refused: name -> why a network could not be measured.
    """

    path: Path
    networks: dict[str, CalibrationNetwork] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, key: str) -> CalibrationResults:
        """Reads what is there, or begins a file. A last line that is not whole is dropped: it was being written.

        Args:
            path: the file.
            key: of all that the results depend on.

        Raises:
            DataError: the file is damaged, something else, or of another run.
            ArgumentError: it cannot be written.
        """
        results = cls(path)
        content = _read(path)
        whole = content[: content.rfind(b"\n") + 1]
        if content and not whole:
            raise DataError(f"{path}: is not a list of results; {_AGAIN}")
        results._parse(whole, key)
        with _writing(path):
            if len(whole) < len(content):
                os.truncate(path, len(whole))
        if not whole:
            results._append({"format": FORMAT, "key": key})
        return results

    def add(self, network: CalibrationNetwork) -> None:
        """Keeps a network.

        Raises:
            ArgumentError: the file cannot be written.
        """
        self.networks[network.name] = network
        self._append(network_content(network))

    def refuse(self, name: str, reason: str) -> None:
        """Keeps that a network could not be measured."""
        self.refused[name] = reason
        self._append({"name": name, "refused": reason})

    def _append(self, content: dict[str, Any]) -> None:
        with _writing(self.path), self.path.open("ab") as file:
            file.write(json.dumps(content, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, content: bytes, key: str) -> None:
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                entry = json.loads(line)
                if number == 1:
                    self._check_header(entry, key)
                else:
                    self._keep(entry)
            except (ValueError, RecursionError, Malformed) as error:
                raise DataError(f"{self.path}: line {number} is damaged; {_AGAIN}") from error

    def _check_header(self, entry: Any, key: str) -> None:
        if not isinstance(entry, dict) or entry.get("format") != FORMAT:
            raise DataError(f"{self.path}: is not a list of results; {_AGAIN}")
        if entry.get("key") != key:
            reason = "is of another run (other network, weights, data, seed or settings)"
            raise DataError(f"{self.path}: {reason}; {_AGAIN}")

    def _keep(self, entry: Any) -> None:
        if isinstance(entry, dict) and isinstance(entry.get("refused"), str) and isinstance(entry.get("name"), str):
            self.refused[entry["name"]] = entry["refused"]
        else:
            network = parse_network("it", entry)
            self.networks[network.name] = network


def _read(path: Path) -> bytes:
    """What a file holds; nothing where there is none."""
    try:
        if not path.exists():
            return b""
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: is not a list of results; {_AGAIN}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArgumentError("out", f"cannot write '{path}': {error.strerror or error}") from error
