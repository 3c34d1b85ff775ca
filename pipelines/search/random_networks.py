"""Random rewrites of a whole network: several layers at once, from barely touched to all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeVar

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import Step
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.search.search_space import RandomDrawer, candidate_layers

NetworkT = TypeVar("NetworkT", bound=Network)

_TRIES = 4  # draws for one layer
_DUPLICATES_BEFORE_GIVING_UP = 50


def draw_networks(program: NetworkT, seed: int, target: Target) -> Iterator[NetworkT]:
    """Distinct rewritten networks without end (until the space seems exhausted), each with neural steps only.

    Of L contraction layers the k-th network has about L^u rewritten, u being the k-th point of van der Corput's
    sequence: any number of networks covers the range from one layer to all of them evenly on a logarithmic scale, and
    so do the losses. Which layers, and by what, is random, among what the passes offer (see `RandomDrawer`).

    Args:
        program: the network.
        seed: what is drawn is a function of network, target and seed alone; a longer draw begins with the shorter one.
        target: the processor, whose vectors channels should fill.
    """
    layers = list(candidate_layers(program))
    generator = random.Random(seed)
    seen: set[tuple[str, ...]] = set()
    number = repeated = 0
    while layers and repeated < _DUPLICATES_BEFORE_GIVING_UP:
        number += 1
        count = max(1, round(len(layers) ** _van_der_corput(number)))
        drawn = program
        for layer in generator.sample(layers, count):
            drawn = _rewritten(drawn, layer, target, generator)
        if not drawn.steps or drawn.steps in seen:
            repeated += 1
            continue
        repeated = 0
        seen.add(drawn.steps)
        yield drawn


def _rewritten(program: NetworkT, layer: str, target: Target, generator: random.Random) -> NetworkT:
    """The network with one more neural step, on a layer; itself where none is found."""
    for _ in range(_TRIES):
        try:
            step = _drawn(program, layer, target, generator)
            if step is not None:
                return program.after([step])
        except (IllegalTransform, ArgumentError):  # what others have changed may leave nothing to draw from
            continue
    return program


def _drawn(program: Network, layer: str, target: Target, generator: random.Random) -> Step | None:
    return RandomDrawer(program, target).draw(layer, generator).neural


def _van_der_corput(number: int) -> float:
    """1/2, 1/4, 3/4, 1/8, 5/8, ...: the bits of a number mirrored at the point."""
    value, share = 0.0, 0.5
    while number:
        number, bit = divmod(number, 2)
        value += share * bit
        share /= 2
    return value
