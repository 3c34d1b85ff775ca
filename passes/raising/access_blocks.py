"""Sets of index tuples as boxes of generators; the form in which differently scheduled nests become equal.

A statement that touches several buffers visits, point by point, a tuple of their indices. Where the indices are
linear that set is `base + sum(k * vector for k in 0 .. count-1)` over a few generators `(vector, count)`. Split and
tiled loops give generators that merge, unrolled copies give several boxes that join; the loops' order never shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loopmorph.passes.raising.index_forms import Form

Vector = tuple[int, ...]


@dataclass(frozen=True)
class AccessBlock:
    """The tuples `base + sum(k_i * vector_i)`, `0 <= k_i < count_i`, each as often as there are ways to write it."""

    base: Vector
    generators: tuple[tuple[Vector, int], ...]


def access_block(forms: Sequence[Form], extents: dict[int, int]) -> AccessBlock | None:
    """The box of a statement's points under `forms`; None where these are not linear."""
    if not all(form.is_linear for form in forms):
        return None
    base = tuple(form.constant for form in forms)
    coefficients = [form.coefficients for form in forms]
    generators = [(tuple(c.get(n, 0) for c in coefficients), extent) for n, extent in extents.items()]
    return _merged(base, generators)


def union(boxes: Iterable[AccessBlock]) -> AccessBlock | None:
    """One box that holds the tuples of all, each as often as they do; None where there is none to be seen."""
    todo = sorted(boxes, key=lambda b: (b.generators, b.base))
    if not todo:
        return None
    while len(todo) > 1:
        joined = _join_copies(todo) or _join_neighbours(todo)
        if joined is None:
            return None
        todo = sorted(joined, key=lambda b: (b.generators, b.base))
    return todo[0]


def _merged(base: Vector, generators: list[tuple[Vector, int]]) -> AccessBlock:
    """Normal form: no generator of count 1, none that continues another."""
    parts = [(v, n) for v, n in generators if n != 1]
    while True:
        pair = next(
            (
                (a, b)
                for a in parts
                for b in parts
                if a is not b and any(b[0]) and a[0] == tuple(b[1] * x for x in b[0])
            ),
            None,
        )
        if pair is None:
            return AccessBlock(base, tuple(sorted(parts, reverse=True)))
        outer, inner = pair
        parts = [p for p in parts if p is not outer and p is not inner] + [(inner[0], inner[1] * outer[1])]


def _join_copies(boxes: list[AccessBlock]) -> list[AccessBlock] | None:
    """Boxes that are translates of one another, a constant distance apart, become one with a generator more."""
    families: dict[tuple[tuple[Vector, int], ...], list[Vector]] = {}
    for b in boxes:
        families.setdefault(b.generators, []).append(b.base)
    result, changed = [], False
    for generators, bases in families.items():
        run = _run_length(bases)
        if run > 1 and len(bases) % run == 0 and _repeats(bases, run):
            step = _minus(bases[1], bases[0])
            if not any(step):  # the same points twice
                return None
            result += [_merged(base, [*generators, (step, run)]) for base in bases[::run]]
            changed = True
        else:
            result += [AccessBlock(base, generators) for base in bases]
    return result if changed else None


def _join_neighbours(boxes: list[AccessBlock]) -> list[AccessBlock] | None:
    """Two boxes, one of which continues the other along a generator (a loop and its remainder)."""
    for a in boxes:
        for b in boxes:
            joined = _continued(a, b) if a is not b else None
            if joined is not None:
                return [x for x in boxes if x is not a and x is not b] + [joined]
    return None


def _continued(a: AccessBlock, b: AccessBlock) -> AccessBlock | None:
    step = _minus(b.base, a.base)
    for vector, count in a.generators:
        others = [g for g in a.generators if g != (vector, count)]
        more = [g for g in b.generators if g not in others]
        if len(b.generators) - len(more) != len(others) or step != tuple(count * x for x in vector):
            continue
        if not more:
            return _merged(a.base, [*others, (vector, count + 1)])
        if len(more) == 1 and more[0][0] == vector:
            return _merged(a.base, [*others, (vector, count + more[0][1])])
    return None


def _run_length(bases: list[Vector]) -> int:
    """How many of the sorted bases, from the first on, lie the same distance apart."""
    if len(bases) < 2:
        return 1
    step, run = _minus(bases[1], bases[0]), 2
    while run < len(bases) and _minus(bases[run], bases[run - 1]) == step:
        run += 1
    return run


def _repeats(bases: list[Vector], run: int) -> bool:
    pattern = [_minus(b, bases[0]) for b in bases[:run]]
    return all([_minus(b, bases[k]) for b in bases[k : k + run]] == pattern for k in range(0, len(bases), run))


def _minus(a: Vector, b: Vector) -> Vector:
    return tuple(x - y for x, y in zip(a, b, strict=True))
