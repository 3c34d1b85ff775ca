"""Tensors of one number throughout: in a graph they are `aten.full`, which holds no table."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx


def uniform_number(value: torch.Tensor) -> float | bool | None:
    """The number that all elements are, its sign included, 0 where there are none; None where they differ."""
    if value.numel() == 0:
        return 0
    first = value.flatten()[0]
    same = bool((value == first).all()) and bool((value.signbit() == first.signbit()).all())
    uniform = same or bool(value.isnan().all())
    return first.item() if uniform else None


def full_before(graph: fx.Graph, node: fx.Node, number: float | bool) -> fx.Node:
    """A node of one number throughout, of a node's shape, type and place in the network, made before that node."""
    value = node.meta["val"]
    options: dict[str, Any] = {"dtype": value.dtype, "device": value.device, "pin_memory": False}
    with graph.inserting_before(node):
        new = graph.call_function(torch.ops.aten.full.default, (list(value.shape), number), options)
    new.meta = dict(node.meta)
    return new
