"""The job of timing a variant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from loopmorph.passes.errors import ArgumentError, CompilationFailed, IllegalTransform, WrongResult
from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.search.judge import Judge, LayerTime
from loopmorph.pipelines.search.verdict import WORTHWHILE


@dataclass(frozen=True)
class Timed:
    """The times of the contraction layers that a variant changes.

    Attributes:
        layers: one each.
        refused: why there are none; empty where there are.
        final: whether it would be refused again: not where it failed, which may have been the machine's bad moment.
    """

    layers: tuple[LayerTime, ...] = ()
    refused: str = ""
    final: bool = True

    @property
    def is_worth(self) -> bool:
        """Whether the layers take less time than they did."""
        before, after = sum(each.ms_before for each in self.layers), sum(each.ms_after for each in self.layers)
        return not self.refused and after < WORTHWHILE * before

    def as_json(self) -> dict[str, Any]:
        """The times as JSON can hold them; `from_json` reads them."""
        rows = [[t.name, t.ms_before, t.ms_after, t.macs_before, t.macs_after] for t in self.layers]
        return {"layers": rows, "refused": self.refused, "final": self.final}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Timed:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        rows = [
            LayerTime(str(name), float(before), float(after), int(a), int(b))
            for name, before, after, a, b in content["layers"]
        ]
        return Timed(tuple(rows), str(content["refused"]), bool(content["final"]))


@dataclass(frozen=True)
class VariantTimeJob:
    """A variant whose layers are timed.

    Attributes:
        steps: its steps, as a pipeline.
        layers: the network's; no others have times.
    """

    kind: ClassVar[str] = "time"
    timed: ClassVar[bool] = True
    steps: str
    layers: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"steps": self.steps, "layers": self.layers}

    @staticmethod
    def from_json(content: Any) -> VariantTimeJob:
        """What `as_json` gave."""
        return VariantTimeJob(content["steps"], tuple(content["layers"]))

    def perform(self, judge: Judge) -> Timed:
        try:
            timed = Timed(tuple(judge.layer_times(parse_steps(self.steps))))
        except (IllegalTransform, ArgumentError) as refusal:
            return Timed(refused=str(refusal))
        except (CompilationFailed, WrongResult) as error:
            return self.failed(str(error))
        return timed if timed.layers else Timed(refused="it changes no layer that multiplies")

    def read(self, content: Any) -> Timed:
        timed = Timed.from_json(content)
        names = [each.name for each in timed.layers]
        if bool(names) == bool(timed.refused):
            raise ValueError("either times or a refusal are expected")
        if len(set(names)) != len(names) or not set(names) <= set(self.layers):
            raise ValueError(f"times of the layers {', '.join(names)}, which the network has not")
        for each in timed.layers:
            if not 0 < each.ms_before < math.inf or not 0 <= each.ms_after < math.inf:
                raise ValueError(f"times of {each.ms_before} and {each.ms_after} ms")
            if each.macs_before < 0 or each.macs_after < 0:
                raise ValueError(f"{each.macs_before} and {each.macs_after} multiply-accumulates")
        return timed

    def failed(self, reason: str) -> Timed:
        return Timed(refused=reason, final=False)
