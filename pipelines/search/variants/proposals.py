"""Which variants of a network are tried: those of each kind in turn, up to a limit for each block or layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice, zip_longest

from loopmorph.passes.history import Step
from loopmorph.pipelines.search.variants.ground import Ground, Unit
from loopmorph.pipelines.search.variants.kinds import NETWORK_KINDS, UNIT_KINDS, Proposal, fills
from loopmorph.pipelines.store.cache_file import hash_of

LIMIT = 48  # variants of a block, or of a layer outside of all blocks


def propose(ground: Ground, limit: int = LIMIT) -> tuple[Proposal, ...]:
    """The variants to try, in the order in which to try them; a function of the arguments alone.

    Of each block, and of each contraction outside of them, up to `limit`. All kinds take turns, and within a kind the
    layers and the passes and dimensions that it is about; each turn gives the next of its list, those first whose
    channels fill vectors. What its layer does not admit, or what does not make it less work, is left out. Then come
    those of the whole network, which are few. A block's k-th comes before any block's next one, so that whatever is
    tried before an interruption is spread over the network.

    Args:
        ground: the network as imported, and the processor.
        limit: how many of each block or layer, at least 1.
    """
    firsts = {unit.signature: unit for unit in reversed(ground.units)}
    chosen = {signature: _of_unit(unit, limit) for signature, unit in firsts.items()}
    found = [_moved(e, firsts[u.signature], u) for u in ground.units for e in chosen[u.signature]]
    for kind in NETWORK_KINDS:
        found += [replace(each, pattern=_pattern("", each), rank=limit) for each in kind(ground)]
    return tuple(sorted(_distinct(found), key=lambda each: each.rank))


def _of_unit(unit: Unit, limit: int) -> list[Proposal]:
    turns = [_vectors_first(options, unit.ground) for kind in UNIT_KINDS for options in kind(unit)]
    rounds = (each for turn in zip_longest(*turns) for each in turn if each is not None)
    admitted = (each for each in _distinct(rounds) if unit.ground.admits(each.steps, each.reach))
    chosen = enumerate(islice(admitted, limit))
    return [replace(e, unit=unit.path, pattern=_pattern(unit.signature, e), rank=rank) for rank, e in chosen]


def _moved(proposal: Proposal, first: Unit, unit: Unit) -> Proposal:
    """What was proposed for a unit, for another one that is equal to it."""
    names = dict(zip(first.layers, unit.layers, strict=True))
    steps = tuple(step if step.address is None else step.on(names[step.address.layer]) for step in proposal.steps)
    return replace(proposal, steps=steps, reach=frozenset(names[layer] for layer in proposal.reach), unit=unit.path)


def _vectors_first(options: Sequence[Proposal], ground: Ground) -> list[Proposal]:
    return sorted(options, key=lambda each: not fills(each, ground))


def _distinct(proposals: Iterable[Proposal]) -> list[Proposal]:
    """Each sequence of steps once, as the first kind that makes it calls it."""
    found: dict[tuple[Step, ...], Proposal] = {}
    for each in proposals:
        found.setdefault(each.steps, each)
    return list(found.values())


def _pattern(signature: str, proposal: Proposal) -> str:
    return hash_of(signature, *map(str, proposal.steps))
