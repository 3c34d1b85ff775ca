"""What `loopmorph operators` found, as data and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["timed", "refused", "failed", "wrong"]


@dataclass(frozen=True)
class OperatorRow:
    """One operator on one layer, beside the layer as it was. Figures are None as far as it has not come.

    Attributes:
        operator: what it is called.
        outcome: "timed"; "refused" where the layer does not admit it; "failed" where its code is not built; "wrong"
            where it differs from PyTorch.
        reason: why it is not timed, one line; empty if it is.
        steps: the transformations that it consists of, as pass texts.
        macs, parameters: of the layer after it; parameters count elements.
        ms_before, ms_after: median milliseconds of the original and of the rewritten layer, in turns.
        algorithm: how the rewritten layer is computed: "direct", "winograd2" or "winograd4"; several where its nests
            differ, as "winograd4 + direct".
        mac_ratio, parameter_ratio, speedup: original over rewritten.
        gflops_before, gflops_after: 1e9 operations a second, two for each of the layer's multiply-accumulates,
            whatever the algorithm saves of them.
    """

    operator: str
    outcome: Outcome
    reason: str = ""
    steps: tuple[str, ...] = ()
    macs: int | None = None
    parameters: int | None = None
    ms_before: float | None = None
    ms_after: float | None = None
    algorithm: str | None = None
    mac_ratio: float | None = None
    parameter_ratio: float | None = None
    speedup: float | None = None
    gflops_before: float | None = None
    gflops_after: float | None = None


@dataclass(frozen=True)
class LayerOperators:
    """A contraction layer that stands for all with the same loops, and what the operators make of it.

    Attributes:
        name: the layer's qualified name.
        same: all layers with these extents and access maps, in program order; it is one of them.
        extents: iterator name -> extent.
        stride: of the windows, (rows, columns); (1, 1) where there are none.
        macs, parameters: of the original.
        algorithm: how the original is computed.
        rows: one for each operator, in order; fewer where the run was stopped.
    """

    name: str
    same: tuple[str, ...]
    extents: Mapping[str, int | None]
    stride: tuple[int, int]
    macs: int
    parameters: int
    algorithm: str
    rows: tuple[OperatorRow, ...]

    @property
    def shape(self) -> str:
        """The layer in short: `64 -> 128, 3x3 / 2, 16x16 x4` (kernel, stride, output, how often)."""
        e = self.extents
        words = [f"{e.get('ci', 1)} -> {e.get('co', 1)}"]
        if "kh" in e and "kw" in e:
            strided = f" / {self.stride[0]}" if self.stride != (1, 1) else ""
            words.append(f"{e['kh']}x{e['kw']}{strided}")
        if "oh" in e and "ow" in e:
            words.append(f"{e['oh']}x{e['ow']}")
        if e.get("g", 1) != 1:
            words.append(f"{e['g']} groups")
        return ", ".join(words) + (f", {len(self.same)} times" if len(self.same) > 1 else "")

    def row(self, operator: str) -> OperatorRow | None:
        """What an operator made of the layer, None where it was not tried."""
        return next((row for row in self.rows if row.operator == operator), None)


@dataclass(frozen=True)
class PaperRow:
    """One layer of a figure of the paper beside ours; speed-ups by operator, ours None where not timed."""

    index: int
    layer: str | None
    paper: Mapping[str, float]
    ours: Mapping[str, float | None]


@dataclass(frozen=True)
class OperatorsResult:
    """All layers of a network, each with all operators.

    Attributes:
        model, cpu, threads: what was measured, and on what.
        algorithm: "auto": each layer, the original too, by the algorithm that is best by the model; "direct": none by
            Winograd's.
        layers: in program order.
        paper: the paper's own speed-ups of this network beside these; empty where it has none.
        interrupted: it was stopped before its end.
        seconds: wall time.
    """

    model: str
    cpu: str
    threads: int
    algorithm: str
    layers: tuple[LayerOperators, ...]
    paper: tuple[PaperRow, ...] = ()
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators' names, in order."""
        return tuple(dict.fromkeys(row.operator for layer in self.layers for row in layer.rows))

    def to_json(self) -> str:
        """Everything, as indented JSON."""
        data: dict[str, Any] = dataclasses.asdict(self)
        return json.dumps(data, indent=1) + "\n"
