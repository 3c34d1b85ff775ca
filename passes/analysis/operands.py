"""Which memrefs a nest of products and sums combines: output, input and weight, found from its access maps."""

from __future__ import annotations

from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.memory.dataflow import outermost
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.roles import CHANNEL_AXIS, channel_loops, has_channels
from loopmorph.passes.nest import Access

_PREPARING = (marks.PACK, marks.PROLOGUE, marks.FILTER_TRANSFORM)  # roles of nests that make a weight of parameters


@dataclass(frozen=True)
class Operands:
    """The memrefs of a contraction `output[..] += input[..] * weight[..]` such as a convolution or a linear layer.

    Attributes:
        output: its store.
        input: the load of the input.
        weight: the load of the weight: what, of the output's iterators, depends on the channel's alone, and on bands
            of its pixels (`g` in `g * 8 + oh`).
        channels: positions of the loops that make up the output's axis 1.
        reduced: positions of the loops that make up the input's axis 1 and that the output does not know.
    """

    output: Access
    input: Access
    weight: Access
    channels: frozenset[int]
    reduced: frozenset[int]


def find_operands(accesses: list[Access]) -> Operands | None:
    """The operands of a nest with these accesses, None where it is no contraction of an input with a weight, or where
    axis 1 of its output counts no channels: in a product of matrices with three axes it counts tokens.
    """
    stores = [a for a in accesses if a.kind == "store"]
    if len(stores) != 1 or not has_channels(stores[0]):
        return None
    (output,) = stores
    loads = [a for a in accesses if a.kind == "load" and a.memref != output.memref]
    if len(loads) != 2 or len({a.memref for a in loads}) != 2:
        return None
    kept = output.dims
    channels = channel_loops(output)
    weights = [a for a in loads if a.dims & channels and a.dims & kept <= channels | _bands(output, a.dims)]
    if len(weights) != 1 or not any(a.dims - kept for a in loads):
        return None
    (weight,) = weights
    (input_,) = (a for a in loads if a is not weight)
    if not has_channels(input_):
        return None
    if is_weight(input_.memref) and not is_weight(weight.memref):
        return None  # a product of matrices: axis 1 of the output counts rows that share the weight
    return Operands(output, input_, weight, channels, channel_loops(input_) - kept)


def is_prepared(memref: ir.Value) -> bool:
    """Whether a memref is local and filled by nests that prepare a weight: no activation that other nests compute."""
    if not is_local(memref):
        return False
    stores = [use.owner.operation for use in memref.uses if use.owner.operation.name.endswith("store")]
    return all(marks.get_text(outermost(op), marks.ROLE, marks.MAIN) in _PREPARING for op in stores)


def is_weight(memref: ir.Value) -> bool:
    """Whether a memref is a parameter, or made of parameters by nests that prepare a weight."""
    return marks.parameter_name(memref) is not None or is_prepared(memref)


def _bands(output: Access, weight: frozenset[int]) -> frozenset[int]:
    """Iterators that are a part of an output axis of which other parts do not index the weight: bands of rows."""
    parts = [used_dims(e) for axis, e in enumerate(output.exprs) if axis != CHANNEL_AXIS]
    return frozenset[int]().union(*(dims & weight for dims in parts if dims - weight))
