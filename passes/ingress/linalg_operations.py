"""Reading linalg and tensor operations: names of iterators, indexing maps, extents, static sizes."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import ImportRefused

# Iterator names of the named operations, by dimension of their indexing maps.
NAMED_ITERATORS = {
    "linalg.conv_1d_ncw_fcw": ("n", "co", "ow", "ci", "kw"),
    "linalg.conv_3d_ncdhw_fcdhw": ("n", "co", "od", "oh", "ow", "ci", "kd", "kh", "kw"),
    "linalg.depthwise_conv_1d_ncw_cw": ("n", "ow", "c", "kw"),
    "linalg.conv_2d_nchw_fchw": ("n", "co", "oh", "ow", "ci", "kh", "kw"),
    "linalg.conv_2d_ngchw_gfchw": ("n", "g", "co", "oh", "ow", "ci", "kh", "kw"),
    "linalg.depthwise_conv_2d_nchw_chw": ("n", "oh", "ow", "c", "kh", "kw"),
    "linalg.pooling_nchw_max": ("n", "c", "oh", "ow", "kh", "kw"),
    "linalg.pooling_nchw_sum": ("n", "c", "oh", "ow", "kh", "kw"),
    "linalg.matmul": ("n", "co", "ci"),
    "linalg.batch_matmul": ("b", "n", "co", "ci"),
}
# Iterator names of everything else, by the number of iterators.
ITERATORS_BY_RANK = {
    0: (),
    1: ("c",),
    2: ("n", "c"),
    3: ("n", "c", "w"),
    4: ("n", "c", "h", "w"),
    5: ("n", "c", "d", "h", "w"),
}
# A grouped convolution over three axes has no name in linalg: batch, groups, channels of one, the axes, reductions.
_GROUPED_3D = ("n", "g", "co", "od", "oh", "ow", "ci", "kd", "kh", "kw")


def describe(op: ir.Operation) -> str:
    """An operation for an error message: its name, its layer, its location."""
    layer = marks.get_text(op, marks.LAYER)
    return f"{op.name}{f' of layer {layer}' if layer else ''} ({location_text(op.location)})"


def iterator_names(op: ir.Operation) -> tuple[str, ...]:
    """Iterator names of a convolution, a pool or a product of matrices; none for another operation."""
    if op.name == "linalg.generic" and len(op.operands) == 3 and _is_grouped_3d(op):
        return _GROUPED_3D
    return NAMED_ITERATORS.get(op.name, ())


def _is_grouped_3d(op: ir.Operation) -> bool:
    input_, weight, output = (
        [sorted(used_dims(e)) for e in ir.AffineMapAttr(m).value.results] for m in op.attributes["indexing_maps"]
    )
    return (
        input_ == [[0], [1], [6], [3, 7], [4, 8], [5, 9]]
        and weight in ([[1], [2], [6], [7], [8], [9]], [[2], [1], [6], [7], [8], [9]])
        and output == [[0], [1], [2], [3], [4], [5]]
    )


def indexing_maps(op: ir.Operation) -> list[ir.AffineMap]:
    from torch_mlir.dialects import linalg  # slow to import, and no other pass needs it

    maps = linalg.get_indexing_maps(op) if len(op.regions) == 1 and len(op.regions[0].blocks) == 1 else None
    if maps is None:
        raise ImportRefused(f"{describe(op)}: cannot be lowered to an affine nest")
    return [ir.AffineMapAttr(m).value if isinstance(m, ir.Attribute) else m for m in maps]


def iteration_extents(op: ir.Operation, maps: Sequence[ir.AffineMap], operands: Sequence[ir.Value]) -> list[int]:
    """Extent of each iteration dimension, read off an operand that some access indexes by it alone."""
    extents: list[int | None] = [None] * maps[0].n_dims
    for map_, operand in zip(maps, operands, strict=True):
        if not is_tensor(operand.type):
            continue
        shape = static_shape(operand.type, op.location)
        for expr, extent in zip(map_.results, shape, strict=True):
            expr = expr.maybe_downcast()
            if isinstance(expr, ir.AffineDimExpr):
                extents[expr.position] = extent
    if any(e is None for e in extents):
        raise ImportRefused(f"{describe(op)}: an iterator whose extent no operand gives")
    return [e for e in extents if e is not None]


def loop_order(output_map: ir.AffineMap, n_dims: int) -> list[int]:
    """The dimensions in the order of the output's axes, then the reductions."""
    order: list[int] = []
    for expr in output_map.results:
        expr = expr.maybe_downcast()
        if isinstance(expr, ir.AffineDimExpr) and expr.position not in order:
            order.append(expr.position)
    return order + [d for d in range(n_dims) if d not in order]


def static(op: ir.Operation, name: str) -> list[int]:
    values = list(ir.DenseI64ArrayAttr(op.attributes[name]))
    if any(v == ir.ShapedType.get_dynamic_size() for v in values):
        raise ImportRefused(f"{describe(op)}: a dynamic size or offset; static shapes are required")
    return values


def static_shape(type_: ir.Type, location: ir.Location) -> tuple[int, ...]:
    tensor = ir.RankedTensorType(type_)
    if not tensor.has_static_shape:
        raise ImportRefused(f"{tensor} ({location}): a dynamic shape; static shapes are required")
    return tuple(tensor.shape)


def memref_type(type_: ir.Type, location: ir.Location) -> ir.Type:
    if not is_tensor(type_):
        return type_
    return ir.MemRefType.get(static_shape(type_, location), ir.RankedTensorType(type_).element_type)


def is_tensor(type_: ir.Type) -> bool:
    return isinstance(type_, ir.RankedTensorType)


def replacing(placement: dict[int, ir.AffineExpr], n_dims: int) -> ir.AffineMap:
    return ir.AffineMap.get(n_dims, 0, [placement[d] for d in range(n_dims)])
