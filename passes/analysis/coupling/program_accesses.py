"""All accesses of a program by memref, and how each is tied to the loops around it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.coupling.ties import Tie, tie
from loopmorph.passes.nest import Access, Loop, Nest, nests

AxisKey = tuple[ir.Value, int]


@dataclass
class ProgramAccesses:
    """The accesses of a whole program, indexed by memref; the ties are read off them on demand.

    Attributes:
        module: the module.
        nests: its nests, in program order.
        accesses: memref -> the accesses to it, in program order, with their nests.
    """

    module: ir.Operation
    nests: list[Nest] = field(init=False)
    accesses: dict[ir.Value, list[tuple[Nest, Access]]] = field(init=False, default_factory=dict)
    _ties: dict[tuple[ir.Operation, int], Tie] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.nests = nests(self.module)
        for nest in self.nests:
            for access in nest.accesses:
                self.accesses.setdefault(access.memref, []).append((nest, access))

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
