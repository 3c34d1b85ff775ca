"""All accesses of a program by memref, and how each is tied to the loops around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.coupling.ties import Tie, tie
from loopmorph.passes.nest import Access, Loop, Nest, nest_roots, view_nest

AxisKey = tuple[ir.Value, int]


class AccessesByMemref(dict[ir.Value, list[tuple[Nest, Access]]]):
    """Memref -> the accesses to it, in program order, with their nests; those of a memref are there once asked for.

    So are the views of nests: what a change concerns is a small part of a large network, and to view all of it takes
    long.

    Args:
        module: the module; it must not change while this is used.
    """

    def __init__(self, module: ir.Operation) -> None:
        super().__init__()
        self._context = module.context
        self._roots = {root.operation: root for root in nest_roots(module)}
        self._views: dict[ir.Operation, Nest] = {}

    def __missing__(self, memref: ir.Value) -> list[tuple[Nest, Access]]:
        uses = [(nest, access) for nest in self.nests_with(memref) for access in nest.accesses]
        self[memref] = [(nest, access) for nest, access in uses if access.memref == memref]
        return self[memref]

    @property
    def nests(self) -> list[Nest]:
        """All nests, in program order."""
        return [self._view(root) for root in self._roots]

    @cached_property
    def order(self) -> Mapping[ir.Operation, int]:
        """A nest's outermost loop -> the nest's number in program order."""
        return {root: number for number, root in enumerate(self._roots)}

    def nests_with(self, memref: ir.Value) -> list[Nest]:
        """The nests that access a memref, in program order."""
        roots = {root for use in memref.uses if (root := self._root(use.owner)) is not None}
        viewed = [self._view(root) for root in sorted(roots, key=self.order.__getitem__)]
        return [nest for nest in viewed if any(access.memref == memref for access in nest.accesses)]

    def other_users(self, memref: ir.Value) -> list[ir.Operation]:
        """The operations beside accesses of nests that use a memref, but for those that free it."""
        known = {access.op for _, access in self[memref]}
        users = [use.owner.operation for use in memref.uses if use.owner not in known]
        return [user for user in users if user.name != "memref.dealloc"]

    def _view(self, root: ir.Operation) -> Nest:
        if root not in self._views:
            with self._context:
                self._views[root] = view_nest(self._roots[root])
        return self._views[root]

    def _root(self, op: ir.OpView) -> ir.Operation | None:
        """The outermost loop of the nest that an operation stands in, None outside of nests."""
        around: ir.Operation | None = op.operation
        while around is not None and around not in self._roots:
            around = around.parent
        return around


@dataclass
class ProgramAccesses:
    """The accesses of a whole program, indexed by memref; the ties are read off them on demand.

    Attributes:
        module: the module; it must not change while this is used.
        accesses: memref -> the accesses to it, in program order, with their nests.
    """

    module: ir.Operation
    accesses: AccessesByMemref = field(init=False)
    _ties: dict[tuple[ir.Operation, int], Tie] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.accesses = AccessesByMemref(self.module)

    @property
    def nests(self) -> list[Nest]:
        """All nests, in program order."""
        return self.accesses.nests

    def tie(self, nest: Nest, access: Access, axis: int) -> Tie:
        """As the function `tie`, remembered."""
        key = (access.op, axis)
        if key not in self._ties:
            self._ties[key] = tie(nest, access, axis)
        return self._ties[key]

    def uses_of(self, nest: Nest, loop: Loop, *, parameters_only: bool = False) -> list[tuple[Access, int]]:
        """The accesses of the nest, with the axis, that the loop indexes."""
        return [
            (access, axis)
            for access in nest.accesses
            for axis, expr in enumerate(access.exprs)
            if loop.position in used_dims(expr)
            if not parameters_only or marks.parameter_name(access.memref) is not None
        ]
