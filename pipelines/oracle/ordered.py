"""Channel orders for the groups of a network: `morph-permute` in front of them, so that they keep more of what it says.

A `morph-group` ties the channels that lie side by side. Which those are is free where a dimension is internal to the
network (see `loopmorph.passes.neural.permute`), and what each choice will leave to least-squares repair follows from
the second moments of what the layers read in the original (see `channel_order`). The permutations keep what the network
computes; they are steps like others, so a schedule or a `.mlir` file carries them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch

from loopmorph.passes.address import Address, find_nest
from loopmorph.passes.analysis.roles import is_grid, is_reduction
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import Step, layer_of
from loopmorph.passes.marks import parameter_name
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.neural.group import Group
from loopmorph.passes.neural.permute import Permute
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.channel_order import GroupedLayer, order_channels
from loopmorph.pipelines.oracle.kept_channels import indexed_axes, inherited_indices
from loopmorph.pipelines.oracle.read_moments import ReadMoments, read_moments
from loopmorph.pipelines.support.progress import Progress, silent

NetworkT = TypeVar("NetworkT", bound=Network)
_ROWS = 4  # for each unknown: groups have a part of a dense layer's unknowns each, so that this is many of theirs
_Axis = tuple[str, int]  # a parameter's name, and the number of its axis


@dataclass(frozen=True)
class OrderedLayer:
    """A grouped layer: the error that repair leaves, relative to the mean square of its outputs, as is and ordered."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Ordered(Generic[NetworkT]):
    """A network with channel orders.

    Attributes:
        program: the network; the one that was given where no order is better.
        layers: what its grouped layers win, as far as they could be judged.
    """

    program: NetworkT
    layers: tuple[OrderedLayer, ...] = ()


def with_channel_orders(
    original: NetworkT, program: NetworkT, inputs: Sequence[torch.Tensor], tell: Progress = silent
) -> Ordered[NetworkT]:
    """Orders the channels of the layers that a network's steps group, before the first of them does.

    Left as they are: dimensions that are tied to the network's inputs or outputs, or that other steps after the first
    group change or read in order; layers whose moments cannot be had (see `read_moments`); groups of anything but an
    output channel and an input channel of a dense layer.

    Args:
        original: the network as imported.
        program: what its recorded steps make of that.
        inputs: the original's inputs, as a batch of any size; unlabelled.
        tell: told of what goes on.

    Raises:
        ArgumentError: the network fails on the inputs.
    """
    steps = program.history
    first = next((k for k, step in enumerate(steps) if isinstance(step, Group) and len(step.iters) == 2), None)
    if first is None:
        return Ordered(program)
    current = original.after(steps[:first])
    plan = _Plan.of(current, steps[first:])
    wanted = {current.sources[layer.parameter] or "" for layer in plan.layers}
    by_source = {current.sources[layer.parameter]: layer for layer in plan.layers}
    layers = list[GroupedLayer]()
    known = list[_Grouped]()
    for moments in read_moments(original, wanted, inputs, tell, _ROWS):
        layer = by_source[moments.parameter]
        grouped = _grouped_layer(current, layer, moments)
        if grouped is not None:
            layers.append(grouped)
            known.append(layer)
    names = {name for layer in known for name in (layer.inputs, layer.outputs)}
    fixed = {*plan.fixed, *(n for layer in plan.layers if layer not in known for n in (layer.inputs, layer.outputs))}
    if names <= fixed:
        return Ordered(program)
    found = order_channels(layers, fixed & names, tell)
    permutes = [
        Permute(*plan.dimensions[name].start, order)
        for name, order in found.orders.items()
        if order != tuple(range(len(order)))
    ]
    told = tuple(map(OrderedLayer, (layer.step.layer for layer in known), found.before, found.after))
    if not permutes:
        return Ordered(program, told)
    return Ordered(original.after([*steps[:first], *permutes, *steps[first:]]), told)


@dataclass(frozen=True)
class _Grouped:
    """A layer that is to be grouped: its step, its weight with the axes of its channels, and its dimensions."""

    step: Group
    parameter: str
    axes: tuple[int, int]
    outputs: str
    inputs: str


@dataclass(frozen=True, eq=False)
class _Dimension:
    """Where a dimension was met first, and the axes of parameters that are permuted with it, with the reverse order."""

    start: tuple[str, str]
    extent: int
    axes: dict[_Axis, np.ndarray]


