"""Pruning as a baseline: what is cut, what speed-up it is looked for by, and the file that it leaves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from networks import Residual

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.traditional.pruning import _nearest, prune, prune_to_speedups

INPUTS = (torch.ones(1, 3, 8, 8),)


@pytest.fixture(scope="module")
def model() -> Residual:
    torch.manual_seed(0)
    return Residual(8).eval()


@pytest.mark.parametrize("style", ["uniform", "isomorphic"])
def test_channels_are_cut_in_multiples_and_the_classes_stay(model: Residual, style: str) -> None:
    pytest.importorskip("torch_pruning")
    pruned = prune(model, INPUTS, 0.5, style=style, round_to=2)
    assert pruned(*INPUTS).shape == (1, 10)
    assert model.conv1.out_channels == 8  # left as it is
    assert pruned.get_submodule("conv1").out_channels == 4
    assert all(layer.out_channels % 2 == 0 for layer in pruned.modules() if isinstance(layer, torch.nn.Conv2d))


def test_what_is_pruned_is_loaded_without_the_pruner(model: Residual, tmp_path: Path) -> None:
    pytest.importorskip("torch_pruning")
    pruned = prune(model, INPUTS, 0.5, style="uniform", round_to=2)
    lm.save_model(tmp_path / "pruned.pt", pruned, model="factories:residual", original=model)
    again = lm.load_model(tmp_path / "pruned.pt", original=Residual(8).eval())
    assert torch.equal(again(*INPUTS), pruned(*INPUTS))


def test_the_nearest_ratio_is_found_on_either_side() -> None:
    speedup = {ratio: 64 / (64 - ratio) for ratio in range(1, 57)}
    for asked in (1.01, 1.5, 2.0, 3.1, 7.9):
        best = min(speedup, key=lambda ratio: abs(math.log(speedup[ratio] / asked)))
        assert _nearest(asked, speedup.__getitem__, 56) == best


def test_a_speed_up_out_of_reach_is_refused_with_the_most() -> None:
    with pytest.raises(ArgumentError, match=r"9 times cannot be reached; 50% fewer channels are 2.00 times"):
        _nearest(9, lambda ratio: 64 / (64 - ratio), 32)


def test_wrong_arguments_are_refused(model: Residual) -> None:
    for given, message in (
        ({"speedups": [1.0]}, r"expected numbers above 1, got \[1.0\]"),
        ({"style": "wild"}, "expected one of uniform, isomorphic, got 'wild'"),
        ({"clock": "sun"}, "expected one of loopmorph, onnxruntime, got 'sun'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            prune_to_speedups(model, INPUTS, **{"speedups": [2.0], **given})
