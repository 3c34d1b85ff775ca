"""The dependences between the statements of a nest: direct ones by isl's dataflow analysis, all by ours."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import islpy as isl

from loopmorph.passes.analysis.dependence.dependence import DependenceKind, dependences
from loopmorph.passes.analysis.polyhedral.relations import NamedNest, union
from loopmorph.passes.analysis.polyhedral.tree import Relation

_IN, _OUT = isl.dim_type.in_, isl.dim_type.out

# Of isl's own steps, of which it takes some four million a second; the nests that a default schedule makes of a
# convolution take up to four million.
MOST_STEPS = 50_000_000


class TooManySteps(Exception):
    """isl gave up."""


@dataclass(frozen=True, eq=False)
class DirectDependences:
    """From an instance of a statement to those that have to run after it; all others follow from these.

    Attributes:
        flow: from the last store to an element to the loads that get its value.
        anti: from a load of an element to the next store to it.
        output: from a store to an element to the next one.
        reduction: the part of them that a reduction admits in any order.
        assumed: whether some are there only because memrefs may overlap; of those all are listed.
    """

    flow: isl.UnionMap
    anti: isl.UnionMap
    output: isl.UnionMap
    reduction: isl.UnionMap
    assumed: bool


def dependences_between(named: NamedNest, order: isl.Schedule) -> tuple[DirectDependences, list[Relation]]:
    """The direct dependences of a nest, and relations from which all follow (see `schedule_tree`).

    Args:
        named: the nest.
        order: its present execution order.

    Raises:
        TooManySteps: isl takes too long.
    """
    direct = _direct(named, named.reads, named.writes, order)
    relations, assumed = _by_access(named)
    for kind, map_ in assumed:
        direct[kind] = direct[kind].union(isl.UnionMap.from_map(map_))
    reduction = _together(direct).intersect(_reorderable(named, relations, order))
    relations += _relations(named, _together(direct).subtract(reduction))
    flow, anti, output = (each.coalesce() for each in direct.values())
    return DirectDependences(flow, anti, output, reduction.coalesce(), bool(assumed)), relations


def _together(direct: Mapping[DependenceKind, isl.UnionMap]) -> isl.UnionMap:
    """Dependences of all kinds."""
    return functools.reduce(lambda one, other: one.union(other), direct.values())


def _direct(
    named: NamedNest, reads: Sequence[isl.Map], writes: Sequence[isl.Map], order: isl.Schedule
) -> dict[DependenceKind, isl.UnionMap]:
    """By kind; in a context of its own, so that the limit is that of nobody else, on another thread for example."""
    domain = isl.UnionSet("{ }")
    for each in named.domains:
        domain = domain.union(isl.UnionSet.from_set(each))
    accesses = (union(maps).intersect_domain(domain) for maps in (reads, writes))
    texts = [str(each) for each in (*accesses, order.get_map(), _reversed(order.get_map()))]
    context = isl.Context()
    context.set_on_error(isl.on_error.CONTINUE)
    context.set_max_operations(MOST_STEPS)
    try:
        read, written, forwards, backwards = (isl.UnionMap(text, context) for text in texts)
        flow, output = _last(read, written, forwards), _last(written, written, forwards)
        anti = _last(read, written, backwards).reverse()
        found = [str(each) for each in (flow, anti, output)]
    except isl.Error as error:
        if _is_exhausted(context):
            raise TooManySteps from error
        raise
    return dict(zip(("flow", "anti", "output"), map(isl.UnionMap, found), strict=True))


def _reorderable(named: NamedNest, relations: Sequence[Relation], order: isl.Schedule) -> isl.UnionMap:
    """Instances between which there are no other dependences than those of reductions, in memory or in registers."""
    registers = frozenset(named.registers.values())
    read, written = ([m for m in maps if m.get_tuple_name(_OUT) in registers] for maps in (named.reads, named.writes))
    commuting, strict = (union([r.map for r in relations if r.reduction == wanted]) for wanted in (True, False))
    return commuting.subtract(strict.union(_together(_direct(named, read, written, order))))


def _last(sinks: isl.UnionMap, sources: isl.UnionMap, order: isl.UnionMap) -> isl.UnionMap:
    """From the instance that last touched an element as one of `sources` to those that then touch it as `sinks`."""
    if sinks.is_empty() or sources.is_empty():
        return isl.UnionMap("{ }", sinks.get_ctx())
    info = isl.UnionAccessInfo.from_sink(sinks).set_must_source(sources).set_schedule_map(order)
    return info.compute_flow().get_may_dependence()


def _reversed(order: isl.UnionMap) -> isl.UnionMap:
    """The schedule that runs backwards."""
    found = isl.UnionMap("{ }")
    for map_ in _maps(order):
        axes = [f"t{k}" for k in range(map_.dim(_OUT))]
        back = isl.Map(f"{{ [{', '.join(axes)}] -> [{', '.join(f'-{axis}' for axis in axes)}] }}")
        found = found.union(isl.UnionMap.from_map(map_.apply_range(back)))
    return found


def _by_access(named: NamedNest) -> tuple[list[Relation], list[tuple[DependenceKind, isl.Map]]]:
    """What the dependence analysis finds between accesses, for their statements; and the part that it assumes."""
    statement_of = {access.order: s for s in named.statements for access in s.accesses}
    relations: list[Relation] = []
    assumed: list[tuple[DependenceKind, isl.Map]] = []
    for each in dependences(named.nest):
        source, sink = statement_of[each.source.order], statement_of[each.sink.order]
        map_ = each.relation
        if source is sink:
            map_ = map_.subtract(isl.Map.identity(map_.get_space()))
        if map_.is_empty():
            continue
        map_ = named.name_instances(map_, source, sink)
        relations.append(Relation(source.number, sink.number, map_, each.reduction))
        if not each.exact:
            assumed.append((each.kind, map_))
    return relations, assumed


def _relations(named: NamedNest, direct: isl.UnionMap) -> list[Relation]:
    numbers = {named.label(s): s.number for s in named.statements}
    return [Relation(numbers[m.get_tuple_name(_IN)], numbers[m.get_tuple_name(_OUT)], m, False) for m in _maps(direct)]


def _maps(relation: isl.UnionMap) -> Sequence[isl.Map]:
    maps = relation.get_map_list()
    return [maps.get_at(k) for k in range(maps.n_map())]


def _is_exhausted(context: isl.Context) -> bool:
    """Whether isl may not take any more steps: what it then says of an error depends on where it stopped."""
    try:
        isl.Set("{ [i, j] : 0 <= 2i + 3j <= 7 and 1 <= i - j <= 5 }", context).is_empty()
    except isl.Error:
        return True
    return False
