"""The layer graph of a network as it was imported and transformed, or as its code computes it."""

from __future__ import annotations

from dataclasses import replace

from torch_mlir import ir

from loopmorph.passes.analysis.layer_graph import LayerGraph, layer_graph
from loopmorph.passes.lowering.to_llvm import schedule_nests
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.network import Network, copy_module


def network_graph(network: Network, target: Target | None = None, *, tied: bool = True) -> LayerGraph:
    """The layer graph of a network.

    Args:
        network: the network, which stays as it is.
        target: where given, the graph has the layers, tensors and bytes of the code for this processor: what comes
            right after a contraction is fused into it, tensors have blocked layouts and padded channels. Extents,
            multiply-accumulates and dimensions are those of the program all the same. Without, each layer of the
            program is a node, and each of its tensors an edge.
        tied: whether to find the dimensions that are tied.

    Raises:
        IllegalTransform: a pass towards the code refuses the program.
        CompilationFailed: an access may be outside its memref.
    """
    if target is None:
        return layer_graph(network.module.operation, tied=tied)
    module = copy_module(network.module)
    schedule_nests(module, target)
    return graph_of_code(network, module, tied=tied)


def graph_of_code(network: Network, scheduled: ir.Module, *, tied: bool = True) -> LayerGraph:
    """What `network_graph` gives for a processor, of a copy of the network's module after `schedule_nests` for it."""
    graph = layer_graph(network.module.operation, tied=tied)
    code = layer_graph(scheduled.operation, tied=False)
    known = {node.name: node for node in graph.nodes}
    nodes = [
        replace(node, extents=known[node.name].extents, macs=known[node.name].macs) if node.name in known else node
        for node in code.nodes
    ]
    return LayerGraph(tuple(nodes), code.edges, graph.dimensions)
