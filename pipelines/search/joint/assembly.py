"""From chosen variants to the steps of one network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loopmorph.passes.history import Step, parse_steps
from loopmorph.pipelines.search.variants.table import VariantTable

IsApplicable = Callable[[Sequence[Step]], bool]


@dataclass(frozen=True)
class Assembly:
    """The steps of some variants, one after the other.

    Attributes:
        steps: of those that are kept, in the order of the table, which is that of the program (see `steps_of`).
        kept: positions in the table, ascending.
        dropped: those that the network does not admit after the others.
        apart: pairs (or larger sets, where no pair tells) of positions that were found not to go together.
    """

    steps: tuple[Step, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...] = ()
    apart: tuple[frozenset[int], ...] = ()


def assemble(table: VariantTable, indices: Sequence[int], is_applicable: IsApplicable) -> Assembly:
    """The steps of some variants; one that the network does not admit after those before it is left out whole.

    Args:
        table: the variants.
        indices: positions in it.
        is_applicable: whether the network admits some steps.

    Raises:
        ArgumentError: a variant's steps are malformed.
    """
    chosen = tuple(sorted(indices))
    steps = steps_of(table, chosen)
    if not steps or is_applicable(steps):
        return Assembly(steps, chosen)
    kept: list[int] = []
    dropped: list[int] = []
    apart: list[frozenset[int]] = []
    for each in chosen:
        if is_applicable(steps_of(table, (*kept, each))):
            kept.append(each)
        else:
            dropped.append(each)
            apart.append(_culprits(table, kept, each, is_applicable))
    return Assembly(steps_of(table, kept), tuple(kept), tuple(dropped), tuple(apart))


def steps_of(table: VariantTable, indices: Sequence[int]) -> tuple[Step, ...]:
    """The steps of some variants, in the order of the table; how loops run comes last, on the nests that all leave.

    Loop steps before a variant's last neural step belong to that: they bring iterators forward for it.

    Raises:
        ArgumentError: a variant's steps are malformed.
    """
    first: list[Step] = []
    last: list[Step] = []
    for each in sorted(indices):
        steps = parse_steps(",".join(table.variants[each].steps))
        neural = [position for position, step in enumerate(steps, start=1) if step.kind == "neural"]
        middle = neural[-1] if neural else 0
        first += steps[:middle]
        last += steps[middle:]
    return (*first, *last)


def _culprits(table: VariantTable, kept: Sequence[int], refused: int, is_applicable: IsApplicable) -> frozenset[int]:
    """The variant itself, where it does not go alone; with the first that it does not go with; else with all."""
    if not is_applicable(steps_of(table, (refused,))):
        return frozenset({refused})
    for other in kept:
        if not is_applicable(steps_of(table, (other, refused))):
            return frozenset({other, refused})
    return frozenset({*kept, refused})
