"""The table of variants: for each one its steps, the layers that it decides, what it costs and what it harms."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from loopmorph.passes.errors import DataError

VERSION = 1


@dataclass(frozen=True)
class Cost:
    """What a network takes, or by how much a variant changes that (negative where it saves).

    Attributes:
        milliseconds: median time of one call.
        macs: multiply-accumulates of one call.
        parameters: numbers in all trainable tensors.
        memory: bytes of all activations of one call.
    """

    milliseconds: float = 0.0
    macs: int = 0
    parameters: int = 0
    memory: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.milliseconds + other.milliseconds,
            self.macs + other.macs,
            self.parameters + other.parameters,
            self.memory + other.memory,
        )

    def slower(self, factor: float) -> Cost:
        """The same with the milliseconds multiplied by a factor."""
        return replace(self, milliseconds=factor * self.milliseconds)


@dataclass(frozen=True)
class Variant:
    """One way to rewrite some layers.

    Attributes:
        steps: the transformations, as pass texts, in order.
        layers: those that it decides; variants that have one in common exclude each other. A layer of which no variant
            is chosen stays as it is.
        change: by how much it changes the network's costs, by itself.
        loss: the harm that it does by itself, in the units of the table's `signal`; at least 0.
        signals: other scores of it, by name.
        kind: how it came about, one word for reports ("group", "bottleneck", "drop-block", "seq1" ...).
    """

    steps: tuple[str, ...]
    layers: frozenset[str]
    change: Cost
    loss: float
    signals: Mapping[str, float] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True)
class VariantTable:
    """All variants of a network on one processor.

    Attributes:
        model: the network's name.
        signal: the name of the signal that `Variant.loss` is.
        processor: what was timed on.
        threads: of the timed code.
        original: the costs of the network as it is.
        variants: distinct, in the order of their first layers.
        complete: whether all were measured that were to be; an interrupt leaves some out.
    """

    model: str
    signal: str
    processor: str
    threads: int
    original: Cost
    variants: tuple[Variant, ...]
    complete: bool = True

    def scaled(self, factor: float) -> VariantTable:
        """The table with all milliseconds multiplied by a factor, as of code that is that much slower."""
        variants = tuple(replace(each, change=each.change.slower(factor)) for each in self.variants)
        return replace(self, original=self.original.slower(factor), variants=variants)

    def as_json(self) -> dict[str, Any]:
        """The table as JSON can hold it; `from_json` reads it."""
        rows = [{**asdict(each), "layers": sorted(each.layers)} for each in self.variants]
        return {**asdict(self), "variants": rows, "version": VERSION}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> VariantTable:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']!r}, expected {VERSION}")
        variants = tuple(
            Variant(
                tuple(map(str, row["steps"])),
                frozenset(map(str, row["layers"])),
                Cost(**row["change"]),
                _finite(row["loss"]),
                {str(name): float(value) for name, value in row["signals"].items()},
                str(row["kind"]),
            )
            for row in content["variants"]
        )
        return VariantTable(
            model=str(content["model"]),
            signal=str(content["signal"]),
            processor=str(content["processor"]),
            threads=int(content["threads"]),
            original=Cost(**content["original"]),
            variants=variants,
            complete=bool(content["complete"]),
        )


def write_table(table: VariantTable, path: Path) -> None:
    """Writes a table as JSON.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(table_text(table))


def table_text(table: VariantTable) -> str:
    """A table as the JSON that `read_table` reads."""
    return json.dumps(table.as_json(), indent=1) + "\n"


def read_table(path: Path) -> VariantTable:
    """Reads what `write_table` wrote.

    Raises:
        DataError: the file cannot be read, or is something else.
    """
    try:
        return VariantTable.from_json(json.loads(path.read_text()))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is no table of variants: {error!r}") from error


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a loss of {number}")
    return number
