"""Exact dependence analysis of a nest, with isl.

Instances of accesses, the elements that they touch and the order in which they run are as in `instances`. Two accesses
depend on each other when they touch the same element, at least one stores, and the nest runs one before the other.

Which memrefs can overlap: results of `memref.alloc` and arguments of the function are distinct buffers; views
(`memref.subview`, casts, reshapes) overlap everything that has the same base; any other memref overlaps everything.

Reductions: `x[..] = combine(x[..], v)` with an associative, commutative `combine`. Its dependences on itself and on
other reductions into the same memref by the same operation are marked `reduction`. Such instances may be reordered as
long as each stays in one piece (floating-point results may round differently), but must not run in parallel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import islpy as isl

from loopmorph.passes.analysis.dependence.aliasing import may_alias
from loopmorph.passes.analysis.dependence.instances import access_relation, band_schedule, domain, schedule
from loopmorph.passes.analysis.dependence.known_operations import require_known_operations
from loopmorph.passes.analysis.dependence.quick_conflict import QuickTest, meet_in_one_iteration
from loopmorph.passes.analysis.dependence.reductions import Reduction, combining_accesses, is_same_reduction
from loopmorph.passes.analysis.unseen import is_unseen
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.nest_text import access_text

DependenceKind = Literal["flow", "anti", "output"]


@dataclass(frozen=True, eq=False)
class Dependence:
    """`sink` has to run after `source`.

    Attributes:
        kind: "flow" (store, then load), "anti" (load, then store) or "output" (two stores).
        source: the access that runs first.
        sink: the access that runs later.
        relation: isl map from the instances of `source` to the instances of `sink` that depend on them.
        common: positions of the loops around both accesses, outermost first.
        reduction: whether both belong to a reduction that admits any order of its instances.
        exact: False where the accesses go through different views, so that overlap is assumed, not known.
    """

    kind: DependenceKind
    source: Access
    sink: Access
    relation: isl.Map
    common: tuple[int, ...]
    reduction: bool
    exact: bool

    @cached_property
    def distances(self) -> isl.Set:
        """Sink minus source, over the common loops, outermost first."""
        relation, depth = self.relation, len(self.common)
        for side in (isl.dim_type.in_, isl.dim_type.out):
            relation = relation.project_out(side, depth, relation.dim(side) - depth)
        return relation.deltas()

    @property
    def distance(self) -> tuple[int, ...]:
        """The lexicographically smallest of the distances."""
        point = self.distances.lexmin().sample_point()
        return tuple(point.get_coordinate_val(isl.dim_type.set, k).to_python() for k in range(len(self.common)))

    def describe(self, nest: Nest) -> str:
        """The dependence in words, with the iterator that carries it and one distance."""
        distance = self.distance
        names = [nest.iterators[p] for p in self.common]
        text = f"the {self.kind} dependence from {access_text(nest, self.source)} to {access_text(nest, self.sink)}"
        steps = ", ".join(f"{name}={step}" for name, step in zip(names, distance, strict=True))
        carrier = next((name for name, step in zip(names, distance, strict=True) if step), None)
        return f"{text}, carried by '{carrier}' at distance ({steps})" if carrier else f"{text} within one iteration"


def dependences(nest: Nest) -> tuple[Dependence, ...]:
    """All dependences of a nest.

    Where instances of a reduction depend on each other, those between iterations are marked `reduction`; those within
    one iteration (the load before its store) are listed apart and are not.

    Raises:
        IllegalTransform: the nest holds an operation whose accesses are unknown, or an index or bound that is no
            affine function of the iterators.
    """
    return _dependences(nest, _pairs(nest))


def _pairs(nest: Nest, combined: Mapping[int, Reduction] | None = None) -> list[tuple[Access, Access]]:
    """The accesses that may depend on each other, the earlier in the text first, but for those of one reduction."""
    quick = QuickTest(nest.accesses)
    numbers = {a.memref: k for k, a in enumerate(nest.accesses)}
    overlapping = {(k, j): may_alias(a, b) for a, k in numbers.items() for b, j in numbers.items()}
    numbered = [(a, numbers[a.memref], a.kind == "store") for a in nest.accesses]
    return [
        (a, b)
        for k, (a, memref, stores) in enumerate(numbered)
        for b, other, stores_too in numbered[k:]
        if (stores or stores_too) and overlapping[memref, other]
        if not is_same_reduction(a, b, combined or {}) and not quick.never_meet(a, b)
        if a is not b or not _touches_each_once(nest, a)
    ]


def _touches_each_once(nest: Nest, access: Access) -> bool:
    """Whether a quick test shows that no two instances of an access touch the same element."""
    if access.lanes > 1:
        return False
    alone = {d for form in access.forms if form is not None and len(form.coefficients) == 1 for d in form.coefficients}
    return all(p in alone for p in access.loops if nest.loops[p].extent != 1)


def _dependences(nest: Nest, pairs: Sequence[tuple[Access, Access]]) -> tuple[Dependence, ...]:
    """The dependences of pairs, in their order. Pairs that are alike, as the copies of an unrolled body are, take one
    analysis.
    """
    require_known_operations(nest)
    if not pairs:
        return ()
    combined = combining_accesses(nest)
    keys = [_likeness(a, b, is_same_reduction(a, b, combined)) for a, b in pairs]
    examples = dict(zip(keys, pairs, strict=True))
    involved = {a.order: a for pair in examples.values() for a in pair}
    touched = {k: access_relation(a).intersect_domain(domain(nest, a)) for k, a in involved.items()}
    order = schedule(nest, involved.values())
    found: dict[object, list[Dependence]] = {}
    for key, (a, b) in examples.items():
        reorderable = is_same_reduction(a, b, combined)
        conflict = _conflict(a, b, touched)
        if conflict.is_empty():
            continue
        found[key] = [*_directed(nest, a, b, conflict, order, reorderable)]
        if a is not b:
            found[key] += _directed(nest, b, a, conflict.reverse(), order, reorderable)
    return tuple(
        dataclasses.replace(each, source=a, sink=b)
        if each.source is examples[key][0]
        else dataclasses.replace(each, source=b, sink=a)
        for key, (a, b) in zip(keys, pairs, strict=True)
        for each in found.get(key, ())
    )


def _likeness(a: Access, b: Access, reorderable: bool) -> object:
    """What the dependences of two accesses follow from: how their indices differ, not where both of them begin."""
    if a.guards or b.guards or None in (*a.forms, *b.forms):
        return a.order, b.order
    same = a.memref == b.memref
    indices = [
        (tuple(sorted(f.coefficients.items())), tuple(sorted(g.coefficients.items())), f.constant - g.constant)
        for f, g in zip(a.forms, b.forms, strict=False)
        if same and f is not None and g is not None
    ]
    before = (a.order > b.order) - (a.order < b.order)
    return a.kind, b.kind, a.loops, b.loops, a.lanes, b.lanes, before, same, tuple(indices), reorderable


def carried(nest: Nest, loop: Loop) -> tuple[Dependence, ...]:
    """The dependences between different iterations of `loop` (the loops around it at the same iteration).

    The relation of each is restricted to those instances. Includes reductions: a loop that carries one can be
    reordered but not run in parallel. Raises as `dependences` does.
    """
    found = []
    pairs = [(a, b) for a, b in _pairs(nest) if not meet_in_one_iteration(nest, loop, a, b)]
    for dependence in _dependences(nest, pairs):
        if loop.position not in dependence.common:
            continue
        relation = dependence.relation
        depth = dependence.common.index(loop.position)
        for k in range(depth):
            relation = relation.equate(isl.dim_type.in_, k, isl.dim_type.out, k)
        relation = relation.order_lt(isl.dim_type.in_, depth, isl.dim_type.out, depth)
        if not relation.is_empty():
            found.append(dataclasses.replace(dependence, relation=relation))
    return tuple(found)


def between_iterations(dependence: Dependence, loop: Loop) -> Dependence | None:
    """The part of a dependence between different values of the loop's iterator; None where it has none."""
    if loop.position not in dependence.common:
        return dependence
    depth, relation = dependence.common.index(loop.position), dependence.relation
    before = relation.order_lt(isl.dim_type.in_, depth, isl.dim_type.out, depth)
    after = relation.order_gt(isl.dim_type.in_, depth, isl.dim_type.out, depth)
    crossing = before.union(after)
    return None if crossing.is_empty() else dataclasses.replace(dependence, relation=crossing)


