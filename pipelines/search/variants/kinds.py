"""The kinds of variants: each makes proposals for one block or layer, or for the whole network.

A new kind is a function and its row in `UNIT_KINDS` or `NETWORK_KINDS`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.dialects.morph import schedule_steps
from loopmorph.passes import marks
from loopmorph.passes.analysis.dimension_names import FEATURE, HEAD, VALUE, NamedDimension
from loopmorph.passes.analysis.roles import channels, is_batch, is_grid, loops_of
from loopmorph.passes.history import Step, pipeline_text, transformations
from loopmorph.passes.lowering.anonymous_layer import ANY_LAYER
from loopmorph.passes.nest import Nest, divisors
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.neural.group import Group
from loopmorph.passes.neural.mix import Mix
from loopmorph.passes.neural.narrow import Narrow
from loopmorph.pipelines.schedules.loader import Schedule, fill, schedules
from loopmorph.pipelines.search.search_space import fills_vectors
from loopmorph.pipelines.search.variants.ground import Ground, Ties, Unit

NARROWINGS = (2, 4, 8)  # what the channels inside a block are divided by
STAGE_NARROWINGS = (2,)  # what those that run through several blocks are
ATTENTION_NARROWINGS = (2, 3, 4)  # what heads and their features are
RANKS = (2, 4, 8)  # what the rank of a convolution is divided by
GROUPS = (2, 4, 8)
_TURNS = 3  # schedules of a layer in one turn
_TWICE = 2  # of the integers of a schedule: it is proposed with its defaults, and with twice as much
_WHOLE = ""  # the pattern's unit of a variant that is no unit's


@dataclass(frozen=True)
class Proposal:
    """A variant that nothing is known of yet; the network may refuse it.

    Attributes:
        kind: one word.
        steps: the transformations, in order.
        reach: the layers that it is expected to change; others hold no surprises for what is applied beside it.
        unit: the path of the block or layer that it is of; "" for none.
        pattern: equal where equal steps are applied to equal units: then all but the loss is the same.
        rank: its place among those of its unit.
    """

    kind: str
    steps: tuple[Step, ...]
    reach: frozenset[str]
    unit: str = _WHOLE
    pattern: str = ""
    rank: int = 0

    @property
    def text(self) -> str:
        """The steps as a pipeline."""
        return pipeline_text(self.steps)


UnitKind = Callable[[Unit], Sequence[Sequence[Proposal]]]  # a list for each thing that takes turns
NetworkKind = Callable[[Ground], Sequence[Proposal]]


def of_passes(unit: Unit) -> list[list[Proposal]]:
    """What the neural passes that leave the layer there offer on each contraction (see `Transformation.space`)."""
    changing = [cls for cls in transformations("neural") if not cls.takes_away]
    found = []
    for layer in unit.contractions:
        nest = unit.ground.mains[layer]
        for cls in changing:
            with nest.root.operation.context:
                offered = cls.space(nest)
            steps = [(step, unit.ground.reach(step)) for step in offered]
            inside = [(step, reach) for step, reach in steps if reach and unit.layers.keys() >= reach]
            found.append([Proposal(_name(cls), (step,), reach) for step, reach in inside])
    return found


def of_schedules(unit: Unit) -> list[list[Proposal]]:
    """The schedules that come with loopmorph, on each contraction that admits them.

    Those with their defaults come first, and of these the ones of few steps.
    """
    found = []
    for layer in unit.contractions:
        reach = frozenset([layer])
        filled = [(s.name, _filled(s, layer, f)) for f in (1, _TWICE) for s in _shortest_first()]
        options = [Proposal(name, each, reach) for name, each in filled if each and unit.ground.admits(each, reach)]
        found += [options[turn::_TURNS] for turn in range(_TURNS)]
    return found


def low_rank(unit: Unit) -> list[list[Proposal]]:
    """Fewer outputs, of which a pointwise contraction makes all; or fewer inputs, which one before the layer makes."""
    found = []
    for layer in unit.contractions:
        outputs, inputs = (loops_of(unit.ground.mains[layer], role) for role in ("output", "reduction"))
        options: list[tuple[Step, ...]] = []
        for factor in RANKS:
            for loop in outputs if len(outputs) == 1 and divisors(outputs[0].extent, [factor]) else []:
                options.append((Mix(layer, loop.iterator), Bottleneck(layer, loop.iterator, factor)))
            for loop in inputs if len(inputs) == 1 and divisors(inputs[0].extent, [factor]) else []:
                options.append((Mix(layer, loop.iterator), Bottleneck(f"{layer}#{marks.MIX_IN}", "co", factor)))
        found.append([Proposal("low-rank", each, frozenset([layer])) for each in options])
    return found


def narrowed(unit: Unit) -> list[list[Proposal]]:
    """Fewer channels inside the block."""
    return [
        [Proposal("bottleneck", (step,), frozenset(ties.layers)) for step in _narrowings(ties, NARROWINGS)]
        for ties in unit.ties
    ]


def all_narrowed(unit: Unit) -> list[list[Proposal]]:
    """Fewer channels in all places inside a block that has several, as bottleneck blocks do; also in groups."""
    ties = unit.ties
    reach = frozenset(layer for each in ties for layer in each.layers)
    inside = [layer for layer in unit.contractions if layer in reach]
    alike: dict[int, Proposal] = {}
    graded: list[Proposal] = []
    grouped: list[Proposal] = []
    for factor in NARROWINGS if len(ties) > 1 else ():
        for place in (None, *range(len(ties))):  # the one that is narrowed once more
            factors = [factor * 2 if each == place else factor for each in range(len(ties))]
            steps = [step for each, by in zip(ties, factors, strict=True) for step in _narrowings(each, [by])]
            if len(steps) == len(ties) and place is None:
                alike[factor] = Proposal("bottleneck-all", tuple(steps), reach)
            elif len(steps) == len(ties):
                graded.append(Proposal("bottleneck-all", tuple(steps), reach))
    for left, each in alike.items():
        groups = [_groups(unit, inside, f * left, f) for f in GROUPS[:-1]]
        grouped += [Proposal("bottleneck-group", (*each.steps, *steps), reach) for steps in groups if steps]
    return [[each] for each in alike.values()] + [graded, grouped]


def narrowed_and_grouped(unit: Unit) -> list[list[Proposal]]:
    """Fewer channels inside the block, and its contractions in groups of what is left."""
    found = []
    for ties in unit.ties:
        inside = [layer for layer in unit.contractions if layer in ties.layers]
        for narrowing in _narrowings(ties, NARROWINGS[:-1]):
            left = narrowing.factor
            steps: list[tuple[Step, ...]] = [
                (narrowing, *groups) for f in GROUPS[:-1] if (groups := _groups(unit, inside, f * left, f))
            ]
            found.append([Proposal("bottleneck-group", each, frozenset(ties.layers)) for each in steps])
    return found


def all_grouped(unit: Unit) -> list[list[Proposal]]:
    """All contractions of a block in groups, where it has several that can be."""
    options = [groups for f in GROUPS if len(groups := _groups(unit, unit.contractions, f, f)) > 1]
    return [[Proposal("group-all", each, frozenset(map(_layer, each))) for each in options]]


def two_steps(unit: Unit) -> list[list[Proposal]]:
    """A part of the input, or a coarse grid, and groups of what is left."""
    found = []
    for layer in unit.contractions:
        nest = unit.ground.mains[layer]
        reductions = [loop for loop in loops_of(nest, "reduction") if loop in channels(nest)]
        options: list[tuple[Step, ...]] = []
        for factor in GROUPS[:-1]:
            for loop in reductions[:1]:
                groups = _groups(unit, [layer], factor * 2, factor)
                options += [(Bottleneck(layer, loop.iterator, 2), *groups)] if groups else []
            coarse, groups = _coarse(nest), _groups(unit, [layer], factor, factor)
            options += [(*coarse, *groups)] if coarse and groups else []
        found.append([Proposal("two-steps", each, frozenset([layer])) for each in options])
    return found


def attention_narrowed(unit: Unit) -> list[list[Proposal]]:
    """Fewer heads of an attention, or fewer features of its queries and keys, or of its values."""
    found = []
    for each in unit.ground.named:
        layers = [layer for layer in unit.contractions if layer in each.layers]
        if each.name in (HEAD, FEATURE, VALUE) and layers and unit.layers.keys() >= each.layers:
            kind = "heads" if each.name == HEAD else "bottleneck"
            steps = _of_heads(layers[0], each) if each.name == HEAD else _of_features(layers[0], each)
            found.append([Proposal(kind, (step,), each.layers) for step in steps])
    return found


def _of_heads(layer: str, heads: NamedDimension) -> list[Step]:
    """A part of the heads, down to one; or all but the last or the first of them."""
    extent = heads.loop.extent or 1
    parts: list[Step] = [Bottleneck(layer, HEAD, f) for f in ATTENTION_NARROWINGS if extent % f == 0]
    return parts + [Narrow(layer, HEAD, begin, extent - 1) for begin in (0, 1) if extent > _TWICE]


def _of_features(layer: str, features: NamedDimension) -> list[Step]:
    return [Bottleneck(layer, features.name, f) for f in divisors(features.loop.extent, ATTENTION_NARROWINGS)]


def dropped(unit: Unit) -> list[list[Proposal]]:
    """The block without its branch, or one of its branches: nothing but its skip."""
    known = unit.ground.droppable
    steps = [known[layer] for layer in unit.contractions if layer in known]
    return [[Proposal("drop-block", (step,), frozenset(unit.layers)) for step in steps]]


def stage_width(ground: Ground) -> list[Proposal]:
    """A dimension that runs through skips and concatenations, narrower everywhere at once; and the blocks' insides."""
    units = ground.units
    inside = {frozenset(ties.layers) for unit in units for ties in unit.ties}
    found = []
    for ties in ground.ties:
        if frozenset(ties.layers) in inside:
            continue
        touched = [u for u in units if u.layers.keys() & set(ties.layers)]
        within = [step for u in touched for t in u.ties for step in _narrowings(t, STAGE_NARROWINGS)]
        for step in _narrowings(ties, STAGE_NARROWINGS):
            found.append(Proposal("width", (step,), frozenset(ties.layers)))
            if within:
                every = frozenset(ties.layers).union(*(u.layers for u in touched))
                found.append(Proposal("width-bottleneck", (step, *within), every))
    return found


