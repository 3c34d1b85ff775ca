"""Sums of two activations, element by element: where a residual block's branch and its skip meet."""

from __future__ import annotations

from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import downcast
from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.nest import Access, Nest


@dataclass(frozen=True)
class ResidualSum:
    """An addition of an element of one memref, perhaps times parameters, to an element of another one.

    Attributes:
        nest: the nest that computes it.
        add: the `arith.addf`.
        branch: the memref of whose elements one operand is made; the nest reads it for nothing else.
        skip: the load that is the other operand.
        result: the store of what the nest makes of the sum.
    """

    nest: Nest
    add: ir.Operation
    branch: ir.Value
    skip: Access
    result: Access

    @property
    def other(self) -> ir.Value:
        """The operand that is an element of the skip."""
        return self.skip.op.results[0]


def find_sum(nest: Nest, branch: ir.Value) -> ResidualSum | None:
    """The sum in which a nest uses what it reads of a memref; None where it does something else with it."""
    plain = nest.is_perfect and nest.is_rectangular and not nest.is_vectorised and len(nest.stores) == 1
    loads = {load.op: load for load in nest.loads}
    read = {load.memref for load in loads.values()}
    if not plain or branch not in read or nest.stores[0].memref in read:
        return None
    for add in [op for op in nest.body if op.name == "arith.addf"]:
        for mine, other in ((0, 1), (1, 0)):
            skip = loads.get(definition(add.operands[other]))
            if skip is not None and _is_all_of(branch, _computation(add.operands[mine]), add, loads):
                return ResidualSum(nest, add, branch, skip, nest.stores[0])
    return None


def keeps_places(total: ResidualSum) -> bool:
    """Whether each element of the result is made of the skip's element of the same index, and of all of them."""
    shapes = [tuple(ir.MemRefType(a.memref.type).shape) for a in (total.skip, total.result)]
    here = [downcast(expr) for expr in total.result.exprs]
    whole = all(
        isinstance(expr, ir.AffineDimExpr) and total.nest.loops[expr.position].extent == extent
        for expr, extent in zip(here, shapes[1], strict=True)
        if extent != 1 or not isinstance(expr, ir.AffineConstantExpr)
    )
    return shapes[0] == shapes[1] and whole and list(total.skip.exprs) == list(total.result.exprs)


def _is_all_of(
    branch: ir.Value, computation: set[ir.Operation], add: ir.Operation, loads: dict[ir.Operation, Access]
) -> bool:
    """Whether an operand of the sum is an element of the branch, times parameters, and nothing else is made of it."""
    read = {op: loads[op].memref for op in computation if op in loads}
    every = {op for op, load in loads.items() if load.memref == branch}
    others = [memref for memref in read.values() if memref != branch]
    users = {use.owner.operation for op in computation for result in op.results for use in result.uses}
    own = every <= read.keys() and all(marks.parameter_name(memref) is not None for memref in others)
    linear = all(op.name in ("affine.load", "arith.mulf") for op in computation)
    return own and linear and users <= {*computation, add}


def _computation(value: ir.Value) -> set[ir.Operation]:
    """The operations of the nest's body that a value is computed by."""
    found: set[ir.Operation] = set()
    pending = [value]
    while pending:
        op = definition(pending.pop())
        if op is not None and op not in found and op.parent is not None and op.parent.name == "affine.for":
            found.add(op)
            pending += op.operands
    return found
