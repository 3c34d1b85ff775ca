"""Whether the statements of one nest may run one after the other, each over all its points at once (exact, by isl)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import islpy

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.raising.index_forms import Form, isl_text
from loopmorph.passes.raising.nest_cells import apart
from loopmorph.passes.raising.nest_normal import normalise
from loopmorph.passes.raising.nest_recipe import Load, Statement, accumulation, loads


@dataclass(frozen=True)
class Instance:
    """A statement as it stands in its nest.

    Attributes:
        statement: over the nest's own loops.
        read: each load in its value, the loops around the load, and its time in program order.
        time: that of the store.
    """

    statement: Statement
    read: tuple[tuple[Load, tuple[int, ...], int], ...]
    time: int


def check_distribution(label: str, instances: Sequence[Instance]) -> None:
    """Raises:
    IllegalTransform: the nest computes something else when its statements are executed one by one.
    """
    for instance in instances:
        _check_values_are_fresh(label, instance, instances)
    for k, first in enumerate(instances):
        normal = normalise(first.statement)
        if normal is not None:
            _check_single(label, normal)
        for second in instances[k + 1 :]:
            _check_pair(label, first.statement, second.statement)


def _check_values_are_fresh(label: str, instance: Instance, instances: Sequence[Instance]) -> None:
    """A value loaded early, in a register while its memory changes, is not what a load at the store would give."""
    for load, around, time in instance.read:
        deeper = set(instance.statement.loops) - set(around)
        for other in instances:
            target = other.statement.target
            if target.buffer != load.buffer:
                continue
            between = time < other.time < instance.time and not apart(target.index, load.index)
            if between or deeper & set(other.statement.loops):
                raise IllegalTransform(label, "it keeps a value in a register while the memory that it is from changes")


def _check_single(label: str, statement: Statement) -> None:
    """All points at once: no point may store where another one stores or reads, but to accumulate."""
    accumulates = accumulation(statement) is not None
    own = [statement.target] if accumulates else []
    touched = [load for load in loads(statement.value) if load.buffer == statement.target.buffer and load not in own]
    if not accumulates and not _is_plainly_injective(statement):
        touched.append(statement.target)
    for access in touched:
        if not _is_empty(statement, statement, statement.target, access, "!="):
            raise IllegalTransform(label, "its points depend on one another other than by accumulation")


def _check_pair(label: str, first: Statement, second: Statement) -> None:
    """No point of `second` that comes before one of `first` may touch the same element."""
    shared = set(first.loops) & set(second.loops)
    pairs = [(first.target, second.target)]
    pairs += [(first.target, load) for load in loads(second.value)]
    pairs += [(load, second.target) for load in loads(first.value)]
    commute = _same_accumulation(first, second)
    for a, b in pairs:
        if a.buffer != b.buffer or not shared:
            continue
        if commute and a == first.target and b == second.target:
            continue
        if not _is_empty(first, second, a, b, ">"):
            raise IllegalTransform(label, "its statements depend on one another across iterations")


def _same_accumulation(first: Statement, second: Statement) -> bool:
    a, b = accumulation(first), accumulation(second)
    return a is not None and b is not None and a[0] == b[0]


def _is_plainly_injective(statement: Statement) -> bool:
    """Every loop is, alone and with factor 1, the index on some axis (the usual case, told without isl)."""
    lone = {f.terms[0][0] for f in statement.target.index if len(f.terms) == 1}
    return set(statement.loops) - {n for n, e in statement.extent_of.items() if e == 1} <= lone


def _is_empty(first: Statement, second: Statement, a: Load, b: Load, order: str) -> bool:
    """Whether no points i of `first`, j of `second` have a(i) == b(j) and, on the shared loops, i `order` j.

    `order` ">" is the lexicographic order, "!=" wants i and j to differ.
    """
    if any(_never_equal(x, y) for x, y in zip(a.index, b.index, strict=True)):
        return True
    names_i = {n: f"i{n}" for n in first.loops}
    names_j = {n: f"j{n}" for n in second.loops}
    conditions = [*_domain(first, names_i), *_domain(second, names_j)]
    conditions += [f"{isl_text(x, names_i)} = {isl_text(y, names_j)}" for x, y in zip(a.index, b.index, strict=True)]
    shared = [n for n in first.loops if n in names_j]
    variables = ", ".join([*names_i.values(), *names_j.values()])
    for depth, number in enumerate(shared):
        equal = [] if order == "!=" else [f"i{n} = j{n}" for n in shared[:depth]]
        text = " and ".join([*conditions, *equal, f"i{number} {order} j{number}"])
        if not islpy.Set(f"{{ [{variables}] : {text} }}").is_empty():
            return False
    return True


def _never_equal(x: Form, y: Form) -> bool:
    """Sufficient, whatever the loops are: the constants differ by what no multiples of the coefficients make up for."""
    step = math.gcd(*(c for form in (x, y) for _, c in form.terms))
    difference = x.constant - y.constant
    return difference % step != 0 if step else difference != 0


def _domain(statement: Statement, names: dict[int, str]) -> list[str]:
    box = [f"0 <= {names[n]} < {extent}" for n, extent in statement.extent_of.items()]
    return box + [f"{isl_text(g, names)} >= 0" for g in statement.guards]
