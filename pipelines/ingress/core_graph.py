"""The exported graph of a usual convolutional network in core operations, without tracing it a second time.

`ExportedProgram.run_decompositions` runs the whole graph again, which takes longer than the rest of the import. The
layers that most networks are made of decompose in a way that is known beforehand; a graph of nothing else is rewritten
here, node by node, into just the graph that the second trace gives, names included, but for the numbers in them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import fx

_aten = torch.ops.aten
_Arguments: TypeAlias = Sequence[Any]
_Rule: TypeAlias = "Callable[[_Rewriting, fx.Node, _Arguments], fx.Node]"


def core_graph(exported: torch.export.ExportedProgram) -> fx.Graph | None:
    """The exported graph in core operations, BatchNorm as `x * scale + shift`.

    Returns:
        None where a node is not known here; `run_decompositions` has to be used then.
    """
    rewriting = _Rewriting()
    try:
        for node in exported.graph.nodes:
            rewriting.add(node)
    except _Unknown:
        return None
    rewriting.graph.eliminate_dead_code()
    return rewriting.graph


class _Unknown(Exception):
    """A node that is not known here."""


class _Rewriting:
    """The new graph, as far as it has come.

    Attributes:
        graph: the new graph.
    """

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self._new: dict[fx.Node, fx.Node] = {}
        self._views: dict[tuple[Any, ...], torch.Tensor] = {}

    def add(self, node: fx.Node) -> None:
        """Adds what a node of the exported graph becomes.

        Raises:
            _Unknown: that is not known.
        """
        if node.op == "call_function":
            rule = _RULES.get(node.target)
            if rule is None or node.kwargs or not isinstance(node.meta.get("val"), torch.Tensor):
                raise _Unknown
            self._new[node] = rule(self, node, fx.map_arg(node.args, self._new.__getitem__))
        elif node.op in ("placeholder", "output"):
            self._new[node] = self.graph.node_copy(node, self._new.__getitem__)
        else:
            raise _Unknown

    def call(self, node: fx.Node, target: Callable[..., Any], *args: Any, val: Any = None) -> fx.Node:
        """A call with the place in the network that `node` has, and its value's type unless `val` gives another."""
        name = target.overloadpacket.__name__ if isinstance(target, torch._ops.OpOverload) else target.__name__
        new = self.graph.create_node("call_function", target, args, name=self.graph._target_to_str(name))
        new.meta = {**node.meta, "val": node.meta["val"] if val is None else val}
        new.meta.pop("tensor_meta", None)  # says the same of the old value
        return new

    def channels_as(self, vector: torch.Tensor, rank: int) -> torch.Tensor:
        """A vector's value as that of its view along axis 1 of so many axes."""
        key = (vector.shape, vector.dtype, vector.device, rank)
        if key not in self._views:
            self._views[key] = vector.view([1, -1] + [1] * (rank - 2))
        return self._views[key]


