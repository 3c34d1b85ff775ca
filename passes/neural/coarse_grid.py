"""The coarse grid: a contraction is computed at every `factor`-th point of an output iterator, and repeated from there.

What `morph-bottleneck` does to an output iterator that indexes no parameter (`oh`, `ow`, a part of one of them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch_mlir import ir
from torch_mlir.dialects import memref

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import LinearForm, downcast, from_linear, simplify, substitute, used_dims
from loopmorph.passes.analysis.coupling.ties import tie
from loopmorph.passes.building.edit_accesses import redirect
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, rewrite_access, store
from loopmorph.passes.building.rebuild import set_extent
from loopmorph.passes.nest import Access, Nest
from loopmorph.passes.neural.coarse_plan import CoarsePlan, Thinned


def coarsen(plan: CoarsePlan) -> ir.Operation:
    """Carries the plan out; returns the main nest's outermost loop.

    Where nothing repeats the result yet, the layer's nests get a coarse memref of their own to write, and a nest of
    role `expand`, after the last of them, fills the former result from it; so its readers stay as they are, and a
    result that is an output of the network keeps its shape. Otherwise the coarse memref shrinks once more.
    """
    coarse = plan.result if plan.expand is not None else _allocate(plan)
    for writer in plan.writers:
        _thin(writer, plan, coarse)
    if plan.expand is None:
        _build_expand(plan, coarse)
    else:
        _coarsen_expand(plan, plan.expand)
        coarse.set_type(ir.MemRefType.get(list(plan.shape), ir.MemRefType(coarse.type).element_type))
    return plan.main.root.operation


def _allocate(plan: CoarsePlan) -> ir.Value:
    first = plan.writers[0].nest.root.operation
    with ir.InsertionPoint(first), plan.main.root.location:
        element = ir.MemRefType(plan.result.type).element_type
        return memref.AllocOp(ir.MemRefType.get(list(plan.shape), element), [], []).memref


def _thin(writer: Thinned, plan: CoarsePlan, coarse: ir.Value) -> None:
    """Fewer iterations; the result's accesses go to the coarse memref, all others to the points that stay."""
    nest, position = writer.nest, writer.loop.position
    extents = [(loop.extent or 1) // (plan.factor if loop == writer.loop else 1) for loop in nest.loops]
    variables = [loop.variable for loop in nest.loops]
    for access in nest.accesses:
        if access.memref == plan.result:
            exprs = list(access.exprs)
            exprs[plan.axis] = _renewed(nest, access, plan.axis, extents)
            redirect(access.op, coarse, exprs, variables)
        elif position in access.dims:
            fine = {position: writer.fine}
            exprs = [simplify(substitute(e, fine, len(extents)), extents) for e in access.exprs]
            rewrite_access(access.op, exprs, variables)
    set_extent(writer.loop, extents[position])


def _renewed(nest: Nest, access: Access, axis: int, extents: Sequence[int]) -> ir.AffineExpr:
    """The mixed-radix index of the same iterators over their new extents."""
    coefficients: dict[int, int] = {}
    weight = 1
    for position in reversed(tie(nest, access, axis).loops):
        coefficients[position] = weight
        weight *= extents[position]
    return from_linear(LinearForm(coefficients))


def _build_expand(plan: CoarsePlan, coarse: ir.Value) -> None:
    """After the last writer: a nest over all points of the result that reads the coarse one."""
    shape = ir.MemRefType(plan.result.type).shape
    dims = [ir.AffineExpr.get_dim(axis) for axis in range(len(shape))]
    source = [_coarse_index(plan, d, shape) if axis == plan.axis else d for axis, d in enumerate(dims)]

    def body(variables: list[ir.Value]) -> None:
        value = load(coarse, ir.AffineMap.get(len(shape), 0, source), variables)
        store(value, plan.result, ir.AffineMap.get(len(shape), 0, dims), variables)

    with ir.InsertionPoint.after(plan.writers[-1].nest.root.operation):
        build_nest(NestHeader(_names(plan.main), tuple(shape), _marks(plan.main)), body, plan.main.root.location)


def _coarsen_expand(plan: CoarsePlan, expand: Nest) -> None:
    extents = [loop.extent or 1 for loop in expand.loops]
    variables = [loop.variable for loop in expand.loops]
    for access in expand.accesses:
        if access.memref == plan.result:
            exprs = list(access.exprs)
            exprs[plan.axis] = _coarse_index(plan, exprs[plan.axis], extents)
            rewrite_access(access.op, exprs, variables)


def _coarse_index(plan: CoarsePlan, index: ir.AffineExpr, extents: Sequence[int]) -> ir.AffineExpr:
    """Where a point of the result's axis lies in the coarse one."""
    whole = _floordiv(index, plan.stride * plan.factor) * plan.stride
    return simplify(whole + ir.AffineExpr.get_mod(index, ir.AffineExpr.get_constant(plan.stride)), extents)


def _floordiv(index: ir.AffineExpr, divisor: int) -> ir.AffineExpr:
    """`index floordiv divisor`, one division where the index is one already."""
    quotient = downcast(index)
    if isinstance(quotient, ir.AffineFloorDivExpr):
        index, divisor = quotient.lhs, divisor * ir.AffineConstantExpr(downcast(quotient.rhs)).value
    return ir.AffineExpr.get_floor_div(index, ir.AffineExpr.get_constant(divisor))


def _names(main: Nest) -> tuple[str, ...]:
    """The iterators of the expand nest, one for each axis: the main nest's, without the numbers of their parts."""
    names: list[str] = []
    for axis, expr in enumerate(main.stores[0].exprs):
        positions = sorted(used_dims(expr))
        name = main.loops[positions[-1]].iterator.partition(".")[0] if positions else f"i{axis}"
        names.append(name if name not in names else f"i{axis}")
    return tuple(names)


def _marks(main: Nest) -> Mapping[str, str]:
    known = {name: marks.get_text(main.root, name) for name in (marks.LAYER, marks.NODE)}
    return {**{name: text for name, text in known.items() if text}, marks.ROLE: marks.EXPAND}
