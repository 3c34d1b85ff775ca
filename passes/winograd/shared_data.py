"""Transformed data that several nests of a layer multiply with: where it lies, and whether it is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import downcast, linear_form, used_dims
from loopmorph.passes.analysis.dependence.aliasing import may_alias
from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.nest import Nest, view_nest
from loopmorph.passes.winograd.match import Convolution, index_values


@dataclass(frozen=True)
class TileLayout:
    """How transformed data lies in a memref.

    Attributes:
        shape: the memref's: the points of a tile, the channels' axes but the last, the tiles, the channels' last axis.
        steps: by how much the number of a tile grows from one sample, row and column of tiles to the next.
    """

    shape: tuple[int, ...]
    steps: tuple[int, ...]


def find_made(convolution: Convolution, axes: Sequence[int], layout: TileLayout) -> ir.Value | None:
    """A memref of transformed data that holds all that a nest needs, None where there is none.

    Args:
        convolution: the nest.
        axes: see `shared_axes`.
        layout: what such a memref looks like.
    """
    main = convolution.nest.root.operation
    ops = [op.operation for op in main.block.operations]
    for op in reversed(ops[: ops.index(main)]):
        touched = effects(op)
        if any(may_alias(m, convolution.data.memref) for m in touched.writes):
            return None  # what was transformed before it is no longer what is read
        made = _made(op, convolution, axes, layout)
        if made is not None:
            return made
    return None


def shared_axes(convolution: Convolution) -> tuple[int, ...] | None:
    """The axes of the data's memref along which its channels lie, where another nest of the layer reads it too.

    Data transformed channel by channel in these axes, not in the digits of one nest, serves nests that read other
    channels or group them otherwise. None where the last digit of the channels is not the index of a whole axis, too.
    """
    if not any(_reads(op, convolution) for op in convolution.nest.root.operation.block.operations):
        return None
    channels, exprs = set(convolution.data_channels), convolution.data.exprs
    axes = [axis for axis, expr in enumerate(exprs) if used_dims(expr) & channels]
    last = convolution.data_channels[-1]
    lane = downcast(exprs[axes[-1]])
    is_whole = convolution.data.shape[axes[-1]] == convolution.extent(last)
    if not isinstance(lane, ir.AffineDimExpr) or lane.position != last or not is_whole:
        return None
    return tuple(axes)


def _reads(op: ir.OpView, convolution: Convolution) -> bool:
    """Whether an operation is another main nest of the layer that reads the data."""
    root = convolution.nest.root
    if not isinstance(op, affine.AffineForOp) or op.operation == root.operation:
        return False
    of_layer = marks.get_text(op, marks.LAYER) == marks.get_text(root, marks.LAYER)
    is_main = marks.get_text(op, marks.ROLE, marks.MAIN) in (marks.MAIN, marks.INPUT_TRANSFORM)
    return of_layer and is_main and convolution.data.memref in effects(op.operation).reads


def _made(op: ir.Operation, convolution: Convolution, axes: Sequence[int], layout: TileLayout) -> ir.Value | None:
    """What an operation fills where that is the data of all channels that the nest reads, transformed the same way."""
    if not isinstance(op.opview, affine.AffineForOp) or marks.get_text(op, marks.ROLE) != marks.INPUT_TRANSFORM:
        return None
    nest = view_nest(op.opview)
    loads = [a for a in nest.loads if a.memref == convolution.data.memref]
    if not loads or not nest.is_rectangular:
        return None
    (target,) = {a.memref for a in nest.stores}
    number = linear_form(nest.stores[0].exprs[-2])
    alike = tuple(ir.MemRefType(target.type).shape) == layout.shape
    if not alike or number is None or sorted(number.coefficients.values()) != sorted(layout.steps):
        return None
    if _corner([a.exprs for a in loads], convolution) != _corner([convolution.data.exprs], convolution):
        return None
    there = [_values(nest, loads[0].exprs[axis]) for axis in axes[:-1]]
    needed = [_values(convolution.nest, convolution.data.exprs[axis]) for axis in axes[:-1]]
    return target if all(n <= t for n, t in zip(needed, there, strict=True)) else None


def _values(nest: Nest, expr: ir.AffineExpr) -> set[int]:
    return set(index_values(nest, expr, sorted(used_dims(expr))).tolist())


def _corner(accesses: Sequence[Sequence[ir.AffineExpr]], convolution: Convolution) -> list[int | None]:
    """Where the first tile begins along the axes over which the window moves; None along one where it is not known."""
    windows = [k for k, e in enumerate(convolution.data.exprs) if used_dims(e) & set(convolution.space)]
    return [_least([exprs[axis] for exprs in accesses]) for axis in windows]


def _least(exprs: Sequence[ir.AffineExpr]) -> int | None:
    forms = [linear_form(e) for e in exprs]
    constants = [form.constant for form in forms if form is not None]
    return min(constants) if len(constants) == len(forms) else None
