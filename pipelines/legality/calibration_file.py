"""Calibrations in files: JSON with nothing but numbers and text, read as something that a stranger wrote."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.legality.calibration import Calibration, CalibrationNetwork, Provenance
from loopmorph.pipelines.support.files import write_atomically

FORMAT = "loopmorph-calibration"
VERSION = 1
MAX_BYTES = 16 << 20
_SHIPPED = Path(__file__).resolve().parent / "calibrations"
_TEXT = 1 << 16  # characters of one text
_NAMES = 16  # signals of one network


def save_calibration(calibration: Calibration, path: str | Path) -> None:
    """Writes a calibration, whole or not at all.

    Raises:
        ArgumentError: the file cannot be written.
    """
    text = json.dumps(_content(calibration), indent=1, allow_nan=False) + "\n"
    write_atomically(Path(path), lambda file: file.write(text.encode()))


def load_calibration(path: str | Path) -> Calibration:
    """Reads what `save_calibration` wrote.

    Raises:
        DataError: the file is missing, too large, damaged, of another format or version, or holds what no calibration
            can hold. The message begins with the file's name.
    """
    path = Path(path)
    content = _parse(path, _read(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: is not a calibration (format '{FORMAT}' is expected)")
    version = content.get("version")
    if version != VERSION or isinstance(version, bool):
        raise DataError(f"{path}: is a calibration of version {_shown(version)}; version {VERSION} is read")
    try:
        return _calibration(content)
    except (Malformed, ArgumentError) as error:
        reason = error.message if isinstance(error, ArgumentError) else error
        raise DataError(f"{path}: is a damaged calibration: {reason}") from error


def shipped_calibration(fingerprint: str) -> Calibration:
    """A calibration that comes with loopmorph: one of an original of that structure if there is one, else the first.

    Whether it is borrowed is what its `fits` says.

    Args:
        fingerprint: see `structure_fingerprint`.
    """
    found = [load_calibration(path) for path in sorted(_SHIPPED.glob("*.json"))]
    return next((each for each in found if each.fits(fingerprint)), found[0])


class Malformed(Exception):
    """A part of a file's content that is not as it has to be; says which."""


def _content(calibration: Calibration) -> dict[str, Any]:
    networks = [network_content(network) for network in calibration.networks]
    provenance = vars(calibration.provenance)
    accuracy = calibration.accuracy
    return {"format": FORMAT, "version": VERSION, **provenance, "accuracy": accuracy, "networks": networks}


def network_content(network: CalibrationNetwork) -> dict[str, Any]:
    """A network as JSON holds it."""
    return {"name": network.name, "accuracy": network.accuracy, "signals": dict(network.signals)}


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: is not a file")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, so it is not a calibration")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _parse(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise DataError(f"{path}: is not a calibration: it is nested too deeply") from error
    except ValueError as error:  # also what is no UTF-8, and numbers of thousands of digits
        raise DataError(f"{path}: is truncated or not JSON: {' '.join(str(error).split())}") from error


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _calibration(content: Mapping[str, Any]) -> Calibration:
    fields = {name: _text(content, name) for name in ("network", "fingerprint", "data", "recipe")}
    networks = content.get("networks")
    if not isinstance(networks, list):
        raise Malformed(f"'networks' is {_shown(networks)}; a list is expected")
    return Calibration(
        Provenance(**fields, epochs=_count(content, "epochs")),
        _number(content, "accuracy", "'accuracy'"),
        tuple(parse_network(f"network {number}", each) for number, each in enumerate(networks, start=1)),
    )


def parse_network(where: str, content: Any) -> CalibrationNetwork:
    """A network of what JSON gives for it.

    Args:
        where: what messages call it.
        content: see `network_content`.

    Raises:
        Malformed: it is something else.
    """
    if not isinstance(content, dict):
        raise Malformed(f"{where} is {_shown(content)}; an object is expected")
    signals = content.get("signals")
    if not isinstance(signals, dict) or len(signals) > _NAMES:
        raise Malformed(f"{where}: 'signals' is {_shown(signals)}; an object of at most {_NAMES} numbers is expected")
    values = {name: _number(signals, name, f"{where}: signal '{name[:64]}'") for name in signals}
    accuracy = _number(content, "accuracy", f"{where}: 'accuracy'")
    return CalibrationNetwork(_text(content, "name", f"{where}: "), values, accuracy)


def _text(content: Mapping[str, Any], name: str, where: str = "") -> str:
    value = content.get(name)
    if not isinstance(value, str) or len(value) > _TEXT:
        raise Malformed(f"{where}'{name}' is {_shown(value)}; a text of at most {_TEXT} characters is expected")
    return value


def _count(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise Malformed(f"'{name}' is {_shown(value)}; a count is expected")
    return value


def _number(content: Mapping[str, Any], name: str, where: str) -> float:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise Malformed(f"{where} is {_shown(value)}; a finite number is expected")
    try:
        return float(value)
    except OverflowError as error:
        raise Malformed(f"{where} is {_shown(value)}; a finite number is expected") from error


def _shown(value: Any) -> str:
    """A value in a message: numbers and short texts as they are, all else by what it is."""
    if value is None:
        return "missing"
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge integer"
    return text if len(text) <= 64 else f"a text of {len(text)} characters"
