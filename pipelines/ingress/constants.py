"""Tensors that a graph makes out of numbers alone (position grids, index tables, masks), computed once, by PyTorch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import fx

_aten = torch.ops.aten
_PREFIX = "constant"


def lift_constants(graph: fx.Graph, taken: Collection[str]) -> dict[str, torch.Tensor]:
    """Replaces what depends on no argument by new arguments, so that the program itself holds no tables.

    A tensor that holds one number throughout becomes `aten.full`, which costs no memory. Random numbers and
    operations with effects stay as they are.

    Args:
        graph: the graph in core operations; it is changed in place. New placeholders stand after the others.
        taken: names that the new arguments may not have.

    Returns:
        The new arguments' tensors by name, in the order of their placeholders.
    """
    values = _evaluate(graph)
    lifted: dict[str, torch.Tensor] = {}
    last = _last_placeholder(graph)
    for node in [n for n in values if any(user not in values for user in n.users)]:
        value = values[node]
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            continue
        value = value.contiguous()
        with graph.inserting_before(node) if _is_uniform(value) else _after(graph, last):
            if _is_uniform(value):
                new = _full(graph, value)
            else:
                name = _free_name(taken, lifted)
                new = last = graph.placeholder(name)
                new.name, lifted[name] = name, value
        new.meta = {**node.meta, "val": node.meta["val"]}
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user not in values)
    graph.eliminate_dead_code()
    return lifted


def _evaluate(graph: fx.Graph) -> dict[fx.Node, Any]:
    """What the nodes that depend on no argument compute."""
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in graph.nodes:
            if node.op == "call_function" and _is_pure(node.target) and all(n in values for n in node.all_input_nodes):
                args = fx.map_arg(node.args, values.__getitem__)
                values[node] = node.target(*args, **fx.map_arg(node.kwargs, values.__getitem__))
    return values


def _is_pure(target: Callable[..., Any] | str) -> bool:
    if target is operator.getitem:
        return True
    if not isinstance(target, torch._ops.OpOverload) or target.namespace not in ("aten", "prims"):
        return False
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


def _is_uniform(value: torch.Tensor) -> bool:
    """Whether all elements are the same number, or there are none."""
    if value.numel() == 0:
        return True
    first = value.flatten()[0]
    return bool((value == first).all()) or bool(value.isnan().all())


def _full(graph: fx.Graph, value: torch.Tensor) -> fx.Node:
    number = value.flatten()[0].item() if value.numel() else 0
    options: dict[str, Any] = {
        "dtype": value.dtype,
        "layout": value.layout,
        "device": value.device,
        "pin_memory": False,
    }
    return graph.call_function(_aten.full.default, (list(value.shape), number), options)


def _last_placeholder(graph: fx.Graph) -> fx.Node | None:
    nodes: Iterator[fx.Node] = reversed(list(graph.find_nodes(op="placeholder")))
    return next(nodes, None)


def _after(graph: fx.Graph, node: fx.Node | None) -> Any:
    return graph.inserting_after(node) if node is not None else graph.inserting_before(next(iter(graph.nodes)))


def _free_name(taken: Collection[str], lifted: Collection[str]) -> str:
    number = len(lifted)
    while (name := f"{_PREFIX}_{number}") in taken or name in lifted:
        number += 1
    return name
