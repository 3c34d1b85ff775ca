"""What each layer of a network is and takes: the text of its nests, its operations, parameters and activations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.memory.memrefs import element_bytes
from loopmorph.passes.nest import Nest, functions
from loopmorph.passes.nest_text import layer_texts
from loopmorph.pipelines.network import Network


@dataclass(frozen=True)
class Footprint:
    """One layer.

    Attributes:
        text: its nests without names; layers of which these are equal compute the same.
        macs: multiply-accumulates of one call.
        parameters: numbers in the trainable tensors that it is the first to read.
        memory: bytes of the activations that it is the first to write, as the nests store them; what the compiler
            fuses away later is counted.
    """

    text: str = ""
    macs: int = 0
    parameters: int = 0
    memory: int = 0


def footprints(network: Network) -> dict[str, Footprint]:
    """Layer -> its footprint, for all layers that have a nest, in program order."""
    trainable = _trainable(network)
    read: dict[ir.Value, str] = {}
    written: dict[ir.Value, str] = {}
    found: dict[str, Footprint] = {}
    texts = layer_texts(network.module.operation, anonymous=True)
    for layer, nests in network.nests_by_layer.items():
        parameters = [value for value in _first(read, layer, nests, "load") if value in trainable]
        activations = [value for value in _first(written, layer, nests, "store") if _is_activation(value)]
        found[layer] = Footprint(
            text=texts[layer],
            macs=sum(map(macs, nests)),
            parameters=sum(trainable[value] for value in parameters),
            memory=sum(map(_bytes, activations)),
        )
    return found


def _trainable(network: Network) -> dict[ir.Value, int]:
    """The arguments that stand for trainable tensors, new ones included, and how many numbers each holds."""
    names = {name for name, _ in network.model.named_parameters()}
    found = {}
    for function in functions(network.module.operation):
        for argument, mine in zip(function.entry_block.arguments, marks.argument_marks(function), strict=True):
            if marks.PARAM not in mine:
                continue
            source = ir.StringAttr(mine.get(marks.SOURCE, mine[marks.PARAM])).value
            if source in names or marks.IDENTITY in mine:
                found[argument] = math.prod(ir.MemRefType(argument.type).shape)
    return found


def _first(owners: dict[ir.Value, str], layer: str, nests: list[Nest], kind: str) -> list[ir.Value]:
    """The memrefs that the nests access so and no layer before has; from now on they are this layer's."""
    accessed = dict.fromkeys(access.memref for nest in nests for access in nest.accesses if access.kind == kind)
    new = [memref for memref in accessed if memref not in owners]
    owners.update(dict.fromkeys(new, layer))
    return new


def _is_activation(value: ir.Value) -> bool:
    return marks.PARAM not in marks.memref_marks(value)


def _bytes(value: ir.Value) -> int:
    type_ = ir.MemRefType(value.type)
    return math.prod(type_.shape) * element_bytes(type_.element_type)


def changed_layers(before: Mapping[str, Footprint], after: Mapping[str, Footprint]) -> list[str]:
    """The layers whose nests, or the shapes of what these read and write, differ; in program order."""
    return [name for name in dict.fromkeys([*before, *after]) if _text_of(before, name) != _text_of(after, name)]


def _text_of(found: Mapping[str, Footprint], name: str) -> str:
    return found.get(name, Footprint()).text
