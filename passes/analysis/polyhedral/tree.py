"""Schedule trees: a nest's loops as bands, with what the dependences say of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import islpy as isl

from loopmorph.passes import marks
from loopmorph.passes.analysis.polyhedral.statements import LoopNode, Node, Statement, statements_in
from loopmorph.passes.nest import Nest

PARALLEL = "parallel"
_IN, _OUT = isl.dim_type.in_, isl.dim_type.out


@dataclass(frozen=True, eq=False)
class Relation:
    """Instances of a statement that have to run after instances of another one, or of the same.

    Attributes:
        source, sink: the numbers of the statements, the one that runs first before the other.
        map: from the instances of `source` to those of `sink`.
        reduction: whether a reduction admits any order of them.
    """

    source: int
    sink: int
    map: isl.Map
    reduction: bool


def execution_order(nest: Nest, nodes: Sequence[Node], domains: Sequence[isl.Set]) -> isl.Schedule:
    """The schedule tree of the nest as it stands, one band for each loop.

    Args:
        nest: the nest.
        nodes: its loops and statements.
        domains: the instances of each statement, named.
    """
    return _Builder(nest, domains).sequence(nodes, 0, None)


def schedule_tree(
    nest: Nest, nodes: Sequence[Node], domains: Sequence[isl.Set], relations: Sequence[Relation]
) -> isl.Schedule:
    """The same with as few bands as the dependences allow, outermost loops first.

    Loops directly within each other make one permutable band where none of the dependences that the bands around leave
    runs backwards in any of them, reductions aside. A member is coincident where none, those of reductions included,
    has another distance than 0 in it. A loop that is marked `morph.parallel` is a band of its own, below a mark.

    Args:
        nest, nodes, domains: as above.
        relations: the dependences.
    """
    return _Builder(nest, domains).sequence(nodes, 0, relations)


@dataclass(frozen=True)
class _Builder:
    nest: Nest
    domains: Sequence[isl.Set]

    def sequence(self, nodes: Sequence[Node], depth: int, relations: Sequence[Relation] | None) -> isl.Schedule:
        """Schedules of nodes one after the other, `depth` loops being around them; relations: None for plain bands."""
        parts = [self._node(node, depth, relations) for node in nodes]
        if not parts:
            return isl.Schedule.from_domain(isl.UnionSet("{ }"))
        return functools.reduce(lambda first, second: first.sequence(second), parts)

    def _node(self, node: Node, depth: int, relations: Sequence[Relation] | None) -> isl.Schedule:
        if isinstance(node, Statement):
            return isl.Schedule.from_domain(isl.UnionSet.from_set(self.domains[node.number]))
        inside = {statement.number for statement in statements_in(node)}
        own = None if relations is None else [r for r in relations if {r.source, r.sink} <= inside]
        band = self._band(node, depth, own)
        left = None if own is None else _left(own, range(depth, depth + len(band)))
        schedule = self.sequence(band[-1].children, depth + len(band), left)
        schedule = schedule.insert_partial_schedule(self._partial_schedule(node, depth, len(band)))
        top = schedule.get_root().child(0)
        for k in range(len(band) if own is not None else 0):
            top = top.band_member_set_coincident(k, int(all(_is_at_zero(r, depth + k) for r in own or ())))
        if len(band) > 1:
            top = top.band_set_permutable(1)
        if own is not None and self._is_parallel(node):
            top = top.insert_mark(isl.Id.read_from_str(isl.DEFAULT_CONTEXT, PARALLEL))
        return top.get_schedule()

    def _band(self, node: LoopNode, depth: int, relations: Sequence[Relation] | None) -> list[LoopNode]:
        """The loop, and the loops that make one permutable band with it."""
        band = [node]
        while relations is not None and len(band[-1].children) == 1:
            (inner,) = band[-1].children
            if not isinstance(inner, LoopNode) or self._is_parallel(node) or self._is_parallel(inner):
                break
            if any(_runs_backwards(r, depth + len(band)) for r in relations if not r.reduction):
                break
            band.append(inner)
        return band

    def _is_parallel(self, node: LoopNode) -> bool:
        return marks.PARALLEL in self.nest.loops[node.position].op.attributes

    def _partial_schedule(self, node: LoopNode, depth: int, length: int) -> isl.MultiUnionPwAff:
        members = []
        for k in range(depth, depth + length):
            texts = []
            for statement in statements_in(node):
                domain = self.domains[statement.number]
                names = [str(domain.get_dim_name(isl.dim_type.set, d)) for d in range(domain.dim(isl.dim_type.set))]
                texts.append(f"{domain.get_tuple_name()}[{', '.join(names)}] -> [({names[k]})]")
            members.append(f"{{ {'; '.join(texts)} }}")
        return isl.MultiUnionPwAff(f"[{', '.join(members)}]")


def _runs_backwards(relation: Relation, depth: int) -> bool:
    return not relation.map.order_gt(_IN, depth, _OUT, depth).is_empty()


def _is_at_zero(relation: Relation, depth: int) -> bool:
    return relation.map.is_subset(relation.map.equate(_IN, depth, _OUT, depth))


def _left(relations: Sequence[Relation], depths: Sequence[int]) -> list[Relation]:
    """What a band over the loops at these depths leaves to be kept by those within it."""
    left = []
    for relation in relations:
        kept = functools.reduce(lambda found, depth: found.equate(_IN, depth, _OUT, depth), depths, relation.map)
        if not kept.is_empty():
            left.append(Relation(relation.source, relation.sink, kept, relation.reduction))
    return left
