"""`morph-transpose`: a square of elements is read by rows and written by columns, in vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import vector

from loopmorph.passes.affine_expr import linear_form, substitute, used_dims
from loopmorph.passes.analysis.dependence.dependence import carried
from loopmorph.passes.analysis.structure import body_of, perfect_band
from loopmorph.passes.building.arrange import require_normal
from loopmorph.passes.building.nest_builder import load, vector_load, vector_store
from loopmorph.passes.building.pointwise import is_dense
from loopmorph.passes.building.widen import as_vector, is_elementwise, widen
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class TransposePlan:
    """A body's loads and store, and the two loops around it: `columns` runs along the loads, `rows` along the store."""

    nest: Nest
    rows: Loop
    columns: Loop
    loads: tuple[Access, ...]
    store: Access


@dataclass(frozen=True)
class Transpose(NestTransformation[TransposePlan]):
    """Reads a square of elements by rows and writes it by columns: `morph-transpose{layer=k rows=w columns=h}`.

        affine.for %w = 0 to 4 {                          %a = affine.vector_load %x[0, 0]   ...   %d = ... %x[3, 0]
          affine.for %h = 0 to 4 {                        %e = vector.shuffle %a, %b [0, 4, 2, 6]   ...
            %v = affine.load %x[%w, %h]           ->      ...
            affine.store %v, %y[%h, %w]                   affine.vector_store %p, %y[0, 0]   ...   %s, %y[3, 0]
          }
        }

    Each stage of the transposition exchanges, between vectors whose numbers differ in one bit, the lanes whose numbers
    differ in that bit (Eklundh, IEEE Transactions on Computers 21, 1972). Scalar code reads or writes every element
    by itself. On the start values of a convolution with 8 x 8 pixels:
    `morph-interchange{layer=a#init.1 order=w,h},morph-transpose{layer=a#init.1 rows=w columns=h}`.

    Requires that `rows` holds nothing but `columns`, which holds no loop, and that another loop is around them; from 0
    to the same power of two, at least 2; in the body only loads, element-wise operations on scalars and one store; no
    dependence that one of the loops carries; loads side by side along `columns`, or independent of it, the store side
    by side along `rows`.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        rows: the iterator along which the body stores.
        columns: the iterator along which it loads, the innermost.
    """

    name: ClassVar[str] = "morph-transpose"
    kind: ClassVar[Kind] = "loop"

    layer: str
    rows: str
    columns: str

    def analyze_nest(self, nest: Nest) -> TransposePlan:
        rows, columns = nest.loop(self.rows, "rows"), nest.loop(self.columns, "columns")
        if perfect_band(nest, rows.position) != (rows.position, columns.position):
            raise IllegalTransform(
                nest.label, f"'{self.rows}' holds something else than '{self.columns}' with its body"
            )
        if rows.parent is None:
            raise IllegalTransform(nest.label, f"'{self.rows}' is the outermost loop and cannot go away")
        for loop in (rows, columns):
            require_normal(nest, loop)
        extent = columns.extent or 0
        if rows.extent != extent or extent < 2 or extent & (extent - 1):
            found = f"{rows.extent} and {columns.extent}"
            raise IllegalTransform(nest.label, f"the extents of the two loops are no equal powers of two: {found}")
        loads, store = self._accesses(nest, rows, columns)
        for loop in (rows, columns):
            for dependence in carried(nest, loop):
                reason = f"the iterations of '{loop.iterator}' cannot run side by side: {dependence.describe(nest)}"
                raise IllegalTransform(nest.label, reason)
        return TransposePlan(nest, rows, columns, loads, store)

    def _accesses(self, nest: Nest, rows: Loop, columns: Loop) -> tuple[tuple[Access, ...], Access]:
        """The loads and the one store of the body.

        Raises:
            IllegalTransform: it does something else, or elements do not lie side by side.
        """
        for op in body_of(columns.op):
            if not (is_elementwise(op) or op.name in ("affine.load", "affine.store", "arith.constant")):
                raise IllegalTransform(nest.label, f"its body holds '{op.name}'")
        inside = [access for access in nest.accesses if access.loops[-1] == columns.position]
        loads, stores = (tuple(a for a in inside if a.kind == kind) for kind in ("load", "store"))
        if len(stores) != 1:
            raise IllegalTransform(nest.label, f"its body has {len(stores)} stores; one is required")
        if any(runs_along(access, columns) is None for access in loads):
            raise IllegalTransform(nest.label, f"what it loads along '{self.columns}' does not lie side by side")
        if not runs_along(stores[0], rows):
            raise IllegalTransform(nest.label, f"what it stores along '{self.rows}' does not lie side by side")
        return loads, stores[0]

    def rewrite(self, plan: TransposePlan) -> ir.Operation:
        nest, size = plan.nest, plan.columns.extent or 0
        variables = [loop.variable for loop in nest.loops]
        with nest.root.context, ir.InsertionPoint(plan.rows.op), plan.rows.op.location:
            vectors = _transposed([_row(plan, row, size) for row in range(size)])
            for column, value in enumerate(vectors):
                vector_store(value, plan.store.memref, _at(plan, plan.store, 0, column), variables)
        plan.rows.op.operation.erase()
        return nest.root.operation


