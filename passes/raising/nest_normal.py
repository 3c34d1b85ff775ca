"""The normal form of a statement: the same points, in as few loops and as linear indices as we can tell.

Split loops (always used as `a * B + b`) are coalesced, fused ones (used as `f floordiv B` and `f mod B`) are taken
apart, bounds with a `min` become one loop, loops of extent 1 go. So most schedules of a nest have one normal form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Form, Quotient
from loopmorph.passes.raising.nest_recipe import Load, Statement, accumulation, loads, map_loads

_REMEMBERED = 4096  # statements: most are the same in all rewrites of a network


@functools.lru_cache(maxsize=_REMEMBERED)
def normalise(statement: Statement) -> Statement | None:
    """The statement in normal form; None where it has no points."""
    if 0 in statement.extents:
        return None
    while True:
        after = _split_fused(_coalesce(_drop_idle(_tighten(_drop_unit(statement)))))
        if after == statement:
            return statement
        if 0 in after.extents:
            return None
        statement = after


def all_forms(statement: Statement) -> list[Form]:
    """Every index of the target and the loads, and the guards."""
    accesses = [statement.target, *loads(statement.value)]
    return [form for access in accesses for form in access.index] + list(statement.guards)


def map_forms(statement: Statement, change: Callable[[Form], Form]) -> Statement:
    """The statement with every index and guard changed."""
    guards = tuple(change(g) for g in statement.guards)
    changed = map_loads(statement, lambda load: Load(load.buffer, tuple(change(f) for f in load.index)))
    return replace(changed, guards=guards)


def with_loops(statement: Statement, extents: Mapping[int, int], replacement: Mapping[int, Form]) -> Statement:
    """The statement over other loops, its old ones replaced by forms of the new."""
    changed = map_forms(statement, lambda form: forms.substitute(form, replacement, extents))
    return replace(changed, loops=tuple(extents), extents=tuple(extents.values()))


def _drop_unit(statement: Statement) -> Statement:
    units = [n for n, extent in statement.extent_of.items() if extent == 1]
    if not units:
        return statement
    kept = {n: extent for n, extent in statement.extent_of.items() if extent != 1}
    return with_loops(statement, kept, dict.fromkeys(units, Form()))


def _tighten(statement: Statement) -> Statement:
    """Drops guards that always hold; one on a single loop becomes its extent."""
    extents, guards = statement.extent_of, []
    for guard in statement.guards:
        if len(guard.terms) == 1 and guard.is_linear and guard.terms[0][1] < 0:
            number, c = guard.terms[0]
            assert isinstance(number, int)
            extents[number] = min(extents[number], max(0, guard.constant // -c + 1))
        elif forms.bounds(guard, extents)[0] < 0:
            guards.append(guard)
    return replace(statement, extents=tuple(extents.values()), guards=tuple(guards))


def _drop_idle(statement: Statement) -> Statement:
    """A plain store that is repeated unchanged, as nothing that it reads has changed, needs no loop for it."""
    used = frozenset().union(*(forms.used_loops(f) for f in all_forms(statement)))
    idle = set(statement.loops) - used
    changing = any(load.buffer == statement.target.buffer for load in loads(statement.value))
    if not idle or changing or accumulation(statement) is not None:
        return statement
    return with_loops(statement, {n: e for n, e in statement.extent_of.items() if n not in idle}, {})


def _coalesce(statement: Statement) -> Statement:
    parts = [part.coefficients for form in all_forms(statement) for part in forms.linear_parts(form)]
    extents = statement.extent_of
    for outer in statement.loops:
        for inner in statement.loops:
            width = extents[inner]
            if outer == inner or not any(inner in p for p in parts):
                continue
            if all(p.get(outer, 0) == width * p.get(inner, 0) for p in parts):
                merged = {n: e * extents[outer] if n == inner else e for n, e in extents.items() if n != outer}
                return with_loops(statement, merged, {outer: Form()})
    return statement


def _split_fused(statement: Statement) -> Statement:
    """Takes one fused loop apart, by its smallest divisor."""
    extents = statement.extent_of
    found: list[tuple[int, int]] = []
    for form in all_forms(statement):
        for part in forms.linear_parts(form):
            for atom, _ in part.terms:
                if isinstance(atom, Quotient):
                    terms, rest = atom.numerator.terms, atom.numerator.constant
                    if len(terms) == 1 and rest == 0 and isinstance(terms[0][0], int) and terms[0][1] == 1:
                        found.append((atom.divisor, terms[0][0]))
    for divisor, number in sorted(found):
        if extents[number] % divisor == 0:
            whole = max(extents) + 1
            split = {**extents, number: divisor, whole: extents[number] // divisor}
            return with_loops(statement, split, {number: forms.add(forms.loop(whole, divisor), forms.loop(number))})
    return statement