def renaming_violations(nest: Nest, loops: Sequence[Loop]) -> Iterator[Dependence]:
    """The dependences, reductions aside, between iterations that differ in one of the loops around both accesses.

    Where there are none, the values that these iterators take may trade places in any way, and all that somebody sees
    stays the same. Raises as `dependences` does.
    """
    pairs = _pairs(nest, combining_accesses(nest, unseen=False))
    for dependence in _dependences(nest, [(a, b) for a, b in pairs if not is_unseen(a.memref)]):
        crossing = [between_iterations(dependence, loop) for loop in loops if loop.position in dependence.common]
        yield from (each for each in crossing if each is not None)


def reordering_violation(nest: Nest, new: Sequence[int] | Mapping[int, isl.Map]) -> Dependence | None:
    """The first dependence, reductions aside, that a new execution order does not keep; None where all are kept.

    Args:
        nest: the nest in its present order.
        new: either the positions of a perfect nest's loops in their new order, or one schedule for each access, by its
            number (as `schedule` and `band_schedule` give): an isl map from its instances to points in time, which run
            in lexicographic order.

    Returns:
        The dependence, restricted to the instances whose order the new one reverses. Raises as `dependences` does.
    """
    if isinstance(new, Mapping):
        return _violation(dependences(nest), new)
    return band_violation(nest, sorted(new), [f"i{p}" for p in new])


