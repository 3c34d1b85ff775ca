"""Numbers of any size: one clear line before anything is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import Residual, image
from transformed import network

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.batches import load_batch
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.legality.fisher import fisher_potential
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.support.numbers import SEEDS, check_count, check_seed, check_size
from loopmorph.pipelines.training.task import make_task
from loopmorph.tools.cli import main

HUGE = 10**20


@pytest.mark.parametrize("seed", [HUGE, -HUGE, 2**63, 10**40])
def test_seeds_beyond_64_bits(seed: int) -> None:
    message = "'seed': expected an integer from -9223372036854775808 to 9223372036854775807, got"
    with pytest.raises(ArgumentError, match=message):
        lm.optimize(Residual(), (image(),), candidates=1, seed=seed)
    with pytest.raises(ArgumentError, match=message):
        resolve_model("resnet18", seed=seed)
    with pytest.raises(ArgumentError, match=message):
        load_batch(None, count=1, shape=(3, 8, 8), classes=2, seed=seed)
    with pytest.raises(ArgumentError, match=message):
        fisher_potential(Residual(), torch.randn(2, 3, 8, 8), torch.arange(2), seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_of_64_bits_is_taken(seed: int) -> None:
    check_seed(seed)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    assert fisher_potential(model, torch.randn(2, 3, 8, 8), torch.arange(2), seed=seed, repeats=2).finite
    assert len(load_batch(None, count=1, shape=(3, 8, 8), classes=2, seed=seed).images) == 1


@pytest.mark.parametrize("seed", [1.0, "1", True, None])
def test_seeds_that_are_none(seed: object) -> None:
    with pytest.raises(ArgumentError, match="'seed': expected an integer, got"):
        check_seed(seed)  # type: ignore[arg-type]


def test_counts() -> None:
    check_count("candidates", 2**31 - 1)
    with pytest.raises(ArgumentError, match="'candidates': expected an integer of at most 2,147,483,647, got 100"):
        lm.optimize(Residual(), (image(),), candidates=HUGE)
    with pytest.raises(ArgumentError, match=r"'repeats': .* at most 2,147,483,647, got a number of 16610 bits"):
        SearchSettings(repeats=10**5000).check()


def test_batches_and_inputs_that_no_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_size("batch", (2, 2**28), "it")
    with pytest.raises(ArgumentError, match="'count': a batch of shape 100000000x3x8x8 would take more than 2 GiB"):
        load_batch(None, count=10**8, shape=(3, 8, 8), classes=2)
    with pytest.raises(ArgumentError, match="'batch_size': a minibatch of shape 100000000x3x8x8 would take more"):
        make_task(network(Residual), None, 10**8, 0, None)
    (tmp_path / "user_huge.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.ReLU()\n\nnet.input_shape = (3, 10**6, 10**6)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="'user_huge:net': an input of shape 1x3x1000000x1000000 would take more"):
        resolve_model("user_huge:net")


@pytest.mark.parametrize(
    "arguments",
    [
        ["optimize", "resnet18", "--seed", str(HUGE)],
        ["import", "resnet18", "--seed", str(-HUGE)],
        ["operators", "resnet18", "--seed", "9" * 5000],
        ["bench", "resnet18", "--seed", "1e3"],
        ["optimize", "resnet18", "--candidates", str(HUGE)],
        ["optimize", "resnet18", "--repeats", str(HUGE)],
        ["optimize", "resnet18", "--batch-size", str(HUGE)],
        ["optimize", "resnet18", "--threads", str(HUGE)],
        ["optimize", "resnet18", "--tune", "inf"],
        ["optimize", "resnet18", "--tune", "nan"],
        ["bench", "resnet18", "--threads", "9" * 5000],
    ],
)
def test_the_commands_say_so(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) in (1, 2)
    assert capsys.readouterr().err.strip().splitlines()[-1].lower().startswith("error: ")
