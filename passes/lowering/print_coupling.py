"""`morph-print-coupling`: the classes of tied dimensions, as text."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.coupling.classes import DimensionClass, dimension_classes
from loopmorph.passes.analysis.coupling.program_accesses import ProgramAccesses
from loopmorph.passes.analysis.dimension_names import named_dimensions
from loopmorph.passes.base import Pass

_WIDTH = 120


@dataclass(frozen=True)
class PrintCoupling(Pass):
    """Writes the classes of tied dimensions to the standard output, as comments; the program stays as it is.

    One paragraph a class, for `morph-print-coupling` on x -> a -> b -> y:

        // class 0: extent 64
        //   iterators: a co, b ci
        //   parameters: a.weight[0], b.weight[1]
        //
        // class 1: extent 16
        //   iterators: a ci
        //   parameters: a.weight[1]
        //   pinned: its dimension is tied to the network's input through layer 'a'

    What `morph-bottleneck` and `morph-narrow` do to one member of a class they do to all, unless something pins it;
    only a reduction iterator may also read a part of an activation that stays. A class that is a slice of another (a
    part of a concatenation, a map within its padded copy) says of which. Then come the dimensions that have names (see
    `loopmorph.passes.analysis.dimension_names`), each with a nest that goes along it alone, and the layers that do.

    Requires nothing.
    """

    name: ClassVar[str] = "morph-print-coupling"

    def run(self, module: ir.Operation) -> None:
        for number, dimension in enumerate(dimension_classes(module)):
            lines = [line for text in describe(dimension, number) for line in _wrapped(text)]
            sys.stdout.write("".join(f"// {line}\n" for line in lines) + "//\n")
        with module.context:
            for named in named_dimensions(ProgramAccesses(module)):
                where = f"{named.nest.layer} {named.loop.iterator}, of extent {named.loop.extent}"
                text = f"named: {named.name}, {where}: {', '.join(sorted(named.layers))}"
                sys.stdout.write("".join(f"// {line}\n" for line in _wrapped(text)))


def describe(dimension: DimensionClass, number: int) -> Iterator[str]:
    """The lines of one class: its extent, members, the larger classes that it is a slice of, what pins it."""
    yield f"class {number}: extent {' and '.join(map(str, dimension.extents))}"
    if dimension.iterators:
        yield f"  iterators: {', '.join(dimension.iterators)}"
    if dimension.parameters:
        yield f"  parameters: {', '.join(dimension.parameters)}"
    for of, begin, end in dimension.slices:
        yield f"  slice: {begin}..{end - 1} of class {of}"
    if dimension.windows:
        yield f"  pinned: windows or offsets of {', '.join(dimension.windows)}"
    for pin in dimension.pins:
        yield f"  pinned: {pin}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - 3, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