@dataclass(eq=False)
class _Plan:
    """The layers that are to be grouped, and the dimensions of their channels.

    Attributes:
        program: the network before the first group.
        layers: those that can be ordered.
        dimensions: by name.
        fixed: the names of those that keep their order.
    """

    program: Network
    layers: list[_Grouped] = field(default_factory=list)
    dimensions: dict[str, _Dimension] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)

    @staticmethod
    def of(program: Network, steps: Sequence[Step]) -> _Plan:
        """From the steps that are still to come."""
        plan = _Plan(program)
        neural = [step for step in steps if step.kind == "neural"]
        layers = [layer_of(step) for step in neural]
        others = list[Step]()
        for step in neural:
            grouped = plan._grouped(step) if layers.count(layer_of(step)) == 1 else None
            if grouped is None:
                others.append(step)
            else:
                plan.layers.append(grouped)
        touched = {axis for step in others for axis in _touched(program, step)}
        plan.fixed |= {name for name, each in plan.dimensions.items() if touched & set(each.axes)}
        return plan

    def _grouped(self, step: Step) -> _Grouped | None:
        if not isinstance(step, Group) or len(step.iters) != 2:
            return None
        try:
            with self.program.module.context:
                nest = find_nest(self.program.module.operation, step.layer)
                reads = is_reduction(nest, nest.loop(step.iters[1]).position)
        except ArgumentError:  # an address that later steps make
            return None
        sides = [dict(indexed_axes(self.program, step.layer, iterator)) for iterator in step.iters]
        shared = [name for name in sides[0] if name in sides[1]]
        if not reads or len(shared) != 1 or self.program.sources[shared[0]] is None:
            return None
        axes = sides[0][shared[0]], sides[1][shared[0]]
        outputs, inputs = (
            self._dimension((step.layer, iterator), (shared[0], axis))
            for iterator, axis in zip(step.iters, axes, strict=True)
        )
        return _Grouped(step, shared[0], axes, outputs, inputs)

    def _dimension(self, start: tuple[str, str], axis: _Axis) -> str:
        """The name of the dimension of an iterator, which indexes an axis of a parameter."""
        with self.program.module.context:
            extent = find_nest(self.program.module.operation, start[0]).loop(start[1]).extent or 0
        name, order = "/".join(start), np.arange(extent)[::-1]
        for other, each in self.dimensions.items():
            if axis in each.axes:
                if np.array_equal(each.axes[axis], order):
                    return other
                self.fixed |= {other, name}
        found = self._permuted(Permute(*start, tuple(order.tolist())))
        if found is None:
            self.fixed.add(name)
        self.dimensions[name] = _Dimension(start, extent, found or {})
        return name

    def _permuted(self, step: Permute) -> dict[_Axis, np.ndarray] | None:
        """The axes of parameters that a permutation concerns; None where it is not legal."""
        operation = self.program.module.operation
        try:
            with operation.context:
                orders = step.analyze(operation).orders
                named = {parameter_name(memref) or "": axes for memref, axes in orders.items()}
        except IllegalTransform:
            return None
        return {
            (name, axis): order
            for name, axes in named.items()
            for axis, order in enumerate(axes)
            if not np.array_equal(order, np.arange(len(order)))
        }


def _touched(program: Network, step: Step) -> Iterator[_Axis]:
    """The axes of parameters whose order a step may depend on."""
    layer = layer_of(step)
    if layer is None:
        return
    name = Address.parse(layer).layer
    nests = [nest for nest in program.nests if nest.layer == name]
    with program.module.context:
        if isinstance(step, Bottleneck) and any(
            step.iter in n.iterators and is_grid(n, n.loop(step.iter)) for n in nests
        ):
            return
        for nest in nests:
            for access in nest.accesses:
                parameter = parameter_name(access.memref)
                if parameter is not None:
                    yield from ((parameter, axis) for axis in range(len(access.exprs)))


def _grouped_layer(program: Network, layer: _Grouped, moments: ReadMoments) -> GroupedLayer | None:
    """The layer as it is before the first group: of the original's channels those that are left, in their order."""
    kept = [inherited_indices(program, layer.parameter, axis) for axis in layer.axes]
    if len(moments.gram) != 1 or kept[0] is None or kept[1] is None:
        return None
    outputs = np.argsort(moments.index[layer.axes[0]][0, 0])[kept[0]]
    channels = moments.index[layer.axes[1]][0, :, 0]
    count = int(channels.max()) + 1
    if len(channels) % count:
        return None
    rows = np.argsort(channels, kind="stable").reshape(count, -1)[kept[1]].ravel()
    weight = moments.weight[0][np.ix_(rows, outputs)].T.reshape(len(outputs), len(kept[1]), -1)
    gram = moments.gram[0][np.ix_(rows, rows)].astype(np.float32)
    return GroupedLayer(gram, weight, layer.step.factor, layer.inputs, layer.outputs)
