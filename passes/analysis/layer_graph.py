"""The dependence graph of the layers of a program: which tensors go from one to another, and how far they travel.

Nodes are layers, and the network's inputs and outputs; an edge is a memref that one writes and another reads. What
depends on parameters alone (BatchNorm's scale) is computed once, ahead of all calls, and counts as a parameter.

It can be drawn of a program as it was imported, and at any later stage up to the planning of memory
(`morph-plan-scratch`), from where on memrefs share bytes; layers that were fused into others are no nodes then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.coupling.classes import DimensionClass, dimension_classes
from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.analysis.memory.footprint import united
from loopmorph.passes.analysis.tensor_flow import (
    Flow,
    Step,
    flows,
    footprint_bytes,
    merged,
    reuse_distances,
    steps_of,
    total_bytes,
)
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import functions

NodeKind = Literal["input", "layer", "output"]


@dataclass(frozen=True)
class LayerNode:
    """A layer, or an input or output of the network.

    Attributes:
        name: qualified name of the layer (of an operation of a module's own forward `module|node`); `input K` or
            `output K` of the network; `step K` where the program does not say what it belongs to.
        kind: which of these it is.
        extents: iterator -> extent, outermost loop first, of its largest nest; none of an input or output.
        macs: multiply-accumulates of one call.
        parameters: name -> shape of each parameter, buffer and constant that it reads, or reads what was made of.
        parameter_bytes: distinct bytes that it reads of these, or of what was made of them.
        bytes_touched: distinct bytes that its nests read or write, parameters and intermediate results among them.
        depth: layers on the longest way to it from an input, itself counted; 0 of an input.
    """

    name: str
    kind: NodeKind
    extents: Mapping[str, int | None]
    macs: int
    parameters: Mapping[str, tuple[int, ...]]
    parameter_bytes: int
    bytes_touched: int
    depth: int


@dataclass(frozen=True)
class TensorEdge:
    """A tensor that one node writes and another reads.

    Attributes:
        source: the name of the node that writes it.
        target: the name of the node that reads it.
        shape: its extents.
        element: the type of its elements, as MLIR spells it (`f32`).
        bytes_written: distinct bytes of it that the source writes.
        bytes_read: distinct bytes that the target reads of what the source wrote.
        reuse_distance: distinct bytes that are touched from the write to the target's first read, all that was written
            among them: a cache of so many bytes that replaces what was used least recently still holds it. Taken of
            whole tensors, in program order; the stack distance of Mattson et al., Evaluation techniques for storage
            hierarchies, IBM Systems Journal 9 (2), 1970.
        passes_by: how many layers less deep the source lies than the deepest one that the target reads, where both
            come from the same layer or input; 0 of most edges. Otherwise it is a skip: the identity of a residual
            block, its projection, an older slice of a concatenation.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    element: str
    bytes_written: int
    bytes_read: int
    reuse_distance: int
    passes_by: int = 0

    @property
    def is_skip(self) -> bool:
        """Whether it passes layers by that lie on another way to its target."""
        return self.passes_by > 0


@dataclass(frozen=True)
class LayerGraph:
    """The layers of a program, what goes from one to another, and the dimensions that tie them.

    Attributes:
        nodes: inputs, then layers in the order in which they are done, then outputs.
        edges: in the order of the reads.
        dimensions: the classes of tied dimensions: what changes one member's extent changes that of all.
    """

    nodes: tuple[LayerNode, ...]
    edges: tuple[TensorEdge, ...]
    dimensions: tuple[DimensionClass, ...]


def layer_graph(module: ir.Operation, *, tied: bool = True) -> LayerGraph:
    """The graph of the function that computes a network: `@run` where there is one, else `@main`, else the first.

    Args:
        module: the module.
        tied: whether to find the dimensions that are tied, which takes as long as all else.

    Raises:
        IllegalTransform: there is no function, or an index of a nest is no affine function of its iterators.
    """
    with module.context:
        function = _function(module)
        steps = steps_of(function)
        names = _names(function, steps)
        sources = _parameter_sources(function)
        own = _steps_by_node(steps, names)
        edges = _edges(steps, names)
        depths = _depths(list(own), edges)
        nodes = tuple(_node(name, of, depths[name], sources) for name, of in own.items())
        dimensions = tuple(dimension_classes(module)) if tied else ()
        return LayerGraph(nodes, _with_skips(list(own), edges, depths), dimensions)


def _function(module: ir.Operation) -> func.FuncOp:
    known = {function.name.value: function for function in functions(module)}
    if not known:
        raise IllegalTransform("module", "it has no function with a body, so that there is no graph of its layers")
    return known.get(marks.RUN) or known.get("main") or next(iter(known.values()))


def _names(function: func.FuncOp, steps: Sequence[Step]) -> list[str]:
    """The node of each step."""
    attributes = dict(zip(function.entry_block.arguments, marks.argument_marks(function), strict=True))
    return [_argument_name(step, attributes) or step.layer or f"step {k}" for k, step in enumerate(steps)]


def _steps_by_node(steps: Sequence[Step], names: Sequence[str]) -> dict[str, list[Step]]:
    """The steps of each node, the nodes in the order of their last steps: start values may be written early."""
    last = {name: k for k, name in enumerate(names)}
    own: dict[str, list[Step]] = {name: [] for name in sorted(last, key=lambda name: last[name])}
    for name, step in zip(names, steps, strict=True):
        own[name].append(step)
    return own


def _argument_name(step: Step, attributes: Mapping[ir.Value, Mapping[str, ir.Attribute]]) -> str | None:
    if step.argument is None:
        return None
    kind = _kind(step)
    mark = attributes[step.argument].get(marks.INPUT if kind == "input" else marks.OUTPUT)
    number = ir.BlockArgument(step.argument).arg_number if mark is None else ir.IntegerAttr(mark).value
    return f"{kind} {number}"


def _kind(step: Step) -> NodeKind:
    if step.argument is None:
        return "layer"
    return "input" if step.writes else "output"


def _parameter_sources(function: func.FuncOp) -> dict[ir.Value, dict[str, tuple[int, ...]]]:
    """The parameters that each memref that depends on parameters is made of, with their shapes."""
    found = {
        argument: {name: tuple(ir.MemRefType(argument.type).shape)}
        for argument in function.entry_block.arguments
        if (name := marks.parameter_name(argument)) is not None
    }
    for op in function.entry_block.operations:
        effect = effects(op.operation)
        made_of = {name: shape for memref in effect.reads for name, shape in found.get(memref, {}).items()}
        for memref in effect.writes:
            found.setdefault(memref, {}).update(made_of)
    return found


def _node(
    name: str, steps: Sequence[Step], depth: int, sources: Mapping[ir.Value, Mapping[str, tuple[int, ...]]]
) -> LayerNode:
    nests = [step.nest for step in steps if step.nest is not None]
    constants = merged(step.constants for step in steps)
    parameters = {parameter: shape for memref in constants for parameter, shape in sources.get(memref, {}).items()}
    largest = max(nests, key=lambda nest: nest.points, default=None)
    return LayerNode(
        name,
        _kind(steps[0]),
        {} if largest is None else dict(zip(largest.iterators, largest.extents, strict=True)),
        sum(macs(nest) for nest in nests if nest.role in marks.COMPUTING),
        dict(sorted(parameters.items())),
        total_bytes(constants),
        total_bytes(merged(step.touched for step in steps)),
        depth,
    )


def _edges(steps: Sequence[Step], names: Sequence[str]) -> list[TensorEdge]:
    """The flows from one node to another, those of one memref between the same two as one."""
    found = flows(steps)
    together: dict[tuple[str, str, ir.Value], list[tuple[Flow, int]]] = {}
    for flow, distance in zip(found, reuse_distances(steps, found), strict=True):
        source, target = names[flow.write], names[flow.read]
        if source != target:
            together.setdefault((source, target, flow.memref), []).append((flow, distance))
    return [_edge(steps, *key, pairs) for key, pairs in together.items()]


def _edge(
    steps: Sequence[Step], source: str, target: str, memref: ir.Value, pairs: Sequence[tuple[Flow, int]]
) -> TensorEdge:
    type_ = ir.MemRefType(memref.type)
    written = united(steps[k].writes[memref] for k in sorted({flow.write for flow, _ in pairs}))
    read = united(flow.elements for flow, _ in pairs)
    return TensorEdge(
        source,
        target,
        tuple(type_.shape),
        str(type_.element_type),
        footprint_bytes(memref, written),
        footprint_bytes(memref, read),
        min(distance for _, distance in pairs),
    )


def _depths(names: Sequence[str], edges: Sequence[TensorEdge]) -> dict[str, int]:
    """The length of the longest way to each node; `names` are in the order in which they are done."""
    order = {name: k for k, name in enumerate(names)}
    depths = dict.fromkeys(names, 0)
    for edge in sorted(_forward(order, edges), key=lambda edge: order[edge.target]):
        depths[edge.target] = max(depths[edge.target], depths[edge.source] + 1)
    return depths


def _with_skips(names: Sequence[str], edges: Sequence[TensorEdge], depths: Mapping[str, int]) -> tuple[TensorEdge, ...]:
    """The edges, each with what it passes by."""
    order = {name: k for k, name in enumerate(names)}
    sources: dict[str, list[str]] = {}
    for edge in _forward(order, edges):
        sources.setdefault(edge.target, []).append(edge.source)
    origins: dict[str, int] = {}  # the nodes on all ways to each node, itself among them, as a set of bits
    for name in names:
        origins[name] = 1 << order[name]
        for source in sources.get(name, []):
            origins[name] |= origins[source]

    def passed(edge: TensorEdge) -> int:
        others = [s for s in sources.get(edge.target, []) if s != edge.source and origins[s] & origins[edge.source]]
        return max([depths[other] - depths[edge.source] for other in others], default=0)

    return tuple(replace(edge, passes_by=max(0, passed(edge))) for edge in edges)


def _forward(order: Mapping[str, int], edges: Collection[TensorEdge]) -> list[TensorEdge]:
    """The edges to later nodes: of two layers whose nests lie among each other, one way."""
    return [edge for edge in edges if order[edge.source] < order[edge.target]]
