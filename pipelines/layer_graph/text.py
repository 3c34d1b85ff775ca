"""A layer graph as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from loopmorph.passes.analysis.layer_graph import LayerGraph, LayerNode, TensorEdge
from loopmorph.pipelines.layer_graph.labels import (
    bytes_text,
    count_text,
    coupled_dimensions,
    extents_text,
    names_of_iterators,
    skip_text,
    tensor_text,
    work_text,
    wrapped,
)


def graph_text(graph: LayerGraph, title: str) -> str:
    """The layers with their extents and work, under each the tensors that it reads; then the coupled dimensions.

    A tensor's line has its source, shape, the bytes that are read of it, and its reuse distance; `~` marks a skip.

    Args:
        graph: the graph.
        title: what it is of.
    """
    return "\n".join([*_head(graph, title), "", *_layers(graph), "", *_dimensions(graph)]) + "\n"


def _head(graph: LayerGraph, title: str) -> Iterator[str]:
    layers = [node for node in graph.nodes if node.kind == "layer"]
    skips = sum(edge.is_skip for edge in graph.edges)
    macs = count_text(sum(node.macs for node in layers))
    tensors = f"{len(graph.edges)} tensors between them, {skips} of which are skips"
    yield f"{title}: {len(layers)} layers, {macs} multiply-accumulates, {tensors}"


def _layers(graph: LayerGraph) -> Iterator[str]:
    names = names_of_iterators(coupled_dimensions(graph))
    read: dict[str, list[TensorEdge]] = {}
    for edge in graph.edges:
        read.setdefault(edge.target, []).append(edge)
    for node in graph.nodes:
        yield _node(node, extents_text(node, names))
        for edge in read.get(node.name, []):
            far = f", reuse distance {bytes_text(edge.reuse_distance)}"
            skip = f" ({skip_text(edge)})" if edge.is_skip else ""
            yield f"    {'~' if edge.is_skip else '<'} {edge.source}: {tensor_text(edge)}{far}{skip}"


def _node(node: LayerNode, extents: str) -> str:
    return "  ".join(part for part in (node.name, extents, work_text(node)) if part)


def _dimensions(graph: LayerGraph) -> Iterator[str]:
    coupled = coupled_dimensions(graph)
    if not coupled:
        yield "no dimension is shared by several layers"
    for each in coupled:
        yield from wrapped(str(each))
        if each.held:
            yield from wrapped(f"    stays as it is: {each.held}")
