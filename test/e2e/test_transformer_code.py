"""A transformer's block as fast code: any number of tokens, checked against PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import loopmorph as lm
from loopmorph.passes.history import history
from loopmorph.passes.loop.peel import Peel
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.nest import nests
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.target.target import GENERIC, named_target
from loopmorph.pipelines.zoo.transformer import Block

TOKENS, HEADS, WIDTH, HIDDEN = 53, 2, 32, 48


@pytest.fixture(scope="module")
def block() -> lm.Program:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(TOKENS)
    return lm.import_model(Block(WIDTH, HEADS, HIDDEN).eval(), (torch.randn(1, TOKENS, WIDTH, generator=generator),))


class Rows(nn.Module):
    """One small network on inputs of several numbers of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(24, 48), nn.Tanh(), nn.Linear(48, 16))

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.layers(x) for x in inputs)


def test_a_block_is_right(block: lm.Program) -> None:
    lm.compile(block)  # checks against PyTorch


class Masked(nn.Module):
    """Attention that sees earlier tokens alone, and one with a mask for each sample."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query, key, value = x.reshape(1, -1, 3, HEADS, 16).permute(2, 0, 3, 1, 4).unbind(0)
        causal = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        masked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return causal.transpose(1, 2).flatten(2), masked.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("heads", [8, 16])
def test_as_many_heads_as_vectors_have_lanes(heads: int) -> None:
    """Of several sequences the rows that nothing is seen of are told by heads: truth values, which fill no vector."""

    class Sequences(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            query, key, value = x.reshape(2, -1, 3, heads, 8).permute(2, 0, 3, 1, 4).unbind(0)
            return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    x = torch.randn(2, 20, 3 * heads * 8, generator=torch.Generator().manual_seed(heads))
    lm.compile(Sequences(), (x,))  # checks against PyTorch


@pytest.mark.parametrize("tokens", [20, 32])
def test_masked_attention_is_right(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(1, tokens, 3 * HEADS * 16, generator=generator)
    mask = torch.ones(1, 1, 1, tokens, dtype=torch.bool)
    mask[..., tokens // 2 :] = False
    lm.compile(Masked(), (x, mask))


def test_rows_that_no_block_divides() -> None:
    generator = torch.Generator().manual_seed(0)
    lm.compile(Rows().eval(), tuple(torch.randn(rows, 24, generator=generator) for rows in (5, 49, 50, 197)))


def test_a_rest_of_rows_takes_in_bias_and_activation(block: lm.Program) -> None:
    target = named_target(GENERIC)
    passes = (*layout_passes(target), DefaultSchedule(target=GENERIC))
    program = block.apply(",".join(map(str, passes)))
    with program.module.context:
        rests = {step.layer for step in history(program.module.operation) if isinstance(step, Peel)}
        found = nests(program.module.operation)
    assert {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"} <= rests
    assert not [nest for nest in found if nest.layer == "mlp.act"]


class Windows(nn.Module):
    """Attention within windows of an image of tokens, as a Swin transformer has it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, height, width, features = x.shape
        size = self.size
        x = x.view(1, height // size, size, width // size, size, features).transpose(2, 3).flatten(3, 4)
        split = self.qkv(x.reshape(-1, size * size, features)).reshape(-1, size * size, 3, HEADS, features // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (query @ key.transpose(-2, -1)).softmax(-1)
        return (scores @ value).transpose(1, 2).flatten(2)


def test_attention_in_windows_is_computed_in_vectors() -> None:
    """Where a window and a head begin is no linear function of their number."""
    generator = torch.Generator().manual_seed(3)
    program = lm.import_model(Windows(5).eval(), (torch.randn(1, 10, 15, WIDTH, generator=generator),))
    lm.compile(program)
    module = program.apply("").module
    target = named_target("x86_64_v3")
    for each in layout_passes(target):
        each.run(module.operation)
    DefaultSchedule(target=str(target)).run(module.operation)
    products = [nest for nest in nests(module.operation) if nest.layer.startswith("bmm") and nest.role == "main"]
    assert len(products) == 2 and all(nest.is_vectorised for nest in products)
