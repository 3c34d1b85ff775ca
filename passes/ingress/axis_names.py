"""What the axes of tensors and memrefs are, told by the convolutions and pools that use them.

linalg says the layout of a convolution (`nhwc`, `nchw`); what is added to its result, and the padding before it, do
not. Their iterators are named by the axes of what they index, as far as these are (n, c, d, h, w) in some order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.iterator_names import axis_label, names_by_rank
from loopmorph.passes.ingress.linalg_operations import indexing_maps, is_shaped, iterator_names

Axes = Mapping[ir.Value, tuple[str, ...]]

_SAME_AXES = frozenset({"tensor.cast", "tensor.pad"})


def axis_names(function: func.FuncOp) -> Axes:
    """The axes of the tensors and memrefs of a function, of those for which they can be told.

    Raises:
        ImportRefused: a linalg operation without indexing maps.
    """
    known: dict[ir.Value, tuple[str, ...]] = {}
    ops = _operations(function)
    for op in ops:
        names = iterator_names(op) if op.name.startswith("linalg.") else ()
        if names:
            _learn(known, _accesses(op), names)
    if known:
        for op in [*ops, *reversed(ops)]:
            _pass_on(known, op)
    return known


def names_by_axes(op: ir.Operation, axes: Axes) -> tuple[str, ...]:
    """Names for the iterators of an operation that index the axes of what it reads and writes; none where unknown."""
    accesses = _accesses(op)
    rank = accesses[0][1].n_dims
    found: dict[int, str] = {}
    for value, map_ in accesses:
        for name, expr in zip(axes.get(value, ()), map_.results, strict=False):
            expr = expr.maybe_downcast()
            if isinstance(expr, ir.AffineDimExpr):
                found.setdefault(expr.position, name)
    named = tuple(found[d] for d in range(rank) if d in found)
    return named if sorted(named) == sorted(names_by_rank(rank)) else ()


def _operations(function: func.FuncOp) -> list[ir.Operation]:
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name in _SAME_AXES or (op.name.startswith("linalg.") and len(op.regions) == 1):
            found.append(op)
        return ir.WalkResult.ADVANCE

    function.operation.walk(visit, ir.WalkOrder.PRE_ORDER)
    return found


def _accesses(op: ir.Operation) -> list[tuple[ir.Value, ir.AffineMap]]:
    """The tensors and memrefs that a linalg operation takes and gives, with their indexing maps."""
    maps = indexing_maps(op)
    pairs = [*zip(op.operands, maps, strict=True)]
    if len(op.results):
        pairs += zip(op.results, maps[-len(op.results) :], strict=True)
    return [(value, map_) for value, map_ in pairs if is_shaped(value.type)]


def _learn(
    known: dict[ir.Value, tuple[str, ...]], accesses: Iterable[tuple[ir.Value, ir.AffineMap]], names: Sequence[str]
) -> None:
    """Notes the axes of what an operation with such iterators accesses."""
    for value, map_ in accesses:
        labels = tuple(axis_label([names[d] for d in sorted(used_dims(expr))]) for expr in map_.results)
        if sorted(labels) == sorted(names_by_rank(len(labels))):
            known.setdefault(value, labels)


def _pass_on(known: dict[ir.Value, tuple[str, ...]], op: ir.Operation) -> None:
    """Notes the axes of what an operation takes from those of what it gives, and the other way round."""
    if op.name in _SAME_AXES:
        pair = (op.operands[0], op.results[0])
        labels = next((known[value] for value in pair if value in known), None)
        if labels is not None:
            known.update(dict.fromkeys(pair, labels))
    elif not iterator_names(op):
        names = names_by_axes(op, known)
        if names:
            _learn(known, _accesses(op), names)