UNIT_KINDS: tuple[UnitKind, ...] = (
    narrowed,
    attention_narrowed,
    all_narrowed,
    dropped,
    of_passes,
    narrowed_and_grouped,
    low_rank,
    all_grouped,
    of_schedules,
    two_steps,
)
NETWORK_KINDS: tuple[NetworkKind, ...] = (stage_width,)


def fills(proposal: Proposal, ground: Ground) -> bool:
    """Whether the channels that each step leaves, as far as the untouched network tells, fill vectors."""
    for step in proposal.steps:
        nest = None if step.address is None else ground.mains.get(str(step.address))
        if nest is not None:
            extents = {loop.iterator: loop.extent for loop in channels(nest)}
            if not fills_vectors(step, extents, ground.target.lanes):
                return False
    return True


def _name(cls: type[Step]) -> str:
    return cls.name.removeprefix("morph-")


def _layer(step: Step) -> str:
    return "" if step.address is None else step.address.layer


def _narrowings(ties: Ties, factors: Sequence[int]) -> list[Bottleneck]:
    return [Bottleneck(*ties.writer, factor) for factor in divisors(ties.extent, factors)]


def _groups(unit: Unit, layers: Sequence[str], divisor: int, factor: int) -> tuple[Group, ...]:
    """A grouping of each of the layers whose channels `divisor` divides; none where it would make them single ones."""
    found = []
    for layer in layers:
        nest = unit.ground.mains[layer]
        outputs, inputs = loops_of(nest, "output"), loops_of(nest, "reduction")
        if len(outputs) == len(inputs) == 1:
            extents = [loop.extent or 1 for loop in (*outputs, *inputs)]
            if all(extent % divisor == 0 and extent > divisor for extent in extents):
                found.append(Group(layer, (outputs[0].iterator, inputs[0].iterator), factor))
    return tuple(found)