def band_violation(nest: Nest, band: Sequence[int], times: Sequence[str]) -> Dependence | None:
    """The same for other loops in the place of those of a perfect band; takes the arguments of `band_schedule`.

    The accesses of one reduction need no look: within an iteration the order is that of the text, as before.
    """
    found = _dependences(nest, _pairs(nest, combining_accesses(nest)))
    return _violation(found, band_schedule(nest, band, times)) if found else None


def _violation(found: Sequence[Dependence], new: Mapping[int, isl.Map]) -> Dependence | None:
    for dependence in (d for d in found if not d.reduction):
        late = new[dependence.source.order].lex_ge_map(new[dependence.sink.order])
        reversed_ = dependence.relation.intersect(late)
        if not reversed_.is_empty():
            return dataclasses.replace(dependence, relation=reversed_)
    return None


def _conflict(a: Access, b: Access, touched: dict[int, isl.Map]) -> isl.Map:
    """Instances of `a` and `b` that (may) touch the same element; `touched` gives the elements by instance."""
    to_a, to_b = touched[a.order], touched[b.order]
    same = a.memref == b.memref
    return to_a.apply_range(to_b.reverse()) if same else isl.Map.from_domain_and_range(to_a.domain(), to_b.domain())


def _directed(
    nest: Nest, source: Access, sink: Access, conflict: isl.Map, order: Mapping[int, isl.Map], reorderable: bool
) -> Iterator[Dependence]:
    """The dependences from `source` to `sink`: one, or two where only those between iterations are reorderable."""
    relation = conflict.intersect(order[source.order].lex_lt_map(order[sink.order]))
    if relation.is_empty():
        return
    kind: DependenceKind = "output" if source.kind == sink.kind else "anti" if source.kind == "load" else "flow"
    common = tuple(p for p, q in zip(source.loops, sink.loops, strict=False) if p == q)
    exact = source.memref == sink.memref
    parts = [(relation, False)]
    if reorderable and source.loops != sink.loops:
        parts = [(relation, True)]
    elif reorderable:
        same = isl.Map.identity(relation.get_space())
        parts = [(relation.intersect(same), False), (relation.subtract(same), True)]
    for part, reduction in parts:
        if not part.is_empty():
            yield Dependence(kind, source, sink, part, common, reduction, exact)
