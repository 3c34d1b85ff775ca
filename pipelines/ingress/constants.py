"""Tensors that a graph makes out of numbers alone (position grids, index tables, masks), computed once, by PyTorch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx

from loopmorph.pipelines.ingress.fills import full_before, uniform_number

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
    for node in [n for n in values if any(user not in values for user in n.users)]:
        value = values[node]
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            continue
        number = uniform_number(value)
        new = _argument(graph, node, taken, lifted) if number is None else full_before(graph, node, number)
        if number is None:
            lifted[new.name] = value.contiguous()
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user not in values)
    graph.eliminate_dead_code()
    return lifted


def _argument(graph: fx.Graph, node: fx.Node, taken: Collection[str], lifted: Collection[str]) -> fx.Node:
    """A new placeholder, behind the others, in the place of a node."""
    name = _free_name(taken, lifted)
    others = graph.find_nodes(op="placeholder")
    first = next(iter(graph.nodes))
    with graph.inserting_after(others[-1]) if others else graph.inserting_before(first):
        new = graph.placeholder(name)
    new.name, new.meta = name, dict(node.meta)
    return new


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


def _free_name(taken: Collection[str], lifted: Collection[str]) -> str:
    number = len(lifted)
    while (name := f"{_PREFIX}_{number}") in taken or name in lifted:
        number += 1
    return name
