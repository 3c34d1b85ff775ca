"""What a search draws from: a layer, at most one neural transformation of it, then a few loop transformations."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest, root_at
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.roles import channels
from loopmorph.passes.errors import ArgumentError, IllegalTransform, LoopmorphError
from loopmorph.passes.history import Step, transformations
from loopmorph.passes.target.target import Target
from loopmorph.passes.transformation import Kind
from loopmorph.pipelines.network import Network, copy_module

PLAIN_SHARE = 0.1  # candidates without a neural transformation: the same network, other loops
# How often a neural transformation is followed by 0, 1, 2 loop transformations. Most are not: a layer that no loop
# transformation has touched gets the compiler's own schedule, which random loop steps seldom beat.
LOOP_STEPS_SHARES = (0.7, 0.2, 0.1)
_DUPLICATES_BEFORE_GIVING_UP = 50


@dataclass(frozen=True)
class Candidate:
    """One point of the search space.

    Attributes:
        layer: the layer that it is about.
        neural: its neural transformation, None for loop transformations alone.
        loops: its loop transformations, in order, drawn for the nest that `neural` leaves.
        refusal: why it cannot be applied, None where it can: `IllegalTransform` where the structure forbids it,
            anything else where a pass has offered what it does not take.
    """

    layer: str
    neural: Step | None
    loops: tuple[Step, ...]
    refusal: LoopmorphError | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All transformations, in the order of application."""
        return (*((self.neural,) if self.neural else ()), *self.loops)

    def __str__(self) -> str:
        return ",".join(str(step) for step in self.steps)


def candidate_layers(program: Network) -> dict[str, int]:
    """The layers whose main nest is a contraction, in program order, and their multiply-accumulates."""
    mains = [nest for nest in program.nests if nest.role == marks.MAIN]
    return {nest.layer: macs(nest) for nest in mains if macs(nest)}


class Drawer(Protocol):
    """Draws one candidate."""

    def draw(self, layer: str, generator: random.Random) -> Candidate:
        """A candidate for a layer; one without steps where nothing can be drawn. Advances the generator."""
        ...


def draw_candidates(program: Network, seed: int, drawer: Drawer) -> Iterator[Candidate]:
    """Distinct candidates without end (until the space seems exhausted).

    Args:
        program: the network.
        seed: what is drawn is a function of network and seed alone.
        drawer: draws.
    """
    generator = random.Random(seed)
    work = candidate_layers(program)
    layers, weights = list(work), [math.sqrt(w) for w in work.values()]  # large layers more often, small ones too
    seen: set[str] = set()
    repeated = 0
    while layers and repeated < _DUPLICATES_BEFORE_GIVING_UP:
        candidate = drawer.draw(generator.choices(layers, weights)[0], generator)
        if not candidate.steps or str(candidate) in seen:
            repeated += 1
            continue
        repeated = 0
        seen.add(str(candidate))
        yield candidate


@dataclass(frozen=True)
class RandomDrawer:
    """Draws from what the passes offer on a layer's main nest (see `Transformation.space`).

    Attributes:
        program: the network.
        target: the processor, whose vectors channels should fill.
    """

    program: Network
    target: Target

    def draw(self, layer: str, generator: random.Random) -> Candidate:
        module = copy_module(self.program.module).operation
        neural = None
        if generator.random() >= PLAIN_SHARE:
            neural = self._choose(module, layer, "neural", generator)
        n_loops = generator.choices(range(len(LOOP_STEPS_SHARES)), LOOP_STEPS_SHARES)[0] if neural else 1
        loops: list[Step] = []
        try:
            if neural is not None:
                neural.apply(module)
            for _ in range(n_loops if root_at(module, layer) is not None else 0):
                step = self._choose(module, layer, "loop", generator)
                if step is not None:
                    loops.append(step)
                    step.apply(module)
        except (IllegalTransform, ArgumentError) as refusal:
            return Candidate(layer, neural, tuple(loops), refusal)
        return Candidate(layer, neural, tuple(loops))

    def _choose(self, module: ir.Operation, layer: str, kind: Kind, generator: random.Random) -> Step | None:
        """A transformation of that kind: first which, then its options, each uniformly.

        Of neural ones, those that leave channels in whole vectors, or in whole parts of one, are preferred: others
        cost time that their multiply-accumulates do not show.
        """
        with module.context:
            nest = find_nest(module, layer)
            spaces = [list(each.space(nest)) for each in transformations(kind)]
            extents = {loop.iterator: loop.extent for loop in channels(nest)}
        lanes = self.target.lanes
        spaces = [[s for s in space if fills_vectors(s, extents, lanes)] or space for space in spaces if space]
        return generator.choice(generator.choice(spaces)) if spaces else None


def fills_vectors(step: Step, channels: Mapping[str, int | None], lanes: int) -> bool:
    """Whether the channels that a step leaves, in all or in a group, make whole vectors or whole parts of one.

    Args:
        step: a transformation of the layer's main nest.
        channels: the iterators over channels of that nest -> their extents.
        lanes: elements of a vector.
    """
    left = [n for name, n in step.vector_extents(channels).items() if name in channels]
    return all(n > 0 and (n % lanes == 0 or lanes % n == 0) for n in left)
