"""The statements of a nest and what they touch, as isl's sets and relations with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import islpy as isl
from torch_mlir import ir

from loopmorph.passes.analysis.dependence.instances import access_relation, iteration_domain
from loopmorph.passes.analysis.polyhedral.names import unique
from loopmorph.passes.analysis.polyhedral.statements import Node, Register, Statement, statement_tree, statements_in
from loopmorph.passes.nest import Access, Nest

_IN, _OUT = isl.dim_type.in_, isl.dim_type.out


@dataclass(frozen=True)
class NamedNest:
    """A nest whose statements are `NAME_S0`, `NAME_S1`, ... in program order.

    Attributes:
        nest: the nest, its guards in view.
        name: what the names of its statements and registers begin with.
        memrefs: the names of the function's memrefs.
    """

    nest: Nest
    name: str
    memrefs: Mapping[ir.Value, str]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Its loops and statements."""
        return statement_tree(self.nest)

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """Its statements, in program order."""
        return tuple(s for node in self.nodes for s in statements_in(node))

    @cached_property
    def iterators(self) -> tuple[str, ...]:
        """The names of its loops in isl."""
        return unique(self.nest.iterators)

    @cached_property
    def domains(self) -> tuple[isl.Set, ...]:
        """The instances of each statement."""
        return tuple(self._domain(statement) for statement in self.statements)

    @cached_property
    def reads(self) -> tuple[isl.Map, ...]:
        """From statements to the elements that they load and the registers that they take; not cut to the domain."""
        return self._touched("load")

    @cached_property
    def writes(self) -> tuple[isl.Map, ...]:
        """The same for what they store and leave in registers."""
        return self._touched("store")

    @cached_property
    def gathers(self) -> tuple[isl.Map, ...]:
        """From statements to all elements of the memrefs that they read at indices that depend on data."""
        found = ((s, dict.fromkeys(op.operands[0] for op in s.gathers)) for s in self.statements)
        return tuple(self._whole(statement, memref) for statement, memrefs in found for memref in memrefs)

    @cached_property
    def registers(self) -> dict[Register, str]:
        """The names of the registers."""
        used = {r for s in self.statements for r in (*s.reads, *s.writes)}
        return {r: f"{self.name}_r{k}" for k, r in enumerate(sorted(used, key=lambda each: each.number))}

    def label(self, statement: Statement) -> str:
        """The name of a statement."""
        return f"{self.name}_S{statement.number}"

    def name_instances(self, map_: isl.Map, source: Statement, sink: Statement) -> isl.Map:
        """A map between instances of two statements, with names."""
        return self._name_side(self._name_side(map_, _IN, source), _OUT, sink)

    def _domain(self, statement: Statement) -> isl.Set:
        domain = iteration_domain(self.nest, statement.loops, statement.guards).set_tuple_name(self.label(statement))
        for k, name in enumerate(self._dims(statement.loops)):
            domain = domain.set_dim_name(isl.dim_type.set, k, name)
        return domain.coalesce()

    def _touched(self, kind: str) -> tuple[isl.Map, ...]:
        found: dict[tuple[int, str], isl.Map] = {}
        for statement in self.statements:
            for access in (a for a in statement.accesses if a.kind == kind):
                key = statement.number, self.memrefs[access.memref]
                map_ = self._access(statement, access)
                found[key] = found[key].union(map_).coalesce() if key in found else map_
            registers = statement.reads if kind == "load" else statement.writes
            for register in sorted(registers, key=lambda each: each.number):
                found[statement.number, self.registers[register]] = self._register(statement, register)
        return tuple(found.values())

    def _access(self, statement: Statement, access: Access) -> isl.Map:
        named = self._name_side(access_relation(access), _IN, statement)
        return named.set_tuple_name(_OUT, self.memrefs[access.memref])

    def _register(self, statement: Statement, register: Register) -> isl.Map:
        element = self._dims(register.loops)
        return isl.Map(f"{{ {self._instance(statement)} -> {self.registers[register]}[{', '.join(element)}] }}")

    def _whole(self, statement: Statement, memref: ir.Value) -> isl.Map:
        shape = ir.MemRefType(memref.type).shape
        axes = [f"a{k}" for k in range(len(shape))]
        known = zip(axes, shape, strict=True)
        inside = [f"0 <= {a}" + (f" < {n}" if n != ir.ShapedType.get_dynamic_size() else "") for a, n in known]
        element = f"{self.memrefs[memref]}[{', '.join(axes)}]"
        return isl.Map(f"{{ {self._instance(statement)} -> {element} : {' and '.join(inside) or 'true'} }}")

    def _instance(self, statement: Statement) -> str:
        return f"{self.label(statement)}[{', '.join(self._dims(statement.loops))}]"

    def _dims(self, loops: Sequence[int]) -> list[str]:
        return [self.iterators[p] for p in loops]

    def _name_side(self, map_: isl.Map, side: isl.dim_type, statement: Statement) -> isl.Map:
        named = map_.set_tuple_name(side, self.label(statement))
        for k, name in enumerate(self._dims(statement.loops)):
            named = named.set_dim_name(side, k, name)
        return named


def union(maps: Sequence[isl.Map]) -> isl.UnionMap:
    """One relation of several."""
    found = isl.UnionMap("{ }")
    for map_ in maps:
        found = found.union(isl.UnionMap.from_map(map_))
    return found
