"""A nest as sets, relations and a schedule tree: what `morph-print-polyhedral` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import islpy as isl
from torch_mlir import ir

from loopmorph.passes.analysis.dependence.known_operations import require_known_operations
from loopmorph.passes.analysis.polyhedral.flow import DirectDependences, TooManySteps, dependences_between
from loopmorph.passes.analysis.polyhedral.relations import NamedNest
from loopmorph.passes.analysis.polyhedral.tree import execution_order, schedule_tree
from loopmorph.passes.nest import Nest


@dataclass(frozen=True, eq=False)
class PolyhedralView:
    """One nest, in the terms of isl.

    Attributes:
        domains: the instances of each statement, `conv1_main_S0[n, co]`, in program order.
        reads, writes: from a statement to the elements that it loads and stores, for instances in its domain. A
            register is read and written like a memref of its own.
        may_reads: from a statement to the elements of which it loads some, at an index that depends on data.
        memrefs: the names in them -> what they are.
        prefetches: how many operations there are that only fetch data early, of which nothing else tells.
        dependences: None where isl would take too long to find them.
        schedule: the schedule tree; its bands are as `schedule_tree` makes them, or single loops where there are no
            dependences to judge by.
    """

    domains: tuple[isl.Set, ...]
    reads: tuple[isl.Map, ...]
    writes: tuple[isl.Map, ...]
    may_reads: tuple[isl.Map, ...]
    memrefs: Mapping[str, str]
    prefetches: int
    dependences: DirectDependences | None
    schedule: isl.Schedule


def polyhedral_view(nest: Nest, name: str, memrefs: Mapping[ir.Value, str]) -> PolyhedralView:
    """The view of a nest.

    Args:
        nest: the nest, its guards in view (`view_nest(root, guarded=True)`).
        name: what the names of its statements and registers begin with.
        memrefs: the names of the function's memrefs (see `memref_names`).

    Raises:
        IllegalTransform: it holds an operation of which it is not known what it accesses, or an index or bound that is
            no affine function of the iterators.
    """
    require_known_operations(nest)
    named = NamedNest(nest, name, memrefs)
    schedule, found = execution_order(nest, named.nodes, named.domains), None
    try:
        found, relations = dependences_between(named, schedule)
        schedule = schedule_tree(nest, named.nodes, named.domains, relations)
    except TooManySteps:
        pass
    return PolyhedralView(
        named.domains,
        named.reads,
        named.writes,
        named.gathers,
        _described(named),
        _prefetches(nest),
        found,
        schedule,
    )


def _described(named: NamedNest) -> dict[str, str]:
    """What the memrefs and registers are, in the order in which the statements name them."""
    touched = [a.memref for s in named.statements for a in s.accesses]
    touched += [op.operands[0] for s in named.statements for op in s.gathers]
    memrefs = {named.memrefs[value]: str(value.type) for value in touched}
    return memrefs | {name: "register" for name in named.registers.values()}


def _prefetches(nest: Nest) -> int:
    names: list[str] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        names.append(op.name)
        return ir.WalkResult.ADVANCE

    nest.root.operation.walk(visit)
    return names.count("affine.prefetch")
