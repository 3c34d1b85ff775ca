"""linalg on memrefs: each operation becomes a nest where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.analysis.iterator_names import names_by_rank
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.errors import ImportRefused
from loopmorph.passes.ingress.axis_names import Axes, axis_names
from loopmorph.passes.ingress.linalg_operations import describe, static_shape
from loopmorph.passes.ingress.structured_nest import Source, StructuredOperation, marks_of
from loopmorph.passes.ingress.tensor_views import identity_view


def lower_on_memrefs(functions: Sequence[func.FuncOp]) -> set[str]:
    """Lowers the linalg operations and copies of functions without tensors, in place; all of them, or none.

    Returns the layers of what has been lowered.

    A memref of any layout is accessed as it is.

    Raises:
        ImportRefused: a dynamic shape, or an operation that is no affine nest; names it and its location.
    """
    plans = [
        (op, _plan(op, axes)) for f in functions if (ops := _operations(f)) for axes in (axis_names(f),) for op in ops
    ]
    layers = {marks.get_text(op, marks.LAYER) for op, _ in plans}
    for op, build in plans:
        with ir.InsertionPoint(op), op.location:
            build()
        op.erase()
    return layers


def _operations(function: func.FuncOp) -> list[ir.Operation]:
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name == "memref.copy" or (op.name.startswith("linalg.") and op.name not in _INNER):
            found.append(op)
        return ir.WalkResult.ADVANCE

    function.operation.walk(visit)
    return found


_INNER = frozenset({"linalg.index", "linalg.yield"})


def _plan(op: ir.Operation, axes: Axes) -> Callable[[], object]:
    """What builds the operation's nest at the current insertion point."""
    if op.name == "memref.copy":
        return _copy(op)
    operation = StructuredOperation.read(op, axes)
    sources: list[Source] = [
        identity_view(value) if isinstance(value.type, ir.MemRefType) else value for value in op.operands
    ]
    return lambda: operation.build(sources, {}, {})


def _copy(op: ir.Operation) -> Callable[[], object]:
    source, target = op.operands
    if not all(isinstance(value.type, ir.MemRefType) for value in (source, target)):
        raise ImportRefused(f"{describe(op)}: a memref without a rank")
    shape = static_shape(target.type, op.location)
    static_shape(source.type, op.location)
    map_ = ir.AffineMap.get_identity(len(shape))

    def body(variables: list[ir.Value]) -> None:
        store(load(source, map_, variables), target, map_, variables)

    header = NestHeader(names_by_rank(len(shape)), shape, marks_of(op, marks.MAIN))
    return lambda: build_nest(header, body, op.location)
