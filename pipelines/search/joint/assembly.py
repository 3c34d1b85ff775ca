"""From chosen variants to the steps of one network."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

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

    Asking costs as much as a replay of all steps. Where all variants together are refused, halves are asked about, and
    halves of what is refused of these: of n variants few of which do not go together, some log2(n) questions for each.

    Args:
        table: the variants.
        indices: positions in it.
        is_applicable: whether the network admits some steps.

    Raises:
        ArgumentError: a variant's steps are malformed.
    """
    admits = cache(lambda chosen: is_applicable(steps_of(table, chosen)))
    kept: tuple[int, ...] = ()
    dropped: list[int] = []
    apart: list[frozenset[int]] = []
    groups = [tuple(sorted(indices))] if indices else []
    while groups:
        group = groups.pop()
        if admits((*kept, *group)):
            kept = (*kept, *group)
        elif len(group) > 1:
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
        else:
            dropped += group
            apart.append(_culprits(kept, group[0], admits))
    return Assembly(steps_of(table, kept), kept, tuple(dropped), tuple(apart))


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


def _culprits(kept: Sequence[int], refused: int, admits: Callable[[tuple[int, ...]], bool]) -> frozenset[int]:
    """The variant itself, where it does not go alone; with the one that it does not go with; else with all."""
    count = bisect_left(range(len(kept)), True, key=lambda some: not admits((*kept[:some], refused)))
    if count == 0:
        return frozenset({refused})
    pair = kept[count - 1], refused  # before it was there the variant went with the others
    return frozenset({*kept, refused} if admits(pair) else pair)
