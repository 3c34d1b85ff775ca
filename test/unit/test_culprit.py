"""The operator that torch-mlir has no lowering for is found among those that it has one for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import Of
from torch_mlir import ir
from torch_mlir.dialects import torch as torch_dialect

from loopmorph.pipelines.ingress.culprit import node_without_lowering
from loopmorph.pipelines.ingress.importer import _TO_LINALG


def culprit(function: Callable[[torch.Tensor], torch.Tensor]) -> torch.fx.Node | None:
    exported = torch.export.export(Of(function), (torch.randn(3, 4),)).run_decompositions()
    context = ir.Context()
    torch_dialect.register_dialect(context)
    return node_without_lowering(exported.graph, _TO_LINALG, context)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.special.bessel_j0(x.relu()).exp() + x, "special_bessel_j0"),
        (lambda x: torch.linalg.eigvalsh(x @ x.T + 1), "_linalg_eigh"),
        (lambda x: torch.special.zeta(x, x.amax(1, keepdim=True)), "special_zeta"),
    ],
)
def test_the_first_without_a_lowering(function: Callable[[torch.Tensor], torch.Tensor], name: str) -> None:
    node = culprit(function)
    assert node is not None
    assert node.target.overloadpacket.__name__ == name


def test_none_where_all_are_lowered() -> None:
    assert culprit(lambda x: torch.var_mean(x.relu() @ x.T, 1)[0]) is None
