"""The statements of a nest: stretches of operations of one block, ended by a store, a loop, a branch or its end.

So within a statement all loads come before the store, as isl takes it. What goes from statement to statement in
registers is made visible as well. A value that a loop carries, or that a loop or an `affine.if` results in, is a
register that has an element for each iteration of the loops around: written before the loop, and where the loop or the
branch yields; read where it is used. So is a value that is loaded, or computed of such ones, in one statement and used
in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.nest import Access, Guard, Nest

_STORES = frozenset({"affine.store", "affine.vector_store"})


@dataclass(frozen=True)
class Register:
    """A value in registers, one for each iteration of `loops` (positions, outermost first)."""

    number: int
    loops: tuple[int, ...]


@dataclass
class Statement:
    """Operations that run one after the other in one iteration.

    Attributes:
        number: its number in the nest, in program order.
        loops: positions of the loops around it, outermost first.
        guards: the branches around it.
        accesses: the affine accesses in it, in program order.
        gathers: the `memref.load` in it.
        reads, writes: the registers that it takes from, and leaves for, other statements.
    """

    number: int
    loops: tuple[int, ...]
    guards: tuple[Guard, ...]
    accesses: list[Access] = field(default_factory=list)
    gathers: list[ir.Operation] = field(default_factory=list)
    reads: set[Register] = field(default_factory=set)
    writes: set[Register] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        return not (self.accesses or self.gathers or self.reads or self.writes)


@dataclass(frozen=True)
class LoopNode:
    """A loop, by its position, and what it holds, in program order."""

    position: int
    children: tuple[Node, ...]


Node: TypeAlias = Statement | LoopNode


def statements_in(node: Node) -> list[Statement]:
    """The statements of a node, in program order."""
    return [node] if isinstance(node, Statement) else [s for child in node.children for s in statements_in(child)]


def statement_tree(nest: Nest) -> tuple[Node, ...]:
    """The nest's outermost loop, after a statement where that loop is given values in registers.

    Statements that touch neither memory nor registers are left out, and so are loops without statements.

    Args:
        nest: one whose operations are all known to the dependence analysis.
    """
    walk = _Walk(nest)
    nodes = _without_empty(walk.nodes())
    for number, statement in enumerate(s for node in nodes for s in statements_in(node)):
        statement.number = number
    return nodes


class _Walk:
    def __init__(self, nest: Nest) -> None:
        self._nest = nest
        self._accesses = {access.op: access for access in nest.accesses}
        self._guards = {(guard.op, guard.is_else): guard for guard in nest.guards}
        self._n_loops = 0
        self._statements: list[Statement] = []
        self._registers: list[Register] = []
        self._carried: dict[ir.Value, Register] = {}  # the values that loops and branches carry
        self._made: dict[ir.Value, Statement] = {}  # in what statement a value was loaded, or computed of such ones
        self._kept: dict[ir.Value, Register] = {}  # those of them that another statement uses

    def nodes(self) -> list[Node]:
        before = self._statement((), ())
        return [before, self._loop(self._nest.root, before, ())]

    def _statement(self, loops: tuple[int, ...], guards: tuple[Guard, ...]) -> Statement:
        self._statements.append(Statement(len(self._statements), loops, guards))
        return self._statements[-1]

    def _block(
        self, block: ir.Block, loops: tuple[int, ...], guards: tuple[Guard, ...], results: Sequence[Register]
    ) -> list[Node]:
        """The nodes of a block that yields to these registers."""
        nodes: list[Node] = [self._statement(loops, guards)]
        for op in block.operations:
            run = nodes[-1]
            assert isinstance(run, Statement)
            if isinstance(op, affine.AffineForOp):
                nodes += [self._loop(op, run, guards), self._statement(loops, guards)]
            elif isinstance(op, affine.AffineIfOp):
                nodes += [*self._branches(op, run), self._statement(loops, guards)]
            elif op.operation.name == "affine.yield":
                self._assign(run, results, op.operation.operands)
            else:
                self._operation(op.operation, run)
                if op.operation.name in _STORES:
                    nodes.append(self._statement(loops, guards))
        return nodes

    def _loop(self, op: affine.AffineForOp, before: Statement, guards: tuple[Guard, ...]) -> LoopNode:
        position = self._n_loops
        self._n_loops += 1
        registers = self._carry(op.operation.results, before.loops)
        self._carried.update(zip(op.inner_iter_args, registers, strict=True))
        self._assign(before, registers, op.inits)
        return LoopNode(position, tuple(self._block(op.body, (*before.loops, position), guards, registers)))

    def _branches(self, op: affine.AffineIfOp, before: Statement) -> list[Node]:
        registers = self._carry(op.operation.results, before.loops)
        nodes: list[Node] = []
        for number, region in enumerate(op.operation.regions):
            guard = self._guards[op.operation, bool(number)]
            for block in region.blocks:
                nodes += self._block(block, before.loops, (*before.guards, guard), registers)
        return nodes

    def _carry(self, results: Iterable[ir.Value], loops: tuple[int, ...]) -> list[Register]:
        registers = {value: self._register(loops) for value in results}
        self._carried.update(registers)
        return list(registers.values())

    def _register(self, loops: tuple[int, ...]) -> Register:
        self._registers.append(Register(len(self._registers), loops))
        return self._registers[-1]

    def _assign(self, run: Statement, registers: Sequence[Register], values: Iterable[ir.Value]) -> None:
        for register, value in zip(registers, values, strict=True):
            self._use(run, value)
            run.writes.add(register)

    def _operation(self, op: ir.Operation, run: Statement) -> None:
        depends = [self._use(run, value) for value in op.operands]
        if op in self._accesses:
            run.accesses.append(self._accesses[op])
        elif op.name == "memref.load":
            run.gathers.append(op)
        if any(depends) or op in self._accesses or op.name == "memref.load":
            for value in op.results:
                self._made[value] = run

    def _use(self, run: Statement, value: ir.Value) -> bool:
        """Lets a statement read a value; whether the value depends on memory."""
        if value in self._carried:
            run.reads.add(self._carried[value])
            return True
        origin = self._made.get(value)
        if origin is not None and origin is not run:
            if value not in self._kept:
                self._kept[value] = self._register(origin.loops)
                origin.writes.add(self._kept[value])
            run.reads.add(self._kept[value])
        return origin is not None


def _without_empty(nodes: Iterable[Node]) -> tuple[Node, ...]:
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, LoopNode):
            inner = _without_empty(node.children)
            kept += [LoopNode(node.position, inner)] if inner else []
        elif not node.is_empty:
            kept.append(node)
    return tuple(kept)
