"""Decomposing with kept entries for composite operations gives what PyTorch gives, and leaves its tables alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from agreement import Of
from torch._subclasses import fake_impls

from loopmorph.pipelines.ingress.composites import run_decompositions
from loopmorph.pipelines.ingress.decompositions import decomposition_table

aten = torch.ops.aten
COMPOSITES = (aten.linear, aten.conv2d, aten.pad, aten.layer_norm, aten.silu, aten.upsample_nearest2d)


def entries() -> list[dict[Any, Any]]:
    """What PyTorch's tables hold of some operations, and how fake tensors compute any."""
    operations = [getattr(packet, overload) for packet in COMPOSITES for overload in packet.overloads()]
    return [dict(fake_impls.op_implementations_dict), *(dict(operation.py_kernels) for operation in operations)]


def exported(function: Callable[..., Any]) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(Of(function), (torch.randn(1, 2, 4, 4),), strict=False)


def resized(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(F.layer_norm(x, (4, 4)), scale_factor=2)


def padded(x: torch.Tensor) -> torch.Tensor:
    return F.silu(F.linear(F.pad(x, (1, 1, 0, 0), mode="reflect"), torch.ones(3, 6)))


@pytest.mark.parametrize("function", [resized, padded])
def test_the_graph_is_the_one_that_pytorch_makes(function: Callable[..., Any]) -> None:
    with torch.no_grad():
        expected = exported(function).run_decompositions(decomposition_table())
        before = entries()
        first, again = (run_decompositions(exported(function)) for _ in range(2))
        assert entries() == before
        others = exported(function).run_decompositions(decomposition_table())
    assert str(first.graph) == str(again.graph) == str(others.graph) == str(expected.graph)


def test_what_a_trace_raises_leaves_no_entry() -> None:
    program = exported(padded)
    run_decompositions(program)
    before = entries()
    next(node for node in program.graph.nodes if node.target is aten.pad.default).args = ()
    with pytest.raises(Exception, match="pad"):
        run_decompositions(program)
    assert entries() == before