def _coarse(nest: Nest) -> tuple[Bottleneck, ...]:
    """Half as many rows and columns; nothing where there are no two of them."""
    grid = [loop for loop in nest.loops if is_grid(nest, loop) and not is_batch(nest, loop)]
    even = all((loop.extent or 1) % 2 == 0 for loop in grid)
    return tuple(Bottleneck(nest.layer, loop.iterator, 2) for loop in grid) if len(grid) == 2 and even else ()


def _filled(schedule: Schedule, layer: str, factor: int) -> tuple[Step, ...]:
    """The steps of a schedule whose integers are `factor` times their defaults; none where some have no default."""
    return tuple(step.on(layer) for step in _steps(schedule, factor))


def _shortest_first() -> list[Schedule]:
    return sorted(schedules().values(), key=lambda schedule: len(_steps(schedule, 1)))


@functools.cache
def _steps(schedule: Schedule, factor: int) -> tuple[Step, ...]:
    """The same of any layer."""
    values: dict[str, int | str] = {}
    for parameter in schedule.parameters:
        if parameter.kind == "name":
            values[parameter.name] = ANY_LAYER
        elif isinstance(parameter.default, int):
            values[parameter.name] = parameter.default * factor
        else:
            return ()
    return schedule_steps(fill(schedule, values), ir.Context())