def _same(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    target: Any = node.target
    return rewriting.call(node, target, *args)


def _in_place(target: Callable[..., Any]) -> _Rule:
    """An operation that overwrites its first operand, which nothing else may read."""

    def rule(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
        (overwritten, *_) = node.all_input_nodes
        if len(overwritten.users) > 1 or overwritten.target not in _FRESH:
            raise _Unknown
        return rewriting.call(node, target, *args)

    return rule


def _convolution(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    defaults: list[Any] = [None, None, None, [1, 1], [0, 0], [1, 1], 1]
    x, weight, bias, stride, padding, dilation, groups = [*args, *defaults[len(args) :]]
    if node.meta["val"].dim() != 4 or any(len(each) != 2 for each in (stride, padding, dilation)):
        raise _Unknown
    rest = (stride, padding, dilation, False, [0, 0], groups)
    return rewriting.call(node, _aten.convolution.default, x, weight, bias, *rest)


def _batch_norm(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    x, weight, bias, mean, variance, training, _, epsilon, _ = args
    if training or mean is None or variance is None:
        raise _Unknown
    vectors = [each for each in (weight, bias, mean, variance) if each is not None]
    if len({each.meta["val"].dtype for each in (x, *vectors)}) != 1 or not x.meta["val"].is_floating_point():
        raise _Unknown
    vector, rank = mean.meta["val"], x.meta["val"].dim()

    def of_vectors(target: Callable[..., Any], *operands: Any) -> fx.Node:
        return rewriting.call(node, target, *operands, val=vector)

    def view(value: fx.Node) -> fx.Node:
        shape = [1, -1] + [1] * (rank - 2)
        return rewriting.call(node, _aten.view.default, value, shape, val=rewriting.channels_as(vector, rank))

    inverse = of_vectors(_aten.rsqrt.default, of_vectors(_aten.add.Tensor, variance, epsilon))
    scale = inverse if weight is None else of_vectors(_aten.mul.Tensor, weight, inverse)
    if bias is None:
        shift = of_vectors(_aten.mul.Tensor, of_vectors(_aten.neg.default, mean), scale)
    else:
        shift = of_vectors(_aten.sub.Tensor, bias, of_vectors(_aten.mul.Tensor, mean, scale))
    scaled = rewriting.call(node, _aten.mul.Tensor, x, view(scale))
    return rewriting.call(node, _aten.add.Tensor, scaled, view(shift))


def _relu6(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    return rewriting.call(node, _aten.hardtanh.default, args[0], 0, 6)


def _max_pool(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    value = node.meta["val"]
    if value.dim() != 4:
        raise _Unknown
    indices = value.to(torch.int64)
    both = rewriting.call(node, _aten.max_pool2d_with_indices.default, *args, val=(value, indices))
    result = rewriting.call(node, operator.getitem, both, 0)
    rewriting.call(node, operator.getitem, both, 1, val=indices)  # goes away, but has taken its name
    return result


def _mean_pool(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    x, size = args
    if list(size) != [1, 1] or node.meta["val"].dim() != 4:
        raise _Unknown
    return rewriting.call(node, _aten.mean.dim, x, [-1, -2], True)


def _flatten(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    value = args[0].meta["val"]
    if not value.is_contiguous() or value.shape == node.meta["val"].shape:
        raise _Unknown
    return rewriting.call(node, _aten.view.default, args[0], list(node.meta["val"].shape))


def _linear(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    x, weight, bias = (*args, None)[:3]
    if x.meta["val"].dim() != 2 or not x.meta["val"].is_floating_point():
        raise _Unknown
    columns = rewriting.call(node, _aten.permute.default, weight, [1, 0], val=weight.meta["val"].permute([1, 0]))
    product = rewriting.call(node, _aten.mm.default, x, columns)
    if bias is None:
        return product
    product = rewriting.call(node, _aten.mul.Tensor, product, 1)
    return rewriting.call(
        node,
        _aten.add.Tensor,
        product,
        rewriting.call(node, _aten.mul.Tensor, bias, 1, val=bias.meta["val"]),
    )


def _dropout(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    x, _, training = args
    if training:
        raise _Unknown
    return rewriting.call(node, _aten.clone.default, x)


_RULES: dict[Any, _Rule] = {
    _aten.add.Tensor: _same,
    _aten.add_.Tensor: _in_place(_aten.add.Tensor),
    _aten.adaptive_avg_pool2d.default: _mean_pool,
    _aten.avg_pool2d.default: _same,
    _aten.batch_norm.default: _batch_norm,
    _aten.cat.default: _same,
    _aten.conv2d.default: _convolution,
    _aten.dropout.default: _dropout,
    _aten.flatten.using_ints: _flatten,
    _aten.linear.default: _linear,
    _aten.max_pool2d.default: _max_pool,
    _aten.mul.Tensor: _same,
    _aten.relu.default: _same,
    _aten.relu6.default: _relu6,
    _aten.relu_.default: _in_place(_aten.relu.default),
    _aten.sigmoid.default: _same,
}
# The results of these are memory of their own, which no other tensor shares.
_FRESH = frozenset(_RULES) - {_aten.flatten.using_ints, _aten.dropout.default}
