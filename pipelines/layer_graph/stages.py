"""The layer graph of a network as it was imported and transformed, or as its code computes it."""

from __future__ import annotations

from loopmorph.passes.analysis.layer_graph import LayerGraph, layer_graph
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.network import Network, copy_module


def network_graph(network: Network, target: Target | None = None) -> LayerGraph:
    """The layer graph of a network.

    Args:
        network: the network, which stays as it is.
        target: where given, the graph is that of the code for this processor: element-wise layers are fused into those
            whose results they take, tensors have blocked layouts and padded channels. Without, it is that of the
            program: each layer by itself.

    Raises:
        IllegalTransform: a pass towards the code refuses the program.
    """
    if target is None:
        return layer_graph(network.module.operation)
    module = copy_module(network.module)
    for step in layout_passes(target):
        step.run(module.operation)
    return layer_graph(module.operation)
