"""Several variants of one network applied at once, as far as they do not meet, and what each of them changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.pipelines.network import Network, copy_module
from loopmorph.pipelines.search.variants.footprint import Footprint, changed_layers, footprints
from loopmorph.pipelines.search.variants.kinds import Proposal
from loopmorph.pipelines.search.variants.table import Cost

_NOTHING = Footprint()


@dataclass(frozen=True)
class Structure:
    """What a variant changes, but for its time and its harm.

    Attributes:
        layers: those whose nests or parameter shapes it changes, in program order; none where it is refused.
        macs: those of them that multiply -> multiply-accumulates before and afterwards.
        change: of multiply-accumulates, parameters and memory.
        refused: why the network does not admit it; empty where it does.
    """

    layers: tuple[str, ...] = ()
    macs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    change: Cost = field(default_factory=Cost)
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """The structure as JSON can hold it; `from_json` reads it."""
        change = [self.change.macs, self.change.parameters, self.change.memory]
        return {"layers": self.layers, "macs": dict(self.macs), "change": change, "refused": self.refused}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Structure:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is something else.
        """
        macs = {str(name): (int(before), int(after)) for name, (before, after) in content["macs"].items()}
        return Structure(
            tuple(map(str, content["layers"])), macs, Cost(0.0, *map(int, content["change"])), str(content["refused"])
        )


@dataclass(frozen=True)
class Together:
    """A network after several variants.

    Attributes:
        network: with all of them that it admits.
        structures: what each of them changes.
    """

    network: Network
    structures: tuple[Structure, ...]


def apply_together(
    original: Network, before: Mapping[str, Footprint], proposals: Sequence[Proposal]
) -> Together | None:
    """The network after all variants that it admits.

    Args:
        original: the network.
        before: its footprints.
        proposals: variants that are expected to reach no layer in common.

    Returns:
        None where several variants have changed more than they were expected to, so that it cannot be told which has
        changed what; each of them has to be applied by itself then.
    """
    refused: dict[int, str] = {}
    network = _after(original, proposals, refused)
    after = footprints(network)
    changed = changed_layers(before, after)
    structures: list[Structure] = []
    for number, each in enumerate(proposals):
        if number in refused:
            structures.append(Structure(refused=refused[number]))
            continue
        mine = changed if len(proposals) == 1 else [layer for layer in changed if layer in each.reach]
        structures.append(_structure(before, after, mine))
    if sum(len(each.layers) for each in structures) != len(changed):
        return None
    return Together(network, tuple(structures))


def _after(original: Network, proposals: Sequence[Proposal], refused: dict[int, str]) -> Network:
    """The network after the variants that it admits; why it refuses others is noted in `refused`."""
    while True:
        module = copy_module(original.module)
        number = -1
        try:
            for number, each in enumerate(proposals):
                for step in each.steps if number not in refused else ():
                    step.apply(module.operation)
        except (IllegalTransform, ArgumentError) as refusal:
            refused[number] = str(refusal)  # some of its steps may have been applied: begin anew
            continue
        module.operation.verify()
        return replace(original, module=module)


def _structure(before: Mapping[str, Footprint], after: Mapping[str, Footprint], layers: Sequence[str]) -> Structure:
    if not layers:
        return Structure(refused="it changes nothing")
    pairs = [(before.get(name, _NOTHING), after.get(name, _NOTHING)) for name in layers]
    macs = {name: (a.macs, b.macs) for name, (a, b) in zip(layers, pairs, strict=True) if a.macs or b.macs}
    change = Cost(
        macs=sum(b.macs - a.macs for a, b in pairs),
        parameters=sum(b.parameters - a.parameters for a, b in pairs),
        memory=sum(b.memory - a.memory for a, b in pairs),
    )
    return Structure(tuple(layers), macs, change)
