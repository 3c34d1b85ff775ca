"""The exported graph of a usual convolutional network in core operations, without tracing it a second time.

`ExportedProgram.run_decompositions` runs the whole graph again, which takes longer than the rest of the import. The
layers that most networks are made of decompose in a way that is known beforehand; a graph of nothing else is rewritten
here, node by node, into just the graph that the second trace gives, names included, but for the numbers in them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx
from torch.utils import _pytree as pytree

_aten = torch.ops.aten
_Arguments: TypeAlias = Sequence[Any]
_Rule: TypeAlias = "Callable[[_Rewriting, fx.Node, _Arguments], fx.Node | _View]"
_Computing: TypeAlias = "Callable[[_Rewriting, fx.Node, _Arguments], fx.Node]"


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


@dataclass
class _View:
    """A view of what has been overwritten in place: a trace makes it where it is first used, not where it stands.

    Attributes:
        base: the whole.
        steps: the operations that lead from there to the view, with their arguments after the first and their values.
        made: the view, once it is used.
    """

    base: fx.Node
    steps: tuple[tuple[Callable[..., Any], _Arguments, Any], ...]
    made: fx.Node | None = None

    @property
    def meta(self) -> dict[str, Any]:
        """As of a node."""
        return {"val": self.steps[-1][2]}


class _Rewriting:
    """The new graph, as far as it has come.

    Attributes:
        graph: the new graph.
        overwritten: its values that have been computed in place of others.
    """

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.overwritten: set[fx.Node] = set()
        self._new: dict[fx.Node, fx.Node | _View] = {}
        self._vectors: dict[tuple[Any, ...], torch.Tensor] = {}

    def add(self, node: fx.Node) -> None:
        """Adds what a node of the exported graph becomes.

        Raises:
            _Unknown: that is not known.
        """
        if node.op == "call_function":
            rule = _RULES.get(node.target)
            if rule is None or node.kwargs or not _is_of_tensors(node.meta.get("val")):
                raise _Unknown
            self._new[node] = rule(self, node, pytree.tree_map_only(fx.Node, self._new.__getitem__, node.args))
        elif node.op in ("placeholder", "output"):
            self._new[node] = self.graph.node_copy(node, self._plain)
        else:
            raise _Unknown

    def _plain(self, node: fx.Node) -> fx.Node:
        new = self._new[node]
        if isinstance(new, _View):
            raise _Unknown
        return new

    def call(self, node: fx.Node, target: Callable[..., Any], *args: Any, val: Any = None, **kwargs: Any) -> fx.Node:
        """A call with the place in the network that `node` has, and its value's type unless `val` gives another."""
        given = pytree.tree_map_only(_View, lambda view: self._made(node, view), args)
        name = target.overloadpacket.__name__ if isinstance(target, torch._ops.OpOverload) else target.__name__
        new = self.graph.create_node("call_function", target, given, kwargs, name=self.graph._target_to_str(name))
        new.meta = {**node.meta, "val": node.meta["val"] if val is None else val}
        new.meta.pop("tensor_meta", None)  # says the same of the old value
        return new

    def view(self, node: fx.Node, target: Callable[..., Any], source: fx.Node | _View, *args: Any) -> fx.Node | _View:
        """A call that gives a view of `source`, or the parts of it."""
        step = (target, args, node.meta["val"])
        if isinstance(source, _View):
            return _View(source.base, (*source.steps, step))
        if source in self.overwritten:
            return _View(source, (step,))
        return self.call(node, target, source, *args)

    def _made(self, user: fx.Node, view: _View) -> fx.Node:
        """A view where it is used."""
        if view.made is None:
            view.made = view.base
            for target, args, val in view.steps:
                view.made = self.call(user, target, view.made, *args, val=val)
        return view.made

    def channels_as(self, vector: torch.Tensor, rank: int) -> torch.Tensor:
        """A vector's value as that of its view along axis 1 of so many axes."""
        key = (vector.shape, vector.dtype, vector.device, rank)
        if key not in self._vectors:
            self._vectors[key] = vector.view([1, -1] + [1] * (rank - 2))
        return self._vectors[key]


def _is_of_tensors(value: object) -> bool:
    """Whether a node's value is a tensor, or several."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(each, torch.Tensor) for each in values)


def _same(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    target: Any = node.target
    return rewriting.call(node, target, *args)


def _becomes(target: Callable[..., Any]) -> _Computing:
    """Another operation on the same arguments."""
    return lambda rewriting, node, args: rewriting.call(node, target, *args)


def _in_place(rule: _Computing) -> _Computing:
    """An operation that overwrites its first operand, which nothing else may read; `rule` without that."""

    def checked(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
        (overwritten, *_) = node.all_input_nodes
        if len(overwritten.users) > 1 or overwritten.target not in _FRESH:
            raise _Unknown
        new = rule(rewriting, node, args)
        rewriting.overwritten.add(new)
        return new

    return checked


def _require_exact(node: fx.Node) -> None:
    """PyTorch's rules compute with other types where a value has fewer bits, and promote integers."""
    if node.meta["val"].dtype not in (torch.float32, torch.float64):
        raise _Unknown


