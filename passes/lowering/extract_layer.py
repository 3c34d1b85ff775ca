"""One layer as a module of its own, to be compiled, checked and timed alone."""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.address import layer_nests
from loopmorph.passes.analysis.memory.box import Box
from loopmorph.passes.analysis.memory.dataflow import effects, parameter_work
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.memory.zero_halo import live_box
from loopmorph.passes.analysis.roles import CHANNEL_AXIS
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, replace_operands, store
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import history, record, steps_on
from loopmorph.passes.nest import Nest


def extract_layer(module: ir.Operation, layer: str, closed: bool = False) -> ir.Module:
    """A module, in the same context, whose `@main` holds all nests of one layer; `module` stays as it is.

    Open, it computes what the layer computes. Closed, it is to be compiled to the code that the layer is in its
    network: layouts can be chosen for local memrefs only, so those that are local in the network are local here, and
    hold nothing in particular. A nest that only pads or copies an activation is left out: in the network its work is
    done by whoever writes that activation. Of each such input one element is an argument, stored at the corners of
    what holds more than zeros, so that what depends on it is neither mistaken for work on parameters nor for padding.

    Args:
        module: a module of affine nests.
        layer: the layer's qualified name.
        closed: whether memrefs that are local in the program stay so.

    Returns:
        A module whose arguments are the memrefs that the layer shares with the rest: first the parameters (with all
        their marks), then what it reads (`morph.input = k`), then what it writes and others read or the network
        returns (`morph.output = k`), each group in the order of its first use. What stays within the layer stays a
        `memref.alloc`. The module records the loop transformations of this layer that `module` records.

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
        roots = [nest.root.operation for nest in nests]
        result = _build(owner, _without_preparation(owner, nests) if closed else roots, nests[0], closed)
        own = steps_on(history(module), layer)
        record(result.operation, *(step for step in own if step.kind == "loop"))
        return result


def _without_preparation(source: func.FuncOp, nests: list[Nest]) -> list[ir.Operation]:
    """The roots of the nests but for those that pad or copy what does not depend on parameters alone."""
    own = set(parameter_work(source).ops)
    others = [n for n in nests if n.role in (marks.INIT, marks.PAD, marks.COPY) and n.root.operation not in own]
    copied = {store.memref for n in others if n.role != marks.INIT for store in n.stores}
    dropped = [n for n in others if all(store.memref in copied for store in n.stores)]
    return [n.root.operation for n in nests if n not in dropped]


def _build(source: func.FuncOp, roots: list[ir.Operation], nest: Nest, closed: bool) -> ir.Module:
    attributes = dict(zip(source.entry_block.arguments, marks.argument_marks(source), strict=True))
    reads, writes, scalars = _touched(roots)
    parameters = [m for m in reads if marks.PARAM in attributes.get(m, {})]
    inputs = [m for m in reads if m not in parameters and m not in writes]
    outputs = [m for m in writes if m in attributes or _used_elsewhere(m, roots)]
    _check_writers(outputs, roots, nest)
    given = {m: _element_type(m) for m in inputs if closed and is_local(m)}
    if closed:
        outputs = [m for m in outputs if not is_local(m)]
    local = [*(m for m in writes if m not in outputs), *given]
    arguments = [*parameters, *inputs, *outputs]

    result = ir.Module.create()
    with ir.InsertionPoint(result.body):
        function = func.FuncOp("main", ([given.get(m, m.type) for m in arguments], []))
        block = function.add_entry_block()
    index = ir.IntegerType.get_signless(64)
    marks.set_argument_marks(
        function,
        [attributes[m] for m in parameters]
        + [{marks.INPUT: ir.IntegerAttr.get(index, k)} for k in range(len(inputs))]
        + [{marks.OUTPUT: ir.IntegerAttr.get(index, k)} for k in range(len(outputs))],
    )
    passed = dict(zip(arguments, block.arguments, strict=True))
    replacement = {m: argument for m, argument in passed.items() if m not in given}
    with ir.InsertionPoint(block):
        for value in [*scalars, *local]:
            _copy_definition(value, replacement)
        for m in given:
            _give_corners(m, passed[m], replacement[m])
        for root in roots:
            replace_operands(root.clone(), replacement)
        func.ReturnOp([])
    return result


def _element_type(value: ir.Value) -> ir.MemRefType:
    """The type of a memref that holds one element."""
    return ir.MemRefType.get([1], ir.MemRefType(value.type).element_type)


def _give_corners(original: ir.Value, source: ir.Value, target: ir.Value) -> None:
    """Builds nests that store the one element of `source` at two corners of `target`, in all of its channels.

    They are the first and the last pixel of the box outside of which the program writes nothing but zeros to the
    memref that `target` stands for; so this box stays the same.
    """
    shape = tuple(ir.MemRefType(target.type).shape)
    box = live_box(original) or Box((0,) * len(shape), shape)
    channels = CHANNEL_AXIS if len(shape) > CHANNEL_AXIS else 0
    first = ir.AffineMap.get(1, 0, [ir.AffineExpr.get_constant(0)])
    for corner in dict.fromkeys((box.begin, tuple(end - 1 for end in box.end))):
        exprs = [ir.AffineExpr.get_constant(c) for c in corner]
        exprs[channels] = ir.AffineExpr.get_dim(0) + box.begin[channels]
        place = ir.AffineMap.get(1, 0, exprs)

        def body(variables: list[ir.Value], place: ir.AffineMap = place) -> None:
            store(load(source, first, variables), target, place, variables)

        header = NestHeader(("c",), (box.end[channels] - box.begin[channels],), {marks.ROLE: marks.COPY})
        build_nest(header, body, ir.Location.current)


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
    replace_operands(clone, replacement)
    replacement.update(zip(op.results, clone.results, strict=True))
