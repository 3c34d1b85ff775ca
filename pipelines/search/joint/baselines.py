"""The choices that anybody could make without a solver, from the same table; a joint choice must not be worse."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from random import Random

from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.search.joint.knapsack import LOSS, MILLISECONDS, Problem, Selection, is_within, selection_of
from loopmorph.pipelines.search.variants.table import Variant, VariantTable

UNIFORM_KINDS = ("bottleneck", "bottleneck-all", "group")
GREEDY, RANDOM = "greedy", "random 1"
_SOMEWHERE = "somewhere"
_TRIES = 10_000  # variants that a random choice draws before it gives up


def baselines(problem: Problem, generator: Random) -> dict[str, Selection]:
    """The baselines for some limits, by name.

    Args:
        problem: the variants, and the limits that are to be kept.
        generator: of the random choice.

    Returns:
        "uniform bottleneck co 4" and the like: of each kind the one with the least loss that keeps the limits, or the
        fastest where none does; "greedy"; "random 1". The latter two only where they can keep the limits.
    """
    found: dict[str, Selection] = {}
    for kind in UNIFORM_KINDS:
        name, selection = _best_uniform(problem, kind)
        if selection is not None:
            found[name] = selection
    greedily = greedy(problem)
    if greedily is not None:
        found[GREEDY] = greedily
    drawn = at_random(problem, generator)
    if drawn is not None:
        found[RANDOM] = drawn
    return found


def uniform(problem: Problem, kind: str) -> dict[str, Selection]:
    """The same steps in every place that has them, for all such steps of a kind; by name ("uniform group co,ci 4").

    Where two variants with these steps share a layer, the first one is taken.
    """
    alike: dict[str, list[int]] = {}
    for index, variant in enumerate(problem.table.variants):
        if variant.kind == kind:
            alike.setdefault(_signature(variant), []).append(index)
    return {f"uniform {name}": selection_of(problem, _compatible(problem.table, each)) for name, each in alike.items()}


def greedy(problem: Problem) -> Selection | None:
    """Variants one after the other, the one that saves most milliseconds for each loss first, until the limits hold.

    A variant takes the place of those that it shares a layer with. None where the limits cannot be reached so.
    """
    rules = _Rules(problem)
    chosen: frozenset[int] = frozenset()
    while not rules.holds(chosen):
        options = [(rate, -each) for each in rules.outside(chosen) if (rate := rules.rate(chosen, each)) is not None]
        if not options:
            return None
        chosen = rules.with_variant(chosen, -max(options)[1])
    return selection_of(problem, sorted(chosen))


def at_random(problem: Problem, generator: Random) -> Selection | None:
    """Variants that are drawn until the limits hold, each in the place of those that it shares a layer with.

    One that saves nothing there is passed over. None where it takes too long.
    """
    rules = _Rules(problem)
    chosen: frozenset[int] = frozenset()
    for _ in range(_TRIES if problem.table.variants else 0):
        if rules.holds(chosen):
            break
        drawn = generator.randrange(len(problem.table.variants))
        if drawn not in chosen and rules.rate(chosen, drawn) is not None:
            chosen = rules.with_variant(chosen, drawn)
    return selection_of(problem, sorted(chosen)) if rules.holds(chosen) else None


class _Rules:
    """What becomes of a choice when a variant comes in."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._losses, self._times = (problem.values(name).tolist() for name in (LOSS, MILLISECONDS))
        self._by_layer: dict[str, set[int]] = {}
        for index, variant in enumerate(problem.table.variants):
            for layer in variant.layers:
                self._by_layer.setdefault(layer, set()).add(index)

    def holds(self, chosen: frozenset[int]) -> bool:
        return is_within(selection_of(self._problem, sorted(chosen)), self._problem.limits)

    def outside(self, chosen: frozenset[int]) -> Iterator[int]:
        return (each for each in range(len(self._times)) if each not in chosen)

    def with_variant(self, chosen: frozenset[int], index: int) -> frozenset[int]:
        return (chosen - self._rivals(chosen, index)) | {index}

    def rate(self, chosen: frozenset[int], index: int) -> float | None:
        """Milliseconds saved for each loss that a variant adds; None where it saves none."""
        rivals = self._rivals(chosen, index)
        saved = math.fsum(self._times[each] for each in rivals) - self._times[index]
        harm = self._losses[index] - math.fsum(self._losses[each] for each in rivals)
        if saved <= 0:
            return None
        return saved / harm if harm > 0 else math.inf

    def _rivals(self, chosen: frozenset[int], index: int) -> frozenset[int]:
        layers = self._problem.table.variants[index].layers
        return chosen.intersection(*[set().union(*(self._by_layer[layer] for layer in layers))])


def _best_uniform(problem: Problem, kind: str) -> tuple[str, Selection | None]:
    found = uniform(problem, kind)
    within = {name: each for name, each in found.items() if is_within(each, problem.limits)}
    if within:
        name = min(within, key=lambda each: (within[each].loss, each))
        return name, within[name]
    if found:
        name = min(found, key=lambda each: (found[each].cost.milliseconds, each))
        return name, found[name]
    return "", None


def _signature(variant: Variant) -> str:
    """Its steps without their layers, as words: "bottleneck co 4"."""
    texts = [str(step.on(_SOMEWHERE)) for step in parse_steps(",".join(variant.steps))]
    words = [
        text.removeprefix("morph-").replace(f"layer={_SOMEWHERE}", "").strip("}").replace("{", " ") for text in texts
    ]
    return " + ".join(" ".join(re.sub(r"\w+=", "", each).split()) for each in words)


def _compatible(table: VariantTable, indices: Sequence[int]) -> list[int]:
    taken: set[str] = set()
    kept = []
    for index in indices:
        if taken.isdisjoint(table.variants[index].layers):
            taken |= table.variants[index].layers
            kept.append(index)
    return kept
