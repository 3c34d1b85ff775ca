"""BlockSwap: what blocks may become, what is drawn at a budget, what Fisher chooses, and the network that it gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from networks import Plain, Residual
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.traditional.blockswap import BlockSwap, blockswap, draw
from loopmorph.pipelines.bench.traditional.substitutes import Option, block_options
from loopmorph.pipelines.legality.proxy import FisherPotential
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.training.task import classification
from loopmorph.tools.cli import main

BUDGET, WINDOW = 1000, 0.5

Options = dict[str, tuple[Option, ...]]


def residual() -> nn.Module:
    return Residual(4)


residual.input_shape = (3, 8, 8)


def imported(model: nn.Module, size: int = 8) -> Program:
    return lm.import_model(model.eval(), (torch.randn(1, 3, size, size),))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    return imported(residual())


@pytest.fixture(scope="module")
def options(program: Program) -> Options:
    return block_options(program)


@pytest.fixture(scope="module")
def found(program: Program) -> BlockSwap:
    return blockswap(program, None, BUDGET, window=WINDOW, samples=4, images=4)


def chosen(options: Sequence[Option], name: str) -> Option:
    return next(option for option in options if option.name == name)


def test_each_block_has_what_its_convolutions_admit(options: Options) -> None:
    names = {block: [option.name for option in each] for block, each in options.items()}
    assert names["block1"] == ["S", "G(2)", "G(4)", "B(2)", "B(4)", "BG(2,2)"]
    # Its two convolutions have 4 and 8 channels in common, so that shares of them are other numbers in each.
    assert names["block2"] == ["S", "G(2)", "G(4)", "G(N/2)", "G(N)", "B(2)", "B(4)", "BG(2,2)", "BG(2,M)"]


def test_parameters_are_those_of_the_papers_blocks(options: Options) -> None:
    """N = 4 channels: K*K*N*N/g + N*N, and so on (see the schedules), for two convolutions in the place of 9*N*N."""
    ours = {option.name: option.added + 2 * 9 * 16 for option in options["block1"]}
    assert ours["S"] == 2 * 9 * 16
    assert ours["G(4)"] == 2 * (9 * 16 // 4 + 16)
    assert ours["B(2)"] == 2 * (16 // 2 + 9 * 4 + 16 // 2)
    assert ours["BG(2,2)"] == 2 * (16 // 2 + 9 * 4 // 2 + 16 // 2)


def test_both_convolutions_of_a_block_are_swapped_and_its_shortcut_is_not(program: Program, options: Options) -> None:
    assert all({*option.layers} == {"block2.conv1", "block2.conv2"} for option in options["block2"][1:])
    everything = block_options(program, pointwise=True)
    assert {*everything["block2"][1].layers} == {"block2.conv1", "block2.conv2", "block2.shortcut.0"}


def test_a_network_without_blocks_has_each_convolution_for_one() -> None:
    assert {*block_options(imported(Plain()))} == {"conv2"}  # nothing divides the three channels of the image


def test_draws_are_within_the_bounds_distinct_and_a_function_of_the_seed() -> None:
    added = [[0, -10, -20], [0, -1, -2, -3]]
    drawn, _ = draw(added, (-12.5, -11), 100, 0)
    assert sorted(drawn) == [(1, 1), (1, 2)]
    some, tried = draw([[0, -10]] * 8, (-50, -30), 20, 3)
    more, _ = draw([[0, -10]] * 8, (-50, -30), 30, 3)
    assert more[:20] == some and len({*more}) == 30 and 20 <= tried < 100
    assert all(3 <= sum(selection) <= 5 for selection in more)


def test_the_best_at_the_budget_is_an_ordinary_program(program: Program, found: BlockSwap) -> None:
    module = found.program.to_module()
    assert parameters(module) == found.parameters and (1 - WINDOW) * BUDGET <= found.parameters <= BUDGET
    assert found.original == parameters(program.model) and found.samples == 4 and not found.interrupted
    measured = FisherPotential(classification(program, None, 4, 0)).measure(module)
    assert measured.value == found.fisher.value
    (x,) = program.example_inputs
    torch.testing.assert_close(lm.compile(found.program)(x), module.eval()(x), rtol=1e-4, atol=1e-5)
    assert str(program.apply(found.schedule)) == str(found.program)


def test_the_largest_potential_wins_and_rows_are_kept(program: Program, found: BlockSwap, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    again = blockswap(program, None, BUDGET, window=WINDOW, samples=4, images=4, out=rows)
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(lines) == 4 and again.choice == found.choice
    best = max(lines, key=lambda line: line["scores"]["fisher"]["value"])
    assert best["network"] == " ".join(f"{block}={name}" for block, name in found.choice.items())
    assert best["accuracy"] is None
    blockswap(program, None, BUDGET, window=WINDOW, samples=4, images=4, out=rows)
    assert len(rows.read_text().splitlines()) == 4


def test_an_interrupt_takes_the_best_so_far(program: Program) -> None:
    def stop(stage: str, done: int, of: int) -> None:
        if stage == "fisher" and done == 2:
            raise KeyboardInterrupt

    found = blockswap(program, None, BUDGET, window=WINDOW, samples=4, images=4, progress=stop)
    assert found.interrupted and found.samples == 2 and parameters(found.program.to_module()) == found.parameters


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"budget": 300}, r"'budget': 300 parameters cannot be reached; the least possible is \d+, of 1,\d+ that"),
        ({"budget": 9000}, r"'budget': the network itself has 1,\d+ parameters, which 9,000 allow"),
        ({"budget": 0}, "'budget': expected an integer of at least 1, got 0"),
        ({"samples": 0}, "'samples': expected an integer of at least 1, got 0"),
        ({"window": 0}, "'window': expected a number above 0 and up to 1, got 0"),
        ({"window": 1e-9, "budget": 1001}, r"'budget': none of [\d,]+ random networks has .*; the least possible is"),
    ],
)
def test_what_cannot_be_is_told(program: Program, options: dict[str, int], reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        blockswap(program, None, **{"budget": BUDGET, "images": 4, **options})


def test_a_transformed_network_is_refused(found: BlockSwap) -> None:
    with pytest.raises(ArgumentError, match="'program': expected it as it was imported; it has been transformed: mor"):
        blockswap(found.program, None, BUDGET)


def test_a_network_with_nothing_to_swap_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    with pytest.raises(ArgumentError, match="'program': it has no block with a convolution that BlockSwap's blocks"):
        blockswap(imported(model), None, 50, images=2)


def test_the_command_writes_a_network_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, model = tmp_path / "swapped.pt", "test_blockswap:residual"
    options = ["--budget", str(BUDGET), "--window", str(WINDOW), "--samples", "1", "--images", "2", "--out", str(out)]
    assert main(["baseline", "blockswap", model, *options, "--json", str(tmp_path / "found.json")]) == 0
    printed, content = capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())
    assert f"block1: {content['choice']['block1']}" in printed and "the largest of 1 network" in printed
    assert parameters(lm.load_model(out, original=model)) == content["parameters"] <= BUDGET
