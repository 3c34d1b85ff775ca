"""Tensors without elements leave the graph: torch-mlir's passes divide by their sizes, which ends the process.

A value without elements is known: it becomes `aten.full` of its shape. So is what is computed of nothing but such
values: a sum is 0, a mean NaN, a product 1; PyTorch itself says what. Of what remains, a concatenation drops its empty
parts, and what would be written from an empty source stays as it is.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_map

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.fills import full_before, uniform_number
from loopmorph.pipelines.ingress.place import operator_at, operator_name
from loopmorph.pipelines.ingress.refusal import ADVICE

# The result is the first operand where nothing is written to it, since another operand has no elements.
_WRITES = frozenset(
    {
        "index_add",
        "index_copy",
        "index_fill",
        "index_put",
        "masked_scatter",
        "scatter",
        "scatter_add",
        "scatter_reduce",
        "select_scatter",
        "slice_scatter",
    }
)
_JOINS = frozenset({"cat", "concat", "concatenate"})


def without_empty_values(graph: fx.Graph) -> None:
    """Replaces, in place, what is known of values without elements; a graph that has none is left as it is.

    Values whose meaning depends on other operands as well stay (see `refuse_empty_operands`).
    """
    nodes = [node for node in graph.nodes if node.op == "call_function"]
    touched = [node for node in nodes if _is_empty(_value(node)) or any(map(_is_empty_node, node.all_input_nodes))]
    for node in touched:
        new = _replacement(graph, node)
        if new is not None and new is not node:
            node.replace_all_uses_with(new)
    if touched:
        graph.eliminate_dead_code()


def refuse_empty_operands(graph: fx.Graph) -> None:
    """Raises:
    ImportRefused: an operation that still has an operand without elements; names it, the shape and the module.
    """
    for node in graph.nodes:
        operands = [each for each in node.all_input_nodes if _is_empty_node(each)]
        if node.op == "call_function" and operands:
            shape = tuple(_value(operands[0]).shape)
            reason = f"an operand of shape {shape}, without elements, is not supported there"
            raise ImportRefused(f"{operator_at(node)}: {reason}. {ADVICE}")


def _replacement(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    value = _value(node)
    if _is_empty(value):
        _require_shape(node)
        return _full(graph, node, 0)
    known = _known_value(node) if isinstance(value, torch.Tensor) else None
    if known is not None:
        return _full(graph, node, known)
    name = operator_name(node)
    if name in _WRITES and isinstance(node.args[0], fx.Node):
        return node.args[0]
    return _joined(graph, node) if name in _JOINS else None


def _require_shape(node: fx.Node) -> None:
    """Raises:
    ImportRefused: PyTorch exports another shape than it computes (`pixel_unshuffle`).
    """
    result, exported = _evaluated(node), tuple(_value(node).shape)
    if result is not None and tuple(result.shape) != exported:
        reason = f"PyTorch computes shape {tuple(result.shape)} and exports shape {exported}"
        raise ImportRefused(f"{operator_at(node)}: of an operand without elements {reason}. {ADVICE}")


def _joined(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    """A concatenation without its empty parts; None where what is left has another type."""
    arguments: tuple[Any, ...] = node.args
    parts, *rest = arguments
    kept: list[fx.Node] = [part for part in parts if not _is_empty_node(part)]
    if {_value(part).dtype for part in kept} != {_value(node).dtype}:
        return None
    if len(kept) == 1:
        return kept[0]
    node.args = (kept, *rest)
    return node


def _full(graph: fx.Graph, node: fx.Node, number: float | bool) -> fx.Node:
    return node if node.target is torch.ops.aten.full.default else full_before(graph, node, number)


def _known_value(node: fx.Node) -> float | bool | None:
    """The one number that all elements of a value have which is computed of values without elements alone."""
    result = _evaluated(node)
    if result is None or result.is_complex() or not result.numel():
        return None
    return uniform_number(result)


def _evaluated(node: fx.Node) -> torch.Tensor | None:
    """What PyTorch computes for a node of values without elements alone; None where it has other operands."""
    source, element = node, None
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        source, element = node.args[0], node.args[1]
    if not source.all_input_nodes or not all(map(_is_empty_node, source.all_input_nodes)):
        return None
    if not callable(source.target):
        return None
    args, kwargs = tree_map(_concrete, (source.args, source.kwargs))
    with torch.no_grad():
        result = source.target(*args, **kwargs)
    result = result if element is None else result[element]
    return result if isinstance(result, torch.Tensor) else None


def _concrete(argument: Any) -> Any:
    if not isinstance(argument, fx.Node):
        return argument
    value = _value(argument)
    return torch.empty(tuple(value.shape), dtype=value.dtype)


def _value(node: fx.Node) -> Any:
    return node.meta.get("val")


def _is_empty_node(node: object) -> bool:
    return isinstance(node, fx.Node) and _is_empty(_value(node))


def _is_empty(value: object) -> bool:
    """Whether a value is a tensor without elements."""
    return isinstance(value, torch.Tensor) and any(type(extent) is int and extent == 0 for extent in value.shape)
