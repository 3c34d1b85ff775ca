"""The roles that iterators play, read off the access maps of their nests, whatever the iterators are called.

Of an iterator of a contraction `output[..] += data[..] * parameter[..]`:

    role        output  data  parameter
    batch         x      x                the samples: the first axis of the output
    spatial       x      x                a point of a sample that shares all parameters (oh, ow; a token)
    output        x             x         an output channel (co)
    group         x      x      x         a part that stands for itself (g; c of a depthwise layer; a head)
    reduction            x      x         an input channel (ci)
    window               x      x         a tap: moves along the data together with a spatial iterator (kh, kw)

Where a nest reads no parameter, what does not depend on the sample counts as one (a weight that other nests prepare).
"""

from __future__ import annotations

from typing import Literal

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.nest import Access, Loop, Nest

Role = Literal["batch", "spatial", "output", "group", "reduction", "window"]

# The axes of activations as PyTorch orders them, (N, C, ...): the one thing that access maps do not tell.
BATCH_AXIS = 0
CHANNEL_AXIS = 1


def role_of(nest: Nest, loop: Loop) -> Role:
    """The role of an iterator."""
    if is_reduction(nest, loop.position):
        return "window" if is_window(nest, loop.position) else "reduction"
    weights, data = _operands(nest)
    if not _indexed(weights, loop.position):
        return "batch" if is_batch(nest, loop) else "spatial"
    return "group" if _indexed(data, loop.position) else "output"


def loops_of(nest: Nest, *roles: Role) -> list[Loop]:
    """The iterators of a nest that play one of the roles, outermost first."""
    return [loop for loop in nest.loops if role_of(nest, loop) in roles]


def channels(nest: Nest) -> list[Loop]:
    """The iterators over channels, output and input ones; a group is one where there are no others (depthwise)."""
    return loops_of(nest, "output", "reduction") or loops_of(nest, "group")


def has_channels(access: Access) -> bool:
    """Whether what is accessed has an axis of channels, as an activation has."""
    return len(access.exprs) > CHANNEL_AXIS


def channel_loops(access: Access) -> frozenset[int]:
    """Positions of the iterators that index an activation's channels."""
    return used_dims(access.exprs[CHANNEL_AXIS])


def is_grid(nest: Nest, loop: Loop) -> bool:
    """Whether a loop runs over points of a contraction's result that share all parameters.

    A contraction is a nest with a reduction that reads a parameter; the loop indexes its result and no parameter.
    """
    if is_reduction(nest, loop.position) or not reduction_loops(nest):
        return False
    parameters = [access for access in nest.loads if marks.parameter_name(access.memref) is not None]
    return bool(parameters) and not any(loop.position in access.dims for access in parameters)


def is_batch(nest: Nest, loop: Loop) -> bool:
    """Whether a loop runs over samples."""
    return any(s.exprs and loop.position in used_dims(s.exprs[BATCH_AXIS]) for s in nest.stores)


def is_reduction(nest: Nest, position: int) -> bool:
    """Whether no store of the nest is indexed by the loop."""
    return all(position not in store.dims for store in nest.stores)


def reduction_loops(nest: Nest) -> list[Loop]:
    """The loops that index no store of the nest, outermost first."""
    return [loop for loop in nest.loops if is_reduction(nest, loop.position)]


def indexes_parameter(nest: Nest, position: int) -> bool:
    """Whether the loop indexes a parameter that the nest reads."""
    return any(marks.parameter_name(a.memref) is not None and position in a.dims for a in nest.loads)


def is_sliced(nest: Nest, loop: Loop) -> bool:
    """Whether a loop reads a part of its input where it gets shorter: a reduction that indexes a parameter."""
    return is_reduction(nest, loop.position) and indexes_parameter(nest, loop.position)


def is_window(nest: Nest, position: int) -> bool:
    """Whether the loop runs over a window: a reduction that moves along an axis of an activation together with an
    output iterator that picks no weights (`oh + kh`, but not the `g * 16 + ci` of a group)."""
    if not is_reduction(nest, position):
        return False
    shared = {
        other
        for load in nest.loads
        if marks.parameter_name(load.memref) is None
        for dims in map(used_dims, load.exprs)
        if position in dims
        for other in dims - {position}
    }
    return any(not is_reduction(nest, p) and not indexes_parameter(nest, p) for p in shared)


def accumulates(nest: Nest) -> bool:
    """Whether the nest, perfect and rectangular, reads what it stores."""
    if not nest.is_perfect or not nest.is_rectangular or nest.is_vectorised or len(nest.stores) != 1:
        return False
    return any(load.memref == nest.stores[0].memref for load in nest.loads)


def _operands(nest: Nest) -> tuple[list[Access], list[Access]]:
    """What a nest reads, its own results left out: parameters, and data that depends on the sample."""
    stored = {store.memref for store in nest.stores}
    loads = [load for load in nest.loads if load.memref not in stored]
    weights = [load for load in loads if marks.parameter_name(load.memref) is not None]
    if not weights:
        samples = [loop.position for loop in nest.loops if is_batch(nest, loop)]
        weights = [load for load in loads if not any(_indexed([load], p) for p in samples)]
    return weights, [load for load in loads if load not in weights]


def _indexed(accesses: list[Access], position: int) -> bool:
    return any(position in used_dims(e) for access in accesses for e in access.exprs)
