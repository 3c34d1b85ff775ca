"""The harm of a group of variants, and the job of measuring it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.variants.footprint import Footprint, footprints
from loopmorph.pipelines.search.variants.harm import Harm, choose_harm
from loopmorph.pipelines.search.variants.kinds import Proposal
from loopmorph.pipelines.search.variants.together import Structure, apply_together
from loopmorph.pipelines.training.task import Task


@dataclass(frozen=True)
class Harmed:
    """What is known of one variant.

    Attributes:
        structure: what it changes.
        scores: signal -> its value; may be infinite.
        refused: why there are none; empty where there are.
    """

    structure: Structure = field(default_factory=Structure)
    scores: Mapping[str, float] = field(default_factory=dict)
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """What is known as JSON can hold it; `from_json` reads it."""
        return {"structure": self.structure.as_json(), "scores": dict(self.scores), "refused": self.refused}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Harmed:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is something else.
        """
        scores = {str(name): float(value) for name, value in content["scores"].items()}
        return Harmed(Structure.from_json(content["structure"]), scores, str(content["refused"]))


@dataclass(frozen=True)
class GroupHarm:
    """Applies several variants at once, and measures what each of them does.

    Attributes:
        original: the network as imported.
        harm: measures networks.
        before: the original's footprints.
    """

    original: Network
    harm: Harm
    before: Mapping[str, Footprint]

    def seen(self, group: Sequence[Proposal]) -> tuple[Network | None, list[Structure]]:
        """What each variant changes, and the network after all of them; none where they had to be applied singly."""
        together = apply_together(self.original, self.before, group) if group else None
        if together is not None:
            return together.network, list(together.structures)
        return None, [structure for each in group for structure in self.seen([each])[1]]

    def measure(self, group: Sequence[Proposal]) -> list[Harmed]:
        """What each variant changes and harms, measured together as far as they can be told apart.

        Args:
            group: variants that are expected to reach no layer in common.
        """
        network, structures = self.seen(group)
        admitted = [structure.layers for structure in structures if not structure.refused]
        scores: list[dict[str, float]] | None = []
        refused = ""
        if network is not None and admitted:
            try:
                scores = self.harm.measure(network, admitted)
            except (IllegalTransform, ArgumentError) as error:
                scores, refused = None, str(error)
        if network is None or (scores is None and len(group) > 1):
            return [harmed for each in group for harmed in self.measure([each])]
        found = iter(scores or ())
        reasons = [structure.refused or (refused if scores is None else "") for structure in structures]
        return [Harmed(s, {} if why else next(found), why) for s, why in zip(structures, reasons, strict=True)]


@dataclass(frozen=True)
class MakesGroupHarm:
    """What makes a `GroupHarm` of a network, as data that another process can be sent.

    Attributes:
        task, seed, device: see `choose_harm`.
    """

    task: Task
    seed: int
    device: str | None = None

    def __call__(self, network: Network) -> GroupHarm:
        return GroupHarm(network, choose_harm(network, self.task, self.seed, self.device), footprints(network))


@dataclass(frozen=True)
class HarmOfGroup:
    """What is known of each variant of a group.

    Attributes:
        variants: one each, in their order.
        failure: why there are none: those who measured have ended over it.
    """

    variants: tuple[Harmed, ...] = ()
    failure: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"variants": [each.as_json() for each in self.variants]}


@dataclass(frozen=True)
class HarmJob:
    """Variants whose harm is measured.

    Attributes:
        group: see `GroupHarm.measure`.
        signals: the names of the scores.
    """

    kind: ClassVar[str] = "harm"
    timed: ClassVar[bool] = False
    group: tuple[Proposal, ...]
    signals: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        rows = [{"steps": each.text, "reach": sorted(each.reach)} for each in self.group]
        return {"group": rows, "signals": self.signals}

    @staticmethod
    def from_json(content: Any) -> HarmJob:
        """What `as_json` gave, but for what is said of a variant besides its steps and layers."""
        group = [Proposal("", parse_steps(row["steps"]), frozenset(row["reach"])) for row in content["group"]]
        return HarmJob(tuple(group), tuple(content["signals"]))

    def perform(self, judge: Judge) -> HarmOfGroup:
        return HarmOfGroup(tuple(judge.harm(self.group)))

    def read(self, content: Any) -> HarmOfGroup:
        variants = tuple(map(Harmed.from_json, content["variants"]))
        if len(variants) != len(self.group):
            raise ValueError(f"{len(variants)} variants, expected {len(self.group)}")
        for each in variants:
            expected = () if each.refused else self.signals
            if each.scores.keys() != set(expected) or (each.structure.refused and not each.refused):
                raise ValueError(f"the signals {', '.join(each.scores)}, expected {', '.join(expected) or 'none'}")
            if not each.refused and not each.structure.layers:
                raise ValueError("it changes no layer, and is not refused")
            if any(map(math.isnan, each.scores.values())):
                raise ValueError("scores that are no numbers")
        return HarmOfGroup(variants)

    def failed(self, reason: str) -> HarmOfGroup:
        return HarmOfGroup(failure=reason)
