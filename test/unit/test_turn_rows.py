"""Products over tokens: results are laid out along the rows of what they read; the values stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.layout.turn_rows import TurnRows
from loopmorph.passes.lowering.print_slow_code import slow_nests
from loopmorph.passes.lowering.to_llvm import plan_functions
from loopmorph.passes.target.target import GENERIC, named_target
from loopmorph.pipelines.network import copy_module


class TokenMixer(nn.Module):
    """A mixer's block over tokens, of which 7 fill no vector: `x + fc2(gelu(fc1(x^T)))^T`, `x` is (N, 7, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.fc1, self.fc2 = nn.Linear(7, 12), nn.Linear(12, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.fc2(nn.functional.gelu(self.fc1(self.norm(x).transpose(1, 2))))
        return x + mixed.transpose(1, 2)


@pytest.fixture(scope="module")
def program() -> lm.Program:
    torch.manual_seed(0)
    return lm.import_model(TokenMixer().eval(), (torch.randn(1, 7, 32),))


def test_the_values_stay(program: lm.Program) -> None:
    lm.compile(program, check=True)


def test_products_over_tokens_run_as_vectors_of_channels(program: lm.Program) -> None:
    target = named_target(GENERIC)
    module = copy_module(program.module)
    plan_functions(module, target)
    assert not [slow for slow in slow_nests(module.operation, target.lanes) if slow.layer in ("fc1", "fc2")]


@pytest.mark.parametrize("width", [1, 0])
def test_a_vector_has_two_lanes(width: int) -> None:
    with pytest.raises(ArgumentError, match=r"expected at least 2 lanes in a vector, got"):
        TurnRows(width)
