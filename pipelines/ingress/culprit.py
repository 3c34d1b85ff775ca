"""Which node of a graph torch-mlir has no lowering for, where what it reports names none: each is lowered by itself."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import fx
from torch_mlir import ir
from torch_mlir.passmanager import PassManager


def node_without_lowering(graph: fx.Graph, pipelines: Sequence[str], context: ir.Context) -> fx.Node | None:
    """The first node that the pipelines do not lower by itself; None where each is lowered.

    Args:
        graph: in core operations, its nodes with the tensors that stand for their values.
        pipelines: from the torch dialect to linalg.
        context: with the torch dialect.
    """
    tried: set[str] = set()
    for node in graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        kind = _kind(node)
        if kind not in tried and not _lowers(node, pipelines, context):
            return node
        tried.add(kind)
    return None


def _kind(node: fx.Node) -> str:
    """The same for nodes that are lowered alike."""
    values = [(type(x.meta.get("val")).__name__, _shapes(x)) for x in node.all_input_nodes]
    others = fx.map_arg((node.args, node.kwargs), lambda _: None)
    return repr((str(node.target), values, others))


def _shapes(node: fx.Node) -> str:
    value = node.meta.get("val")
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else str(value)


def _lowers(node: fx.Node, pipelines: Sequence[str], context: ir.Context) -> bool:
    from torch_mlir.extras import fx_importer

    importer = fx_importer.FxImporter(context=context)
    try:
        importer.import_stateless_graph(_alone(node), func_name="main")
        with context:
            for pipeline in pipelines:
                PassManager.parse(pipeline).run(importer.module.operation)
    except Exception:  # of whatever type: the question is only whether
        return False
    return True


def _alone(node: fx.Node) -> fx.Graph:
    """A graph that computes one node of another from inputs."""
    graph = fx.Graph()
    inputs: dict[fx.Node, fx.Node] = {}
    for source in node.all_input_nodes:
        inputs[source] = graph.placeholder(source.name)
        inputs[source].meta = dict(source.meta)
    copied = graph.node_copy(node, lambda source: inputs[source])
    value = node.meta.get("val")
    graph.output(tuple(_parts(graph, copied, value)) if isinstance(value, list | tuple) else (copied,))
    return graph


def _parts(graph: fx.Graph, node: fx.Node, values: Sequence[object]) -> list[fx.Node]:
    """The tensors among a node's several results."""
    found = []
    for k, value in enumerate(values):
        if isinstance(value, torch.Tensor):
            part = graph.call_function(operator.getitem, (node, k))
            part.meta = {"val": value}
            found.append(part)
    return found
