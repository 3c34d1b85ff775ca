"""What variants are made on: the blocks of a network, its contractions, and which dimensions are tied."""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.coupling.classes import DimensionClass, dimension_classes
from loopmorph.passes.analysis.coupling.disjoint_sets import DisjointSets
from loopmorph.passes.analysis.coupling.program_accesses import ProgramAccesses
from loopmorph.passes.analysis.dimension_names import NamedDimension, named_dimensions
from loopmorph.passes.analysis.roles import loops_of
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import Step
from loopmorph.passes.lowering.anonymous_layer import ANY_LAYER, anonymous_text
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.nest import Nest, nests
from loopmorph.passes.neural.drop_block import DropBlock, droppable_blocks, last_contraction
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.search.variants.footprint import Footprint, footprints
from loopmorph.pipelines.store.cache_file import hash_of
from loopmorph.pipelines.support.blocks import outer_blocks

_KNOWN = 1 << 14  # pairs of a layer and steps, of which it is kept whether the one admits the others


@dataclass(frozen=True)
class Ties:
    """Layers that have a dimension in common.

    Attributes:
        layers: all of them, in program order; those of concatenated dimensions included.
        writer: the first contraction that writes it, and the iterator there.
        extent: the dimension's extent there.
    """

    layers: tuple[str, ...]
    writer: tuple[str, str]
    extent: int


@dataclass(frozen=True)
class Ground:
    """A network as the kinds of variants see it.

    Attributes:
        network: as imported.
        target: the processor, whose vectors channels should fill.
    """

    network: Network
    target: Target
    _texts: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _extracted: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def layers(self) -> dict[str, Footprint]:
        """All layers, in program order."""
        return footprints(self.network)

    @cached_property
    def mains(self) -> dict[str, Nest]:
        """The contraction layers with one main nest, and that nest, in program order."""
        found = [nest for nest in self.network.nests if nest.role == marks.MAIN and macs(nest)]
        counts = Counter(nest.layer for nest in found)
        return {nest.layer: nest for nest in found if counts[nest.layer] == 1}

    @cached_property
    def droppable(self) -> dict[str, DropBlock]:
        """The last contraction of each branch that can go -> the step that drops it."""
        module = self.network.module.operation
        with module.context:
            known = droppable_blocks(module)
            return {step.layer: step for step, branch in known if last_contraction(branch) == step.layer}

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The outermost residual or dense blocks that hold contractions, and each contraction outside of them."""
        paths = outer_blocks(self.network.model, self.network.example_tensors[0])
        found: dict[str, list[str]] = defaultdict(list)
        for layer in self.mains:
            found[next((path for path in paths if _is_in(layer, path)), layer)].append(layer)
        return tuple(Unit(self, path, tuple(layers)) for path, layers in found.items())

    @cached_property
    def named(self) -> tuple[NamedDimension, ...]:
        """The dimensions of attentions and feed-forward layers."""
        module = self.network.module.operation
        with module.context:
            return tuple(named_dimensions(ProgramAccesses(module)))

    @cached_property
    def ties(self) -> tuple[Ties, ...]:
        """The dimensions of contractions' output channels that may shrink, in program order of their writers."""
        merged = _merged(dimension_classes(self.network.module.operation))
        found: dict[tuple[frozenset[str], str], Ties] = {}
        for layer, nest in self.mains.items():
            groups = {loop.iterator for loop in loops_of(nest, "group")}
            for loop in loops_of(nest, "output"):
                digits: tuple[str, ...] = (layer, loop.iterator)
                if groups:  # of one dimension with the inputs' channels, whose digits they are
                    own = {*groups, loop.iterator}
                    digits = next((key for key in merged if key[0] == layer and own <= {*key[1:]}), digits)
                layers = merged.get(digits, frozenset())
                place = (layers, layer if groups else "")  # what a group makes is a dimension within that of its inputs
                if len(layers) > 1 and place not in found:
                    ordered = tuple(name for name in self.layers if name in layers)
                    found[place] = Ties(ordered, (layer, loop.iterator), loop.extent or 1)
        return tuple(found.values())

    def reach(self, step: Step) -> frozenset[str]:
        """The layers that a step on an untouched network changes; none where it is refused, or where the same change
        is one that begins with another layer."""
        layer = step.address.layer if step.address is not None else ""
        nest = self.mains.get(layer)
        if nest is None or step.shrinks not in {loop.iterator for loop in loops_of(nest, "output")}:
            return frozenset([layer])
        return next((frozenset(t.layers) for t in self.ties if t.writer == (layer, step.shrinks)), frozenset())

    def admits(self, steps: Sequence[Step], reach: frozenset[str]) -> bool:
        """Whether a single layer admits steps that change no other, and whether they leave it less to multiply.

        Tried on the layer alone; of steps that change several layers nothing is known yet.
        """
        (layer, *others) = reach
        if others:
            return True
        return _lessens(self._alone(layer), tuple(step.on(ANY_LAYER) for step in steps))

    def _alone(self, layer: str) -> str:
        if layer not in self._texts:
            text = self.layers[layer].text
            if text not in self._extracted:
                self._extracted[text] = anonymous_text(extract_layer(self.network.module.operation, layer))
            self._texts[layer] = self._extracted[text]
        return self._texts[layer]