def runs_along(access: Access, loop: Loop) -> bool | None:
    """Whether an access moves along the last axis with the loop, element by element, as vectors can hold them; False
    where it does not move, None where it moves otherwise."""
    moving = [axis for axis, expr in enumerate(access.exprs) if loop.position in used_dims(expr)]
    if not moving:
        return False
    form = linear_form(access.exprs[-1])
    by_one = moving == [len(access.exprs) - 1] and form is not None and form.coefficients[loop.position] == 1
    return True if by_one and is_dense(ir.MemRefType(access.memref.type)) else None


def _at(plan: TransposePlan, access: Access, row: int, column: int) -> ir.AffineMap:
    """The index of an access at one point of the square."""
    point = {plan.rows.position: row, plan.columns.position: column}
    constants = {position: ir.AffineExpr.get_constant(value) for position, value in point.items()}
    rank = len(plan.nest.loops)
    return ir.AffineMap.get(rank, 0, [substitute(e, constants, rank) for e in access.exprs])


def _row(plan: TransposePlan, row: int, size: int) -> ir.Value:
    """What the body computes for one row, a vector of columns."""
    variables = [loop.variable for loop in plan.nest.loops]
    loads = {access.op: access for access in plan.loads}
    values: dict[ir.Value, ir.Value] = {}
    for op in body_of(plan.columns.op):
        if op in loads:
            map_ = _at(plan, loads[op], row, 0)
            beside = runs_along(loads[op], plan.columns)
            memref = loads[op].memref
            values[op.results[0]] = (
                vector_load(memref, map_, variables, size) if beside else load(memref, map_, variables)
            )
        elif op.name == "arith.constant":
            values[op.results[0]] = op.clone().results[0]
        elif is_elementwise(op):
            values[op.results[0]] = widen(op, [values.get(v, v) for v in op.operands], size)[0]
    written = plan.store.op.operands[0]
    return as_vector(values.get(written, written), size)


def _transposed(vectors: Sequence[ir.Value]) -> list[ir.Value]:
    """Vectors of which number k holds lane k of all."""
    found = list(vectors)
    size, bit = len(found), 1
    while bit < size:
        kept = [lane if not lane & bit else size + (lane ^ bit) for lane in range(size)]
        other = [lane | bit if not lane & bit else size + lane for lane in range(size)]
        for first in (k for k in range(size) if not k & bit):
            a, b = found[first], found[first | bit]
            found[first], found[first | bit] = (vector.ShuffleOp(a, b, mask).result for mask in (kept, other))
        bit *= 2
    return found
