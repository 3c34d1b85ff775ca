"""Reading linalg and tensor operations: names of iterators, indexing maps, extents, static sizes."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.analysis.iterator_names import names_by_use
from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import ImportRefused

# Operations whose iterators are named by what they index; linalg has many layouts of each.
_PRODUCTS = ("batch_", "contract", "dot", "generic", "matmul", "matvec", "mmt4d", "vecmat")
_BY_USE = tuple(f"linalg.{kind}" for kind in ("conv_", "depthwise_conv_", "pooling_", *_PRODUCTS))


def describe(op: ir.Operation) -> str:
    """An operation for an error message: its name, its layer, its location."""
    layer = marks.get_text(op, marks.LAYER)
    return f"{op.name}{f' of layer {layer}' if layer else ''} ({location_text(op.location)})"


def iterator_names(op: ir.Operation) -> tuple[str, ...]:
    """Iterator names of a convolution, a pool or a product, of any layout; none for another operation."""
    if not op.name.startswith(_BY_USE):
        return ()
    maps = indexing_maps(op)
    block = op.regions[0].blocks[0]
    n_outputs = len(block.operations[len(block.operations) - 1].operation.operands)
    if n_outputs != 1:
        return ()
    pool = op.name.startswith("linalg.pooling_")  # the second operand is the shape of the window alone
    indices = [[used_dims(e) for e in map_.results] for map_ in maps]
    operands = indices[:1] if pool else indices[:-1]
    return names_by_use(maps[-1].n_dims, indices[-1], operands) or ()


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
        if not is_shaped(operand.type):
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
    """The sizes or offsets that an operation holds as the attribute `name`, or takes as constants.

    Raises:
        ImportRefused: one of them is computed.
    """
    values = list(ir.DenseI64ArrayAttr(op.attributes[name]))
    given = iter(getattr(op.opview, name.removeprefix("static_")))
    found = [_constant(next(given)) if v == ir.ShapedType.get_dynamic_size() else v for v in values]
    if any(v is None for v in found):
        raise ImportRefused(f"{describe(op)}: a dynamic size or offset; static shapes are required")
    return [v for v in found if v is not None]


def _constant(value: ir.Value) -> int | None:
    op = definition(value)
    return ir.IntegerAttr(op.attributes["value"]).value if op is not None and op.name == "arith.constant" else None


def static_shape(type_: ir.Type, location: ir.Location) -> tuple[int, ...]:
    shaped = ir.ShapedType(type_)
    if not shaped.has_rank or not shaped.has_static_shape:
        raise ImportRefused(f"{type_} ({location_text(location)}): a dynamic shape; static shapes are required")
    return tuple(shaped.shape)


def memref_type(type_: ir.Type, location: ir.Location) -> ir.Type:
    if not is_tensor(type_):
        return type_
    if ir.RankedTensorType(type_).encoding is not None:
        raise ImportRefused(f"{type_} ({location_text(location)}): only tensors without an encoding are supported")
    return ir.MemRefType.get(static_shape(type_, location), ir.RankedTensorType(type_).element_type)


def result_type(type_: ir.Type, location: ir.Location) -> ir.Type:
    """The memref that a function's result is written to; that of a scalar has no axes."""
    return memref_type(type_, location) if is_tensor(type_) else ir.MemRefType.get([], type_)


def is_tensor(type_: ir.Type) -> bool:
    return isinstance(type_, ir.RankedTensorType)


def is_shaped(type_: ir.Type) -> bool:
    return isinstance(type_, ir.RankedTensorType | ir.MemRefType)


def replacing(placement: dict[int, ir.AffineExpr], n_dims: int) -> ir.AffineMap:
    return ir.AffineMap.get(n_dims, 0, [placement[d] for d in range(n_dims)])