@functools.lru_cache(_KNOWN)
def _lessens(text: str, steps: tuple[Step, ...]) -> bool:
    """Whether a layer, given as a module, admits steps and has less to multiply then."""
    module = ir.Module.parse(text, ir.Context())
    before = sum(map(macs, nests(module.operation)))
    try:
        for step in steps:
            step.apply(module.operation)
    except (IllegalTransform, ArgumentError):
        return False
    return sum(map(macs, nests(module.operation))) < before


@dataclass(frozen=True)
class Unit:
    """What variants are counted by: a block, or a single layer.

    Attributes:
        ground: the network.
        path: the block's module, or the layer.
        contractions: its contraction layers, in program order.
    """

    ground: Ground
    path: str
    contractions: tuple[str, ...]

    @cached_property
    def layers(self) -> dict[str, None]:
        """All its layers, in program order."""
        return {name: None for name in self.ground.layers if _is_in(name, self.path)}

    @cached_property
    def signature(self) -> str:
        """Equal for units whose layers compute the same."""
        parts = [(self.relative(n).partition("|")[0], self.ground.layers[n].text) for n in self.layers]
        return hash_of(*itertools.chain(*parts))  # operations of a module's own code are numbered through the network

    def relative(self, layer: str) -> str:
        """A layer's name within the unit."""
        return layer.removeprefix(self.path)

    @property
    def ties(self) -> list[Ties]:
        """The dimensions that stay within it."""
        return [each for each in self.ground.ties if self.layers.keys() >= set(each.layers)]


def _is_in(layer: str, path: str) -> bool:
    """Whether a layer is a module's own, or that of one within it; also an operation of the module's own code."""
    return layer == path or (layer.startswith(path) and layer[len(path)] in ".|@#")


def _merged(classes: Iterable[DimensionClass]) -> Mapping[tuple[str, ...], frozenset[str]]:
    """(layer, iterators of its main nest that make up a dimension) -> the layers that follow it.

    Without the dimensions that cannot shrink.
    """
    known = list(classes)
    sets: DisjointSets[int] = DisjointSets()
    for number, each in enumerate(known):
        for other, _, _ in each.slices:
            sets.join(number, other)
    joined: dict[int, set[str]] = defaultdict(set)
    for number, each in enumerate(known):
        joined[sets.find(number)].update(member.layer for member in each.members)
    return {
        (member.layer, *member.iterators): frozenset(joined[sets.find(number)])
        for number, each in enumerate(known)
        if not each.pins and not each.windows
        for member in each.members
        if member.role == marks.MAIN
    }
