"""One layer as a module of its own, to be compiled, checked and timed alone."""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.lowering.dataflow import effects
from loopmorph.passes.nest import Nest, layer_nests


def extract_layer(module: ir.Operation, layer: str) -> ir.Module:
    """A module, in the same context, whose `@main` holds all nests of one layer; `module` stays as it is.

    Args:
        module: a module of affine nests.
        layer: the layer's qualified name.

    Returns:
        A module whose arguments are the memrefs that the layer shares with the rest: first the parameters (with all
        their marks), then what it reads (`morph.input = k`), then what it writes and others read or the network
        returns (`morph.output = k`), each group in the order of its first use. What stays within the layer stays a
        `memref.alloc`.

    Raises:
        ArgumentError: the layer has no nests, or nests in several functions, or adds to values that others write.
    """
    nests = layer_nests(module, layer)
    if not nests:
        raise ArgumentError("layer", f"no layer '{layer}' in the program")
    with module.context, nests[0].root.location:
        owner = nests[0].root.operation.parent.opview
        if any(nest.root.operation.parent.opview != owner for nest in nests):
            raise ArgumentError("layer", f"layer '{layer}' has nests in several functions")
        return _build(owner, nests)


def _build(source: func.FuncOp, nests: list[Nest]) -> ir.Module:
    attributes = dict(zip(source.entry_block.arguments, marks.argument_marks(source), strict=True))
    roots = [nest.root.operation for nest in nests]
    reads, writes, scalars = _touched(roots)
    parameters = [m for m in reads if marks.PARAM in attributes.get(m, {})]
    inputs = [m for m in reads if m not in parameters and m not in writes]
    outputs = [m for m in writes if m in attributes or _used_elsewhere(m, roots)]
    _check_writers(outputs, roots, nests[0])
    local = [m for m in writes if m not in outputs]
    arguments = [*parameters, *inputs, *outputs]

    result = ir.Module.create()
    with ir.InsertionPoint(result.body):
        function = func.FuncOp("main", ([m.type for m in arguments], []))
        block = function.add_entry_block()
    index = ir.IntegerType.get_signless(64)
    marks.set_argument_marks(
        function,
        [attributes[m] for m in parameters]
        + [{marks.INPUT: ir.IntegerAttr.get(index, k)} for k in range(len(inputs))]
        + [{marks.OUTPUT: ir.IntegerAttr.get(index, k)} for k in range(len(outputs))],
    )
    replacement = dict(zip(arguments, block.arguments, strict=True))
    with ir.InsertionPoint(block):
        for value in [*scalars, *local]:
            _copy_definition(value, replacement)
        for root in roots:
            _replace(root.clone(), replacement)
        func.ReturnOp([])
    return result


def _touched(roots: list[ir.Operation]) -> tuple[list[ir.Value], list[ir.Value], list[ir.Value]]:
    """Memrefs read, memrefs written, and scalars used by the nests, each without repetition, in program order."""
    found = [effects(root) for root in roots]
    order = {value: None for root in roots for value in _operands(root)}
    reads = [v for v in order if any(v in e.reads for e in found)]
    writes = [v for v in order if any(v in e.writes for e in found)]
    scalars = [v for v in order if any(v in e.scalars for e in found)]
    return reads, writes, scalars


def _operands(root: ir.Operation) -> list[ir.Value]:
    found: list[ir.Value] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        found.extend(op.operands)
        return ir.WalkResult.ADVANCE

    root.walk(visit, ir.WalkOrder.PRE_ORDER)
    return found


def _used_elsewhere(value: ir.Value, roots: list[ir.Operation]) -> bool:
    inside = sum(operand == value for root in roots for operand in _operands(root))
    return len(list(value.uses)) != inside


def _check_writers(outputs: list[ir.Value], roots: list[ir.Operation], nest: Nest) -> None:
    """Refuses a layer that goes on with what others have begun to write: its result would not be defined by itself."""
    found = [effects(root) for root in roots]
    for memref in outputs:
        first = next(e for e in found if memref in e.reads | e.writes)
        if memref in first.reads:
            raise ArgumentError("layer", f"{nest.label} adds to a memref whose start value another layer writes")


def _copy_definition(value: ir.Value, replacement: dict[ir.Value, ir.Value]) -> None:
    """Builds again, at the current insertion point, the operation that defines a value, and those that it needs."""
    if value in replacement:
        return
    op = value.owner.operation
    for operand in op.operands:
        _copy_definition(operand, replacement)
    clone = op.clone()
    _replace(clone, replacement)
    replacement.update(zip(op.results, clone.results, strict=True))


def _replace(op: ir.Operation, replacement: dict[ir.Value, ir.Value]) -> None:
    def visit(each: ir.Operation) -> ir.WalkResult:
        for position, operand in enumerate(each.operands):
            if operand in replacement:
                each.operands[position] = replacement[operand]
        return ir.WalkResult.ADVANCE

    op.walk(visit)
