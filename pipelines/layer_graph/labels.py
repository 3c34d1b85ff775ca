"""What a layer graph's nodes, edges and dimensions are called where it is shown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from loopmorph.passes import marks
from loopmorph.passes.analysis.coupling.classes import DimensionClass, TiedIterators
from loopmorph.passes.analysis.layer_graph import LayerGraph, LayerNode, TensorEdge

_UNITS = ("", "k", "M", "G", "T")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Coupled:
    """A dimension that several layers with multiply-accumulates share.

    Attributes:
        name: `d3`: its number among all classes of the graph.
        dimension: the class.
        members: the iterators of those layers' own nests that run over it.
    """

    name: str
    dimension: DimensionClass
    members: tuple[TiedIterators, ...]

    @property
    def held(self) -> str:
        """Why it has to keep its extent; empty where it need not."""
        windows = [f"the index {text}" for text in self.dimension.windows]
        return next(iter((*self.dimension.pins, *windows)), "")

    def __str__(self) -> str:
        extents = " and ".join(map(str, self.dimension.extents))
        members = ", ".join(f"{m.layer}.{'*'.join(m.iterators)}" for m in self.members)
        return f"dimension {self.name} ({extents}): {members}"


def coupled_dimensions(graph: LayerGraph) -> list[Coupled]:
    """The dimensions that at least two layers with multiply-accumulates share, in program order."""
    working = {node.name for node in graph.nodes if node.macs}
    found = []
    for number, dimension in enumerate(graph.dimensions):
        members = tuple(m for m in dimension.members if m.layer in working and m.role in marks.COMPUTING)
        if len({member.layer for member in members}) > 1:
            found.append(Coupled(f"d{number}", dimension, members))
    return found


def names_of_iterators(coupled: list[Coupled]) -> dict[tuple[str, str], str]:
    """Layer and iterator -> the name of the coupled dimension that it runs over, alone or with others."""
    return {
        (member.layer, iterator): each.name
        for each in coupled
        for member in each.members
        if member.role == marks.MAIN
        for iterator in member.iterators
    }


def extents_text(node: LayerNode, names: Mapping[tuple[str, str], str]) -> str:
    """`co=64[d3] ci=32 ...`, iterators of a coupled dimension with its name; extents of 1 are left out."""
    found = []
    for iterator, extent in node.extents.items():
        if extent != 1:
            name = names.get((node.name, iterator))
            found.append(f"{iterator}={'?' if extent is None else extent}" + (f"[{name}]" if name else ""))
    return " ".join(found)


def work_text(node: LayerNode) -> str:
    """Its multiply-accumulates and parameters; empty where it has neither."""
    count = sum(math.prod(shape) for shape in node.parameters.values())
    parts = [f"{count_text(node.macs)} MACs"] if node.macs else []
    return ", ".join([*parts, *([f"{count_text(count)} parameters"] if count else [])])


def tensor_text(edge: TensorEdge) -> str:
    """Shape and element type, as MLIR writes them, and how many bytes are read."""
    shape = "".join(f"{extent}x" for extent in edge.shape)
    return f"{shape}{edge.element}, {bytes_text(edge.bytes_read)}"


def skip_text(edge: TensorEdge) -> str:
    """What a skip passes by."""
    return f"skip, passes {edge.passes_by} layer{'s' if edge.passes_by > 1 else ''} by"


def wrapped(text: str, width: int = 120) -> list[str]:
    """A text in lines, all but the first of which are indented."""
    return textwrap.wrap(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def count_text(count: int) -> str:
    """A count to three digits: `27`, `1.73 k`, `555 M`."""
    return _scaled(count, 1000, _UNITS)


def bytes_text(count: int) -> str:
    """Bytes to three digits: `40 B`, `1.5 KiB`, `2.25 MiB`."""
    return _scaled(count, 1024, _BINARY)


def _scaled(count: int, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while count >= base ** (power + 1) and power < len(units) - 1:
        power += 1
    return f"{count / base**power:.3g} {units[power]}".strip() if power else f"{count} {units[0]}".strip()
