"""The additive model: the variants with the least summed loss, or the least cost, chosen and proved by HiGHS.

A multiple-choice knapsack as an integer program: one binary for each variant, one constraint for each layer (of the
variants that decide it at most one is chosen: set packing, as variants may decide several layers), one for each limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are loaded when they are first used

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.search.variants.dominance import undominated
from loopmorph.pipelines.search.variants.table import Cost, Variant, VariantTable

LOSS, MILLISECONDS = "loss", "milliseconds"
COSTS = (MILLISECONDS, "parameters", "memory", "macs")
# A count of nodes and no time, so that the same table gives the same choice on a busy machine. Without a proof by then,
# the gap says how far off the choice may be.
_NODES = 50_000
_ANY = 0.1  # the gap that will do where those nodes held no choice at all
_SCALE = 1e4  # of the objective: HiGHS stops at an absolute gap of 1e-6, which this makes 1e-10 of the largest term


@dataclass(frozen=True)
class Limits:
    """What the whole network may take at most; None for no limit.

    Attributes:
        milliseconds, parameters, memory, macs: see `Cost`.
        loss: the sum of the variants' losses.
    """

    milliseconds: float | None = None
    parameters: float | None = None
    memory: float | None = None
    macs: float | None = None
    loss: float | None = None

    def check(self) -> None:
        """Raises:
        ArgumentError: a limit that is no positive number (0 is one for the loss).
        """
        for name, value in self.given():
            positive = value >= 0 if name == LOSS else value > 0
            if not positive or not math.isfinite(value):
                raise ArgumentError(name, f"expected a positive number as its limit, got {value!r}")

    def given(self) -> list[tuple[str, float]]:
        """The limits that there are, by name."""
        values = [(name, getattr(self, name)) for name in (*COSTS, LOSS)]
        return [(name, value) for name, value in values if value is not None]


@dataclass(frozen=True)
class Problem:
    """What is chosen from, and what a choice has to keep.

    Attributes:
        table: the variants.
        limits: of the whole network.
        losses: in the place of the variants' own, one for each; None for their own.
        apart: sets of variants, as positions in the table, that do not go together: never all of one.
        excluded: choices that are not to be made again.
        near: a choice in which at most `most_new` variants are to be new; None for any.
    """

    table: VariantTable
    limits: Limits = Limits()
    losses: tuple[float, ...] | None = None
    apart: tuple[frozenset[int], ...] = ()
    excluded: tuple[frozenset[int], ...] = ()
    near: frozenset[int] | None = None
    most_new: int = 2

    def values(self, name: str) -> np.ndarray:
        """(variants,) what each one adds to the loss or to a cost."""
        if name == LOSS:
            own = [each.loss for each in self.table.variants] if self.losses is None else self.losses
            return np.array(own, dtype=float)
        return np.array([getattr(each.change, name) for each in self.table.variants], dtype=float)

    def base(self, name: str) -> float:
        """What the network as it is has of it."""
        return 0.0 if name == LOSS else float(getattr(self.table.original, name))


@dataclass(frozen=True)
class Selection:
    """A choice of variants, no two of which share a layer.

    Attributes:
        indices: their positions in the table, ascending.
        variants: these.
        loss: the sum of their losses, as the problem weighs them.
        cost: of the whole network, by the table.
        bound: no choice has less of what was minimised.
        gap: how much more this one has than the bound, as a share of what it has; 0 where the optimum is proved.
    """

    indices: tuple[int, ...]
    variants: tuple[Variant, ...]
    loss: float
    cost: Cost
    bound: float
    gap: float


def solve(problem: Problem, objective: str = LOSS, *, gap: float = 0.0, reduced: bool = True) -> Selection | None:
    """The choice with the least loss, or the least of one of `COSTS`, within the limits; None where there is none.

    Args:
        problem: what is chosen from.
        objective: what is minimised.
        gap: how far from the optimum is near enough, as a share; 0 for a proof.
        reduced: whether dominated variants are left out: what has no less of anything than another variant of the same
            layers, or of some of them. The optimum stays; only `excluded` can make it one of those left out.
    """
    kept = _kept(problem, objective) if reduced else np.arange(len(problem.table.variants))
    while True:
        found = _solved(problem, objective, kept, gap)
        if found is None:
            return None
        selection = _selection(problem, objective, *found)
        if is_within(selection, problem.limits):
            return selection
        # beyond a limit by no more than the solver's tolerance
        problem = replace(problem, excluded=(*problem.excluded, frozenset(selection.indices)))


def least(problem: Problem, objective: str = LOSS) -> Selection:
    """As `solve`, for limits that a user gave.

    Raises:
        ArgumentError: a limit that is no positive number, or less than can be reached; says the least that can.
    """
    problem.limits.check()
    found = solve(problem, objective)
    if found is None:
        raise _refusal(problem)
    return found


def selection_of(problem: Problem, indices: Sequence[int]) -> Selection:
    """A choice that was made otherwise, as a `Selection`; nothing is known to bound it but what it has."""
    loss = math.fsum(problem.values(LOSS)[list(indices)])
    return _selection(problem, LOSS, indices, loss)


def is_within(selection: Selection, limits: Limits) -> bool:
    """Whether a choice keeps all limits."""
    return all(
        (selection.loss if name == LOSS else getattr(selection.cost, name)) <= most for name, most in limits.given()
    )


def _selection(problem: Problem, objective: str, indices: Sequence[int], bound: float) -> Selection:
    chosen = tuple(sorted(int(each) for each in indices))
    variants = tuple(problem.table.variants[each] for each in chosen)
    cost = sum((each.change for each in variants), problem.table.original)
    loss = math.fsum(problem.values(LOSS)[list(chosen)])
    reached = loss if objective == LOSS else float(getattr(cost, objective))
    bound = min(bound, reached)
    gap = (reached - bound) / abs(reached) if reached - bound > 1e-9 * abs(reached) else 0.0
    return Selection(chosen, variants, loss, cost, bound, gap)


def _kept(problem: Problem, objective: str) -> np.ndarray:
    """The positions of the variants that are not dominated in what counts here."""
    names = dict.fromkeys((objective, *(name for name, _ in problem.limits.given())))
    measures = np.stack([problem.values(name) for name in names], axis=1)
    tied = frozenset().union(*problem.apart)  # their choice may be forbidden: they stand in for nothing
    layers = [each.layers for each in problem.table.variants]
    return undominated(layers, measures, never=tied, always=tied | (problem.near or frozenset()))


def _solved(problem: Problem, objective: str, kept: np.ndarray, gap: float) -> tuple[list[int], float] | None:
    """The positions that HiGHS chooses among those kept, and its bound."""
    values = problem.values(objective)[kept]
    base = problem.base(objective)
    if not len(kept):
        allowed = all(problem.base(name) <= most for name, most in problem.limits.given())
        return ([], base) if allowed and frozenset() not in problem.excluded else None
    scale = _SCALE / max(float(np.abs(values).max()), 1e-300)
    for options in ({"mip_rel_gap": gap, "node_limit": _NODES}, {"mip_rel_gap": _ANY}):
        found = scipy.optimize.milp(
            values * scale,
            integrality=np.ones(len(kept)),
            bounds=scipy.optimize.Bounds(0, 1),
            constraints=_constraints(problem, kept),
            options=options,
        )
        if found.x is not None:
            bound = found.fun if found.mip_dual_bound is None else found.mip_dual_bound
            return kept[found.x > 0.5].tolist(), base + bound / scale
        if found.status != 1:  # no limit of the solver was reached: there is no choice
            return None
    return None


def _constraints(problem: Problem, kept: np.ndarray) -> list[scipy.optimize.LinearConstraint]:
    position = {int(variant): column for column, variant in enumerate(kept)}
    rows: list[dict[int, float]] = []
    most: list[float] = []
    by_layer: dict[str, dict[int, float]] = {}
    for variant, column in position.items():
        for layer in problem.table.variants[variant].layers:
            by_layer.setdefault(layer, {})[column] = 1.0
    exclusive = {tuple(row): row for row in by_layer.values() if len(row) > 1}
    rows += exclusive.values()
    most += [1.0] * len(exclusive)
    for name, limit in problem.limits.given():
        values = problem.values(name)[kept]
        size = max(float(np.abs(values).max()), 1e-300)
        rows.append(dict(enumerate((values / size).tolist())))
        most.append((limit - problem.base(name)) / size)
    for together in problem.apart:
        rows.append({position[each]: 1.0 for each in together})
        most.append(len(together) - 1.0)
    for choice in problem.excluded:
        if choice <= position.keys() and _is_reachable(problem, choice):
            beside = _beside(problem.table, choice, position)
            rows.append({position[each]: 1.0 for each in choice} | {position[each]: -1.0 for each in beside})
            most.append(len(choice) - 1.0)
    if problem.near is not None:
        rows.append({column: 1.0 for variant, column in position.items() if variant not in problem.near})
        most.append(float(problem.most_new))
    return [scipy.optimize.LinearConstraint(_matrix(rows, len(kept)), ub=np.array(most))] if rows else []


def _beside(table: VariantTable, choice: frozenset[int], kept: Iterable[int]) -> list[int]:
    """The variants that could be added to a choice: all others come in only where one of it goes."""
    taken: frozenset[str] = frozenset().union(*(table.variants[each].layers for each in choice))
    return [each for each in kept if taken.isdisjoint(table.variants[each].layers)]


def _is_reachable(problem: Problem, choice: frozenset[int]) -> bool:
    return problem.near is None or len(choice - problem.near) <= problem.most_new


def _matrix(rows: Sequence[dict[int, float]], columns: int) -> scipy.sparse.csr_array:
    indices = [column for row in rows for column in row]
    values = [value for row in rows for value in row.values()]
    starts = np.cumsum([0, *(len(row) for row in rows)])
    return scipy.sparse.csr_array((values, indices, starts), shape=(len(rows), columns))


def _refusal(problem: Problem) -> ArgumentError:
    """Why limits cannot be kept: the first that is out of reach by itself, or the first beside the others."""
    alone = [(name, limit, _least_of(problem, name, Limits())) for name, limit in problem.limits.given()]
    for name, limit, reached in alone:
        if reached is None or reached > limit:
            least_text = "nothing" if reached is None else f"{reached:.6g}"
            return ArgumentError(
                name, f"{limit:.6g} is out of reach: the least that the variants reach is {least_text}"
            )
    name, limit, _ = alone[0]
    others = replace(problem.limits, **{name: None})
    reached = _least_of(problem, name, others)
    beside = ", ".join(f"{other} {value:.6g}" for other, value in others.given())
    if reached is None:
        return ArgumentError(name, f"its limit and those of the others ({beside}) exclude each other")
    return ArgumentError(name, f"{limit:.6g} is out of reach beside {beside}: the least there is {reached:.6g}")


def _least_of(problem: Problem, name: str, limits: Limits) -> float | None:
    found = solve(replace(problem, limits=limits), name)
    if found is None:
        return None
    return found.loss if name == LOSS else float(getattr(found.cost, name))
