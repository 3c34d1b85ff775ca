"""Networks from their specifications: the passes make what the published modules compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.bench.space_networks import SpaceRow, read_space, rewritten


class Block(nn.Module):
    def __init__(self, inputs: int = 32, outputs: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(functional.relu(self.conv1(x)))


# Operator of a 32-channel convolution -> weights that it has.
WEIGHTS = {
    "full": 32 * 32 * 9,
    "g2": 32 * 16 * 9,
    "g8": 32 * 4 * 9,
    "dw": 32 * 9,
    "seq1": 16 * 16 * 9 + 16 * 8 * 9,
    "seq2": 16 * 32 * 9 + 16 * 8 * 9,
    "seq3": 2 * 32 * 32 * 9,
    "sp2": 32 * 32 * 9,
    "in2": 32 * 16 * 9,
}


@pytest.fixture(scope="module")
def program() -> lm.Program:
    return lm.import_model(nn.Sequential(Block()).eval(), (torch.zeros(1, 32, 8, 8),))


@pytest.mark.parametrize("operator", WEIGHTS)
def test_an_operator_has_its_weights(program: lm.Program, operator: str) -> None:
    module = rewritten(program, [("full", operator, 1)]).to_module()
    assert sum(p.numel() for p in module.parameters()) == WEIGHTS["full"] + WEIGHTS[operator]


def test_a_bottleneck_comes_before_the_operators(program: lm.Program) -> None:
    module = rewritten(program, [("g4", "dw", 4)]).to_module()
    assert sum(p.numel() for p in module.parameters()) == 8 * 8 * 9 + 32 * 1 * 9


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ([("full", "g", 1)], "'g' is no operator; full, gK, dw, seq1, seq2, seq3, sp2 or in2 is expected"),
        ([("full", "full", 1)] * 2, "it has 2 blocks, the network 1"),
    ],
)
def test_a_wrong_specification_is_refused(
    program: lm.Program, specification: list[tuple[str, str, int]], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        rewritten(program, specification)


def test_rows_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "space.jsonl"
    file.write_text('{"idx": 3, "spec": [["full", "g2", 1]], "acc": 90.5, "kl": 0.25, "epochs": 8}\n')
    (row,) = read_space(file)
    assert row == SpaceRow("3", (("full", "g2", 1),), 90.5, 0.25)
    assert not row.is_original and SpaceRow("0", (("full", "full", 1),), 90.0).is_original


@pytest.mark.parametrize("line", ["no json", "{}", '{"idx": 1, "spec": [["full"]], "acc": 1}', "[" * 100_000])
def test_a_damaged_file_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "space.jsonl"
    file.write_text(line)
    with pytest.raises(DataError, match=r"space.jsonl:1: expected an object with 'idx', 'spec' and 'acc'"):
        read_space(file)
