"""Sums of sums: what is added up in a buffer of its own first, as the lanes of a vector are, goes into the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.nest_recipe import (
    Accumulation,
    Constant,
    Load,
    Statement,
    accumulation,
    loads,
    map_loads,
)

_NEUTRAL: dict[Accumulation, float] = {"sum": 0.0, "max": -math.inf, "min": math.inf}


def without_partial_sums(statements: Sequence[Statement], private: frozenset[int]) -> list[Statement]:
    """The statements with fewer detours.

        t[i] = 0                          for all i
        t[i] = t[i] + x[i, k]             for all i, k      ->      y = y + x[i, k]     for all i, k
        y    = y + t[i]                   for all i

    The same holds of maxima and minima.

    Args:
        statements: of one nest, in order; each may run entirely before the next.
        private: the buffers that hold values of registers: each element is indexed by loops alone.
    """
    result = list(statements)
    for buffer in sorted(private):
        result = _merged(result, buffer)
    return result


def _merged(statements: list[Statement], buffer: int) -> list[Statement]:
    """Without the one buffer, where that is possible."""
    writes = [k for k, s in enumerate(statements) if s.target.buffer == buffer]
    reads = [k for k, s in enumerate(statements) if k not in writes and any(x.buffer == buffer for x in loads(s.value))]
    if len(reads) != 1 or len(writes) < 2 or reads[0] < writes[-1]:
        return statements
    start, total = statements[writes[0]], statements[reads[0]]
    found = accumulation(total)
    if found is None or len(found[1]) != 1:
        return statements
    kind, (partial,) = found
    if not isinstance(partial, Load):
        return statements
    adding = [statements[k] for k in writes[1:]]
    terms = [accumulation(s) for s in adding]
    if start.value != Constant(_NEUTRAL[kind]) or any(t is None or t[0] != kind for t in terms):
        return statements
    own = {x.buffer for s in adding for x in loads(s.value)} - {buffer}
    later = statements[writes[1] : reads[0]]
    if total.guards or total.target.buffer in own or any(s.target.buffer in own for s in later):
        return statements
    merged = [_onto(s, total.target, partial) for s in adding]
    if None in merged:
        return statements
    kept = [s for k, s in enumerate(statements[: reads[0]]) if k not in writes]
    return [*kept, *(s for s in merged if s is not None), *statements[reads[0] + 1 :]]


def _onto(statement: Statement, target: Load, partial: Load) -> Statement | None:
    """The statement that adds to `target`, where another added `partial`, what this one adds to the buffer."""
    mine, theirs = _loops(statement.target), _loops(partial)
    if mine is None or theirs is None:
        return None
    renamed = {old: forms.loop(new) for old, new in zip(theirs, mine, strict=True)}
    extents = statement.extent_of
    place = Load(target.buffer, tuple(forms.substitute(f, renamed, extents) for f in target.index))
    value = map_loads(statement, lambda load: place if load == statement.target else load).value
    return replace(statement, target=place, value=value)


def _loops(load: Load) -> list[int] | None:
    """The loops that index it, one on each axis; None where an index is anything else."""
    numbers = [next(iter(form.coefficients), -1) for form in load.index]
    plain = all(form == forms.loop(n) for form, n in zip(load.index, numbers, strict=True))
    return numbers if plain and len(set(numbers)) == len(numbers) else None
