"""A layer graph in the DOT language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from loopmorph.passes.analysis.layer_graph import LayerGraph
from loopmorph.pipelines.layer_graph.labels import (
    bytes_text,
    coupled_dimensions,
    extents_text,
    names_of_iterators,
    tensor_text,
    work_text,
)


def graph_dot(graph: LayerGraph, title: str) -> str:
    """A directed graph: layers with multiply-accumulates as boxes, others rounded; skips dashed.

    Args:
        graph: the graph.
        title: what it is of.
    """
    return "\n".join(["digraph layers {", *(f"  {line}" for line in _body(graph, title)), "}"]) + "\n"


def _body(graph: LayerGraph, title: str) -> Iterator[str]:
    coupled = coupled_dimensions(graph)
    names = names_of_iterators(coupled)
    yield f"label={_quoted(title, *map(str, coupled), left=True)}; labelloc=t; labeljust=l;"
    yield 'node [shape=box, fontname="Helvetica"]; edge [fontname="Helvetica", fontsize=10];'
    for node in graph.nodes:
        label = _quoted(*filter(None, (node.name, extents_text(node, names), work_text(node))))
        style = {"layer": "solid" if node.macs else "rounded"}.get(node.kind, "filled")
        yield f'{_quoted(node.name)} [label={label}, style="{style}"];'
    for edge in graph.edges:
        label = _quoted(tensor_text(edge), f"reuse distance {bytes_text(edge.reuse_distance)}")
        style = ", style=dashed, constraint=false" if edge.is_skip else ""
        yield f"{_quoted(edge.source)} -> {_quoted(edge.target)} [label={label}{style}];"


def _quoted(*lines: str, left: bool = False) -> str:
    """A string of some lines, centred, or with their left ends below each other."""
    escaped = [line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for line in lines]
    return '"' + ("\\l".join([*escaped, ""]) if left else "\\n".join(escaped)) + '"'
