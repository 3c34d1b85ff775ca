"""What `bench --precision` and `bench --rewritten` write, read as studies of networks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.bench.precision import PrecisionRow
from loopmorph.pipelines.bench.rewritten import ORIGINAL, RewrittenRow
from loopmorph.pipelines.evaluation.outputs import network_of
from loopmorph.pipelines.evaluation.study import CHOICES, MeasuredNetwork, Provenance, Study
from loopmorph.pipelines.rewritten.fields import Fields
from loopmorph.pipelines.support.json_file import read_json

_DIGITS = 4  # of accuracies, in points
_PRECISION = (
    *("model", "threads", "cpu", "fast", "data", "images", "calibration", "parameters", "macs", "rounds"),
    *("versions", "rows"),
)
_REWRITTEN = ("model", "threads", "cpu", "rounds", "versions", "rows", "missing")


def precision_study(path: Path, processor: str | None = None) -> Study:
    """A study of what `bench --precision --json` wrote: OpenVINO's precisions beside our float32.

    Args:
        path: of the file.
        processor: what the times are of; None for what the file says.

    Raises:
        DataError: it is no such file.
    """
    told = Fields.of(str(path), read_json(path), _PRECISION)
    rows = [_row(path, number, each, PrecisionRow) for number, each in enumerate(told.sequence("rows"))]
    if not rows:
        raise DataError(f"{path}: field 'rows' is empty; our own figure is expected first")
    images = told.integer("images", least=0)
    networks = []
    for row in rows:
        accuracy = None if row.content["right"] is None else 100 * row.integer("right", least=0) / max(images, 1)
        engine, precision = row.text("engine"), row.text("precision")
        networks.append(
            MeasuredNetwork(
                name=f"{engine} {precision}",
                chosen_by="original",
                detail=precision,
                compiler=engine,
                speedup=row.positive("speedup"),
                ms=row.positive("median_ms"),
                macs=told.integer("macs"),
                parameters=told.integer("parameters"),
                before=None if accuracy is None else round(accuracy, _DIGITS),
                note=row.text("note"),
            )
        )
    data = told.text("data") and f"{told.text('data')}, the first {images:,} of the test part"
    notes = [f"int8 is NNCF's post-training quantisation by {told.integer('calibration', least=0)} training images"]
    about = _about(told, processor, data, notes)
    return Study("precision", about, {}, networks[0], tuple(networks[1:]))


def rewritten_study(path: Path, processor: str | None = None) -> Study:
    """A study of what `bench --rewritten --json` wrote: rewrites and other engines in turns with the original.

    Args:
        path: of the file.
        processor: what the times are of; None for what the file says.

    Raises:
        DataError: it is no such file; or a name says of no choice that the page knows.
    """
    told = Fields.of(str(path), read_json(path), _REWRITTEN)
    rows = [_row(path, number, each, RewrittenRow) for number, each in enumerate(told.sequence("rows"))]
    networks = [_rewritten(row) for row in rows]
    if not networks or networks[0].chosen_by != "original":
        raise DataError(f"{path}: field 'rows': the original by our code is expected first")
    about = _about(told, processor, "", [f"Medians of {told.integer('rounds')} rounds of calls in turns"])
    return Study("rewritten", about, {}, networks[0], tuple(networks[1:]))


def _rewritten(row: Fields) -> MeasuredNetwork:
    name, engine = row.text("name"), row.text("engine")
    target, choice, detail = _parsed_name(row, name)
    return MeasuredNetwork(
        name=name if name != ORIGINAL else f"{ORIGINAL}, {engine}",
        chosen_by=choice,
        detail=detail,
        compiler=engine,
        target=target,
        speedup=row.positive("speedup"),
        ms=row.positive("median_ms"),
        macs=row.integer("macs"),
        parameters=row.integer("parameters"),
    )


def _parsed_name(row: Fields, name: str) -> tuple[float | None, str, str]:
    """What a network was asked to be, what chose it, and what else its name says: "3x joint by harm"."""
    found = re.fullmatch(rf"(?:([\d.]+)x )?({'|'.join(CHOICES)})\b,? ?(.*)", name)
    if found is None:
        row.wrong("name", f"a name with one of {', '.join(CHOICES)}, as '3x joint',")
    target, choice, detail = found.groups()
    return None if target is None else float(target), choice, detail


def _row(path: Path, number: int, content: Any, kind: type[PrecisionRow] | type[RewrittenRow]) -> Fields:
    return Fields.of(f"{path}: rows[{number}]", content, kind.__dataclass_fields__)


def _about(told: Fields, processor: str | None, data: str, notes: list[str]) -> Provenance:
    versions = {str(name): str(value) for name, value in told.content["versions"].items() if value}
    cpu = processor or told.text("cpu")
    return Provenance(network_of(told), data, cpu, told.integer("threads"), versions=versions, notes=tuple(notes))
