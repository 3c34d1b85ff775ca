"""`morph-whole-vectors`: products of matrices compute rows of whole vectors, from operands that lie side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import arith

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import downcast, moves_by_one, used_dims
from loopmorph.passes.analysis.memory.dataflow import outermost
from loopmorph.passes.analysis.operands import is_weight
from loopmorph.passes.base import Pass
from loopmorph.passes.building.copied import copied_operand
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, store
from loopmorph.passes.building.rebuild import keep_range, set_extent
from loopmorph.passes.building.rows import has_free_rows, runs_along, set_row_length
from loopmorph.passes.errors import require_least
from loopmorph.passes.nest import Access, Loop, Nest, nest_roots, view_nest

FEWEST_ROWS = 4  # that share an operand; for fewer, to copy it takes as long as to multiply with it


@dataclass(frozen=True)
class _Product:
    """A nest that sums products of two memrefs.

    Attributes:
        nest: the nest.
        lane: the iterator of the last axis of its result.
        weight: the operand that the lane indexes; the other one, it does not.
        start: the nest that writes the start values, if one alone does.
        longer: whether the rows of the result may get longer.
    """

    nest: Nest
    lane: Loop
    weight: Access
    start: Nest | None
    longer: bool


@dataclass(frozen=True)
class WholeVectors(Pass):
    """Lengthens rows of results that fill no whole vectors, and copies operands that have no rows along them.

    Before (width=16): the scores of attention, of 197 tokens

        affine.for %n = 0 to 197 { affine.for %co = 0 to 197 { affine.for %ci = 0 to 64 {
          affine.load %q[%n, %ci] ... affine.load %k[%co, %ci] ... affine.store %v, %s[%n, %co] : memref<197x197xf32>

    After:

        affine.for %ci = 0 to 64 { affine.for %co = 0 to 197 { affine.store ... %p[%ci, %co] from %k[%co, %ci] } }
        affine.for ... { affine.store %zero, %p[%ci, %co + 197] } {morph.role = "pad"}
        affine.for %n = 0 to 197 { affine.for %co = 0 to 208 { affine.for %ci = 0 to 64 {
          affine.load %q[%n, %ci] ... affine.load %p[%ci, %co] ... affine.store %v, %s[%n, %co] : memref<197x208xf32>

    Nobody reads the new elements of the results. An operand that has such rows already, in a local memref, gets
    longer ones in place; another one is copied, one that depends on parameters alone by `@prepare`. Where the rows of
    the result cannot get longer, as those of an output, the nest is cut in two: the elements that fill whole vectors,
    then the others; a parameter that has no rows along them is left to `morph-blocked-layout`.

        affine.for %n = 0 to 128 { affine.for %co = 0 to 50257 { ...

    becomes

        affine.for %n = 0 to 128 { affine.for %co = 0 to 50256 { ... affine.store %v, %y[%n, %co] ...
        affine.for %n = 0 to 128 { affine.for %co = 0 to 1 { ... affine.store %v, %y[%n, %co + 50256] ...

    Requires, of a nest that is changed (others stay as they are): perfect and rectangular, a sum of products of two
    memrefs, of which one is not indexed by the result's last axis, and the other one, where it is, by that one and at
    most other iterators of the result: an index `ow + kw` is a convolution's, whose lane is its channels; at least
    FEWEST_ROWS rows. Rows get longer of a local result that no other nest writes and that is set before to a constant,
    or to the elements of a local memref along them. Of a convolution, whose rows are pixels, only those that start from
    a constant do, and nothing is cut.

    Options:
        width: lanes of a vector, at least 2.
    """

    name: ClassVar[str] = "morph-whole-vectors"
    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least("width", self.width, 2, "lanes in a vector")

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for root in nest_roots(module):
                product = _product(view_nest(root))
                if product is not None and (product.lane.extent or 0) >= self.width:
                    self._change(product)

    def _change(self, product: _Product) -> None:
        extent = product.lane.extent or 0
        wanted = -(-extent // self.width) * self.width
        beside = runs_along(product.nest, product.weight) == product.lane
        parameter = marks.parameter_name(product.weight.memref) is not None
        if wanted == extent and (beside or (parameter and not _is_constant(product.start))):
            return
        if product.start is None or not product.longer:
            whole = extent - extent % self.width
            _cut(product, whole)
            if not beside and not parameter:
                nest = view_nest(product.nest.root)
                lane, weight = nest.loops[product.lane.position], nest.loads[product.nest.loads.index(product.weight)]
                _copied(replace(product, nest=nest, lane=lane, weight=weight), whole)
            return
        free = _is_index(product.lane, product.weight) and has_free_rows(product.weight.memref)
        if beside and free and _extent(product.weight.memref) == extent:
            rows = product.weight.memref
            set_row_length(rows, wanted)
        else:
            rows = _copied(product, wanted)
        product.start.root.operation.move_before(product.nest.root.operation)
        if wanted == extent:
            return
        written = product.nest.stores[0].memref
        for value in (rows, *(bias.memref for bias in product.start.loads)):
            if _extent(value) == extent:
                set_row_length(value, wanted)
            _fill(product.start, product.nest, value, extent)
        set_row_length(written, wanted)
        for nest, loop in ((product.nest, product.lane), (product.start, product.start.loops[-1])):
            set_extent(nest.loops[loop.position], wanted)


def _product(nest: Nest) -> _Product | None:
    if not nest.is_perfect or not nest.is_rectangular or nest.is_vectorised or len(nest.stores) != 1:
        return None
    (written,) = nest.stores
    operands = [a for a in nest.loads if a.memref != written.memref]
    names = sorted(op.name for op in nest.body if not op.name.startswith("affine."))
    if len(operands) != 2 or len(nest.loads) != 3 or names != ["arith.addf", "arith.mulf"]:
        return None
    lane = runs_along(nest, written)
    if lane is None:
        return None
    indexed = [a for a in operands if lane.position in a.dims]
    if len(indexed) != 1 or not _moves(lane, indexed[0], written.dims):
        return None
    rows = [loop.extent or 1 for loop in nest.loops if loop.position in written.dims - indexed[0].dims]
    if math.prod(rows) < FEWEST_ROWS:
        return None
    start = _start(nest, written)
    longer = has_free_rows(written.memref) and start is not None and _can_grow(start)
    pixels = any(is_weight(a.memref) for a in operands if a is not indexed[0])  # not channels run along the rows
    if pixels and not (longer and _is_constant(start)):
        return None
    return _Product(nest, lane, indexed[0], start, longer)


def _is_index(lane: Loop, access: Access) -> bool:
    """Whether the iterator is an index of the access by itself, wherever it occurs."""
    within = [downcast(e) for e in access.exprs if lane.position in used_dims(e)]
    return all(isinstance(e, ir.AffineDimExpr) for e in within)


def _moves(lane: Loop, access: Access, kept: frozenset[int]) -> bool:
    """Whether the iterator moves the access, wherever it occurs, by itself or from a place that iterators of the result
    give, such as the window of an image in which attention looks.
    """
    within = [e for e in access.exprs if lane.position in used_dims(e)]
    return all(used_dims(e) <= kept and moves_by_one(e, lane.position) for e in within)


def _start(nest: Nest, written: Access) -> Nest | None:
    """The nest that sets all results before, the only other one to write them or to use them before."""
    main = nest.root.operation
    users = [(outermost(use.owner.operation), use.owner.name) for use in written.memref.uses]
    before = list({op for op, _ in users if op != main and op.is_before_in_block(main)})
    if len(before) != 1 or any(name != "affine.load" for op, name in users if op not in (main, *before)):
        return None
    start = view_nest(before[0].opview)
    if start.role != marks.INIT or not start.is_perfect or not start.is_rectangular or len(start.stores) != 1:
        return None
    lane = runs_along(start, start.stores[0])
    if lane is None or lane.position != len(start.loops) - 1 or lane.extent != _extent(written.memref):
        return None
    return start


def _can_grow(start: Nest) -> bool:
    """Whether start values are a constant, or a local row along their last axis whose length nothing else asks for."""
    lane = start.loops[-1]
    rows = [runs_along(start, read) == lane and _extent(read.memref) == lane.extent for read in start.loads]
    return not start.loads or (
        rows == [True] and len(start.loads[0].exprs) == 1 and has_free_rows(start.loads[0].memref)
    )


def _is_constant(start: Nest | None) -> bool:
    return start is not None and not start.loads


def _cut(product: _Product, whole: int) -> None:
    """Gives the elements of the rows behind the first `whole` nests of their own: the product's, and its start's."""
    nests = [(product.nest, product.lane)]
    if product.start is not None:
        nests.append((product.start, product.start.loops[-1]))
    for nest, lane in nests:
        extent = lane.extent or 0
        if whole < extent:
            rest = nest.root.operation.clone(ir.InsertionPoint.after(nest.root.operation)).opview
            keep_range(nest.root, lane.position, 0, whole)
            keep_range(rest, lane.position, whole, extent - whole)


def _extent(value: ir.Value) -> int:
    return ir.MemRefType(value.type).shape[-1]


def _copied(product: _Product, extent: int) -> ir.Value:
    """The operand in the order of the nest's loops with the lane last, in rows of `extent`, of which those read are
    filled; the nest reads it."""
    nest, weight = product.nest, product.weight
    loops = [nest.loops[p] for p in sorted(weight.dims - {product.lane.position})]
    shape = [*(loop.extent or 1 for loop in loops), extent]
    return copied_operand(nest, weight, [*loops, product.lane], shape, marks.PACK)


def _fill(start: Nest, nest: Nest, rows: ir.Value, filled: int) -> None:
    """Builds, before the nest `start`, one that sets the rest of the rows of an operand of `nest` to 0."""
    type_ = ir.MemRefType(rows.type)
    rank = len(type_.shape)
    texts = {name: marks.get_text(nest.root, name) for name in (marks.LAYER, marks.NODE)}
    names = tuple(f"i{axis}" for axis in range(rank))
    shape = (*type_.shape[:-1], type_.shape[-1] - filled)
    dims = [ir.AffineExpr.get_dim(axis) for axis in range(rank)]
    behind = ir.AffineMap.get(rank, 0, [*dims[:-1], dims[-1] + filled])
    with ir.InsertionPoint(start.root), nest.root.location:
        zero = arith.ConstantOp(type_.element_type, ir.FloatAttr.get(type_.element_type, 0.0)).result
        header = NestHeader(names, shape, texts | {marks.ROLE: marks.PAD})
        build_nest(header, lambda variables: store(zero, rows, behind, variables), nest.root.location)
