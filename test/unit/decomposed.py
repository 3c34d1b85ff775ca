"""A function's operations through the decompositions, run by PyTorch and, where asked, by compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from agreement import Of
from torch.utils import _pytree as pytree

import loopmorph as lm
from loopmorph.pipelines.ingress.composites import run_decompositions


def decomposed(function: Callable[..., Any], *tensors: torch.Tensor) -> tuple[Any, set[str]]:
    """What the exported and decomposed function gives, and the names of its operations."""
    with torch.no_grad():
        program = torch.export.export(Of(function), tensors, strict=False)
        core = run_decompositions(program)
        names = {str(node.target) for node in core.graph.nodes if node.op == "call_function"}
        return core.module()(*tensors), names


def assert_same(actual: Any, expected: Any, *, exact: bool = False) -> None:
    """Compares tensors, or tuples of them: dtypes, shapes, values, NaN and signs of infinity."""
    actual, expected = pytree.tree_leaves(actual), pytree.tree_leaves(expected)
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {}
        torch.testing.assert_close(one, other, equal_nan=True, check_stride=False, **tolerance)


def assert_decomposes(function: Callable[..., Any], *tensors: torch.Tensor, exact: bool = False) -> set[str]:
    """The exported function gives eager's values in core operations, whose names are returned."""
    result, names = decomposed(function, *tensors)
    assert_same(result, function(*tensors), exact=exact)
    return names


def assert_compiles(function: Callable[..., Any], *tensors: torch.Tensor) -> None:
    """`lm.compile` gives eager's values."""
    assert_same(lm.compile(Of(function), tensors)(*tensors), function(*tensors))
