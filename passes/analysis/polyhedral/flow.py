"""The dependences between the statements of a nest: direct ones by isl's dataflow analysis, all by ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import islpy as isl

from loopmorph.passes.analysis.dependence.dependence import dependences
from loopmorph.passes.analysis.polyhedral.relations import NamedNest, union
from loopmorph.passes.analysis.polyhedral.tree import Relation

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
    with _bounded():
        domain = isl.UnionSet("{ }")
        for each in named.domains:
            domain = domain.union(isl.UnionSet.from_set(each))
        reads, writes = (union(maps).intersect_domain(domain) for maps in (named.reads, named.writes))
        flow, output = _last(reads, writes, order.get_map()), _last(writes, writes, order.get_map())
        anti = _last(reads, writes, _reversed(order.get_map())).reverse()
        relations, assumed = _by_access(named)
        for kind, found in assumed.items():
            flow, anti, output = (
                flow.union(found) if kind == "flow" else flow,
                anti.union(found) if kind == "anti" else anti,
                output.union(found) if kind == "output" else output,
            )
        commuting = union([r.map for r in relations if r.reduction])
        strict = union([r.map for r in relations if not r.reduction])
        direct = flow.union(anti).union(output)
        reduction = direct.intersect(commuting.subtract(strict))
        relations += _relations(named, direct.subtract(reduction))
        parts = [each.coalesce() for each in (flow, anti, output, reduction)]
        return DirectDependences(*parts, assumed=bool(assumed)), relations


def _last(sinks: isl.UnionMap, sources: isl.UnionMap, order: isl.UnionMap) -> isl.UnionMap:
    """From the instance that last touched an element as one of `sources` to those that then touch it as `sinks`."""
    if sinks.is_empty() or sources.is_empty():
        return isl.UnionMap("{ }")
    info = isl.UnionAccessInfo.from_sink(sinks).set_must_source(sources).set_schedule_map(order)
    return info.compute_flow().get_may_dependence()


def _reversed(order: isl.UnionMap) -> isl.UnionMap:
    """The schedule that runs backwards."""
    found = isl.UnionMap("{ }")
    for map_ in _maps(order):
        axes = [f"t{k}" for k in range(map_.dim(isl.dim_type.out))]
        back = isl.Map(f"{{ [{', '.join(axes)}] -> [{', '.join(f'-{axis}' for axis in axes)}] }}")
        found = found.union(isl.UnionMap.from_map(map_.apply_range(back)))
    return found


def _by_access(named: NamedNest) -> tuple[list[Relation], dict[str, isl.UnionMap]]:
    """What the dependence analysis finds between accesses, between their statements; and what it assumes, by kind."""
    statement_of = {access.order: s for s in named.statements for access in s.accesses}
    relations: list[Relation] = []
    assumed: dict[str, isl.UnionMap] = {}
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
            found = isl.UnionMap.from_map(map_)
            assumed[each.kind] = assumed[each.kind].union(found) if each.kind in assumed else found
    return relations, assumed


def _relations(named: NamedNest, direct: isl.UnionMap) -> list[Relation]:
    numbers = {named.label(s): s.number for s in named.statements}
    sides = isl.dim_type.in_, isl.dim_type.out
    return [Relation(*(numbers[m.get_tuple_name(side)] for side in sides), m, False) for m in _maps(direct)]


def _maps(relation: isl.UnionMap) -> Sequence[isl.Map]:
    maps = relation.get_map_list()
    return [maps.get_at(k) for k in range(maps.n_map())]


@contextmanager
def _bounded() -> Iterator[None]:
    """Lets isl take so many steps and no more."""
    context = isl.DEFAULT_CONTEXT
    context.reset_operations()
    context.set_max_operations(MOST_STEPS)
    try:
        yield
    except isl.Error as error:
        if _is_exhausted():
            raise TooManySteps from error
        raise
    finally:
        context.set_max_operations(0)


def _is_exhausted() -> bool:
    """Whether isl may not take any more steps: what it then says of an error depends on where it stopped."""
    try:
        isl.Set("{ [i, j] : 0 <= 2i + 3j <= 7 and 1 <= i - j <= 5 }").is_empty()
    except isl.Error:
        return True
    return False
