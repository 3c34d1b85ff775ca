"""Blocked layouts: axes of a memref cut into blocks, the place within the block moved last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import memref

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import linear_form
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.nest import Nest


@dataclass(frozen=True)
class Blocking:
    """`[.., D, ..] -> [.., D/f, .., f]` for each axis, the inner parts in the order of `axes`, the last contiguous.

    Attributes:
        axes: the axes that are cut, each once.
        factors: for each the length of its blocks; divides the axis's extent.
    """

    axes: tuple[int, ...]
    factors: tuple[int, ...]

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The blocked shape of a memref."""
        factor_of = dict(zip(self.axes, self.factors, strict=True))
        return (*(extent // factor_of.get(axis, 1) for axis, extent in enumerate(shape)), *self.factors)

    def exprs(self, exprs: Sequence[ir.AffineExpr]) -> tuple[ir.AffineExpr, ...]:
        """The place of the element `exprs` in the blocked memref; not simplified."""
        outer = list(exprs)
        inner = []
        for axis, factor in zip(self.axes, self.factors, strict=True):
            length = ir.AffineExpr.get_constant(factor)
            outer[axis] = ir.AffineExpr.get_floor_div(exprs[axis], length)
            inner.append(ir.AffineExpr.get_mod(exprs[axis], length))
        return (*outer, *inner)


def blocked_type(value: ir.Value, blocking: Blocking, part: Sequence[int] | None = None) -> ir.MemRefType:
    """The type of a memref once it is blocked, or of its first elements, as many as `part` says for each axis."""
    type_ = ir.MemRefType(value.type)
    shape = blocking.shape(part or type_.shape)
    return ir.MemRefType.get(shape, type_.element_type, memory_space=type_.memory_space)


def block_in_place(value: ir.Value, blocking: Blocking) -> ir.Value:
    """A new allocation in the place of a local memref; its uses are still to be redirected, it to be erased then."""
    with ir.InsertionPoint(value.owner), value.owner.location:
        return memref.AllocOp(blocked_type(value, blocking), [], []).result


def blocked_copy(value: ir.Value, blocking: Blocking, reader: Nest, part: Sequence[int] | None = None) -> ir.Value:
    """Builds, before the nest `reader`, a blocked copy of a memref by a nest of role "pack"; returns it.

    Args:
        value: the memref.
        blocking: how the copy is laid out.
        reader: the nest.
        part: how many elements are copied along each axis, from the first one on; all by default.
    """
    type_ = ir.MemRefType(value.type)
    names = [f"i{axis}" for axis in range(len(type_.shape))]
    dims = [ir.AffineExpr.get_dim(axis) for axis in range(len(names))]
    header_names = list(names)
    for k, (axis, factor) in enumerate(zip(blocking.axes, blocking.factors, strict=True)):
        header_names[axis] = f"{names[axis]}.0"
        header_names.append(f"{names[axis]}.1")
        dims[axis] = dims[axis] * factor + ir.AffineExpr.get_dim(len(names) + k)
    shape = blocking.shape(part or type_.shape)
    texts = {name: marks.get_text(reader.root, name) for name in (marks.LAYER, marks.NODE)}
    with ir.InsertionPoint(reader.root), reader.root.location:
        packed = memref.AllocOp(blocked_type(value, blocking, part), [], []).result
        source = ir.AffineMap.get(len(shape), 0, dims)
        target = ir.AffineMap.get_identity(len(shape))
        build_nest(
            NestHeader(tuple(header_names), shape, texts | {marks.ROLE: marks.PACK}),
            lambda variables: store(load(value, source, variables), packed, target, variables),
            reader.root.location,
        )
    return packed


def cuts_for(expr: ir.AffineExpr, extents: Sequence[int | None], width: int) -> dict[int, int] | None:
    """By how much loops must be split so that `expr floordiv width` and `expr mod width` hold neither any more.

    Args:
        expr: an index, over the nest's loops.
        extents: extents of the loops, None where not constant.
        width: length of the blocks.

    Returns:
        Loop position -> length of the inner loop (empty where nothing has to be split); None where no split does it.
    """
    form = linear_form(expr)
    if form is None or form.constant % width or any(c < 0 for c in form.coefficients.values()):
        return None
    cuts: dict[int, int] = {}
    reach = 0  # largest value of the terms that stay within a block
    for d, coefficient in sorted(form.coefficients.items(), key=lambda item: item[1]):
        if coefficient % width == 0:
            continue
        extent = extents[d]
        if extent is None:
            return None
        if coefficient * (extent - 1) + reach >= width:
            cuts[d] = width // coefficient
            if width % coefficient or extent % cuts[d]:
                return None
            extent = cuts[d]
        reach += coefficient * (extent - 1)
    return cuts if reach < width else None