def _silu(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    _require_exact(node)
    (x,) = args
    return rewriting.call(node, _aten.mul.Tensor, x, rewriting.call(node, _aten.sigmoid.default, x))


def _relu6_of_3_more(rewriting: _Rewriting, node: fx.Node, x: fx.Node) -> fx.Node:
    """`min(max(x + 3, 0), 6)`."""
    moved = rewriting.call(node, _aten.add.Tensor, x, 3)
    return rewriting.call(node, _aten.clamp.default, rewriting.call(node, _aten.clamp.default, moved, 0), None, 6)


def _hard_sigmoid(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    _require_exact(node)
    return rewriting.call(node, _aten.div.Tensor, _relu6_of_3_more(rewriting, node, args[0]), 6)


def _hard_swish(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    _require_exact(node)
    (x,) = args
    scaled = rewriting.call(node, _aten.mul.Tensor, x, _relu6_of_3_more(rewriting, node, x))
    return rewriting.call(node, _aten.div.Tensor, scaled, 6)


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


def _avg_pool(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    if tuple(args[4:]) != (False, True, None)[: len(args[4:])]:  # rounds up, or divides by something else
        raise _Unknown
    return _same(rewriting, node, args)


def _max_pool(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    value = node.meta["val"]
    if value.dim() != 4 or True in args[5:]:  # rounds up
        raise _Unknown
    x, size, *rest = args
    indices = value.to(torch.int64)
    given = (x, size, *(rest or [size]))
    both = rewriting.call(node, _aten.max_pool2d_with_indices.default, *given, val=(value, indices))
    result = rewriting.call(node, operator.getitem, both, 0)
    rewriting.call(node, operator.getitem, both, 1, val=indices)  # goes away, but has taken its name
    return result


def _mean_pool(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    x, size = args
    if list(size) != [1, 1] or node.meta["val"].dim() != 4:
        raise _Unknown
    return rewriting.call(node, _aten.mean.dim, x, [-1, -2], True)


def _view(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node | _View:
    target: Any = node.target
    return rewriting.view(node, target, *args)


def _alias(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    new = rewriting.view(node, _aten.alias.default, *args)
    if isinstance(new, _View):
        raise _Unknown
    return new


def _split(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node | _View:
    x, _, *axis = args
    (dim,) = axis or [0]
    sizes = [part.shape[dim] for part in node.meta["val"]]
    return rewriting.view(node, _aten.split_with_sizes.default, x, sizes, *axis)


def _repeat_nearest(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node:
    """Nearest interpolation by powers of two, whose places are exact: each element so many times along both axes."""
    x, size, factors = args
    value = x.meta["val"]
    times = [int(factor) for factor in factors or ()]
    exact = all(factor == n >= 2 and n & (n - 1) == 0 for factor, n in zip(factors or (), times, strict=True))
    if size is not None or len(times) != 2 or not exact or not value.is_contiguous() or value.dim() != 4:
        raise _Unknown
    (*lead, height, width), result = value.shape, node.meta["val"]
    narrow = value.view([*lead, height, 1, width, 1])
    wide = narrow.expand([*lead, height, times[0], width, times[1]])
    copied = wide.clone(memory_format=torch.contiguous_format)
    viewed = rewriting.call(node, _aten.view.default, x, list(narrow.shape), val=narrow)
    expanded = rewriting.call(node, _aten.expand.default, viewed, list(wide.shape), val=wide)
    keeping = {"memory_format": torch.contiguous_format}
    clone = rewriting.call(node, _aten.clone.default, expanded, val=copied, **keeping)
    return rewriting.call(
        node, _aten.clone.default, rewriting.call(node, _aten.view.default, clone, list(result.shape))
    )


def _flatten(rewriting: _Rewriting, node: fx.Node, args: _Arguments) -> fx.Node | _View:
    value = args[0].meta["val"]
    if not value.is_contiguous() or value.shape == node.meta["val"].shape:
        raise _Unknown
    return rewriting.view(node, _aten.view.default, args[0], list(node.meta["val"].shape))


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
    _aten.add_.Tensor: _in_place(_becomes(_aten.add.Tensor)),
    _aten.adaptive_avg_pool2d.default: _mean_pool,
    _aten.alias.default: _alias,
    _aten.avg_pool2d.default: _avg_pool,
    _aten.batch_norm.default: _batch_norm,
    _aten.cat.default: _same,
    _aten.conv2d.default: _convolution,
    _aten.dropout.default: _dropout,
    _aten.flatten.using_ints: _flatten,
    _aten.hardsigmoid.default: _hard_sigmoid,
    _aten.hardsigmoid_.default: _in_place(_hard_sigmoid),
    _aten.hardswish.default: _hard_swish,
    _aten.hardswish_.default: _in_place(_hard_swish),
    _aten.hardtanh.default: _same,
    _aten.hardtanh_.default: _in_place(_becomes(_aten.hardtanh.default)),
    _aten.leaky_relu.default: _same,
    _aten.leaky_relu_.default: _in_place(_becomes(_aten.leaky_relu.default)),
    _aten.linear.default: _linear,
    _aten.max_pool2d.default: _max_pool,
    _aten.mean.dim: _same,
    _aten.mul.Tensor: _same,
    _aten.relu.default: _same,
    _aten.relu6.default: _relu6,
    _aten.relu_.default: _in_place(_becomes(_aten.relu.default)),
    _aten.sigmoid.default: _same,
    _aten.silu.default: _silu,
    _aten.silu_.default: _in_place(_silu),
    _aten.slice.Tensor: _view,
    _aten.split.Tensor: _split,
    _aten.upsample_nearest2d.vec: _repeat_nearest,
    operator.getitem: _view,
}
_VIEWS = {
    _aten.alias.default,
    _aten.dropout.default,
    _aten.flatten.using_ints,
    _aten.slice.Tensor,
    _aten.split.Tensor,
    operator.getitem,
}
# The results of these are memory of their own, which no other tensor shares.
_FRESH = frozenset(_RULES) - _VIEWS
