"""Signals at initialisation: what they leave alone, what they refuse, and the table of them."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
from networks import Residual
from signal_networks import Measured, images, score
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.fisher_weights import fisher_of_weights
from loopmorph.pipelines.legality.jacov import jacov
from loopmorph.pipelines.legality.naswot import naswot
from loopmorph.pipelines.legality.proxy import FisherPotential, Score
from loopmorph.pipelines.legality.signals import SIGNALS, Setting, build_signals, parse_signals
from loopmorph.pipelines.legality.synflow import synflow
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.training.task import Classification

FUNCTIONS: dict[str, Measured] = {"naswot": naswot, "jacov": jacov, "synflow": synflow}


@pytest.fixture(autouse=True)
def fixed_weights() -> None:
    torch.manual_seed(0)


def task() -> Classification:
    labels = torch.randint(10, (6,), generator=torch.Generator().manual_seed(2))
    return Classification(Batch(images(), labels, 10, "made for a test"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_model_and_the_random_state_stay(name: str) -> None:
    model = Residual().eval()
    model.conv1.weight.requires_grad_(False)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    batch = images()
    kept = batch.clone()
    score(FUNCTIONS[name], model, batch)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(batch, kept) and not batch.requires_grad


@pytest.mark.parametrize("name", FUNCTIONS)
def test_seeds_decide(name: str) -> None:
    model = Residual()
    first = score(FUNCTIONS[name], model, images(), seed=1)
    other = Residual()
    assert score(FUNCTIONS[name], other, images(), seed=1) == first
    assert score(FUNCTIONS[name], other, images(), seed=2).value != pytest.approx(first.value, rel=1e-6)
    assert score(FUNCTIONS[name], other, images(), reset=False).value != pytest.approx(first.value, rel=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inside_inference_mode(name: str) -> None:
    model = Residual()
    expected = score(FUNCTIONS[name], model, images())
    with torch.inference_mode():
        assert score(FUNCTIONS[name], model, images()) == expected


@pytest.mark.parametrize("name", ["naswot", "jacov"])
def test_overflow_is_in_doubt(name: str) -> None:
    model = Residual()
    nn.init.constant_(model.conv1.weight, math.inf)
    found = score(FUNCTIONS[name], model, images(), reset=False)
    assert math.isnan(found.value) and "overflows" in found.doubt


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ([1.0], "'images': a list was given; a torch.Tensor is expected"),
        (torch.zeros(2, 3, 8), r"'images': \(2, 3, 8\) torch.float32 was given; \(N, C, H, W\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "torch.uint8 was given"),
        (torch.zeros(2, 5, 8, 8), r"'model': in (train|eval) mode it fails on images of shape \(\d, 5, 8, 8\)"),
    ],
)
def test_refusals(name: str, batch: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        score(FUNCTIONS[name], Residual(), batch)


@pytest.mark.parametrize("name", ["naswot", "jacov"])
def test_images_are_compared(name: str) -> None:
    with pytest.raises(ArgumentError, match="'images': 1 was given; at least 2 are needed"):
        score(FUNCTIONS[name], Residual(), images(1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="'device': 'abacus' is no device; 'cpu', 'cuda' or 'cuda:1' would be"):
        FUNCTIONS[name](Residual(), images(), device="abacus")


# --- Fisher Potential of weights ---


def test_fisher_of_weights_is_the_score_times_the_weights_of_a_channel() -> None:
    model, made = Residual(), task()
    expected = 0.0
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            probed = lm.fisher_potential(model, *made.inputs, made.targets, probes=[name], device="cpu")
            expected += float(probed) * module.weight[0].numel()
    assert fisher_of_weights(model, made, device="cpu").value == pytest.approx(expected, rel=1e-5)


# --- the table ---


def test_parsing_names() -> None:
    assert parse_signals(" naswot , fisher,naswot") == ("naswot", "fisher")
    with pytest.raises(ArgumentError, match="'signals': 'nasswot' is not known; did you mean 'naswot'"):
        parse_signals("fisher,nasswot")
    with pytest.raises(ArgumentError, match="'signals': none was named; known are fisher, "):
        parse_signals(" ,")


@pytest.mark.parametrize("name", SIGNALS)
def test_an_entry_builds_a_signal_of_its_name(name: str, residual: Program) -> None:
    signal = build_signals([name], Setting(task(), seed=1, device="cpu"))[name]
    assert signal.name == name == signal.describe()["name"]
    assert json.loads(json.dumps(signal.describe())) == signal.describe()
    found = signal.measure(Residual())
    assert math.isfinite(found.value) and found.value != 0 and not found.doubt and found.error == 0
    assert signal.score(residual).value == pytest.approx(found.value, rel=1e-6)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    "steps",
    [
        "morph-group{layer=block1.conv1 iters=co,ci factor=2}",
        "morph-bottleneck{layer=block1.conv1 iter=co factor=2}",
        "morph-bottleneck{layer=block1.conv2 iter=ow factor=2}",
        "morph-partition{layer=block1.conv1 iter=co parts=2}",
    ],
)
def test_rewritten_networks_have_signals(name: str, steps: str, residual: Program) -> None:
    signal = build_signals([name], Setting(task(), device="cpu"))[name]
    found = signal.score(residual.apply(steps))
    assert math.isfinite(found.value) and not found.doubt
    assert found == signal.score(residual.apply(steps))


def test_synflow_of_a_rewritten_layer_is_that_of_the_layer_by_hand(residual: Program) -> None:
    rewritten = residual.apply("morph-group{layer=block1.conv1 iters=co,ci factor=4}")
    by_hand = copy.deepcopy(residual.model)
    by_hand.block1.conv1 = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
    by_hand.block1.conv1.weight.data.copy_(rewritten.to_module().block1.conv1.weight)
    signal = build_signals(["synflow"], Setting(task(), device="cpu"))["synflow"]
    assert signal.score(rewritten).value == pytest.approx(signal.measure(by_hand).value, rel=1e-9)


def test_size_is_told_for_one_image() -> None:
    model = Residual().eval()
    signals = build_signals(["macs", "params"], Setting(task()))
    program = lm.import_model(model, (images(2),))
    for signal in signals.values():
        assert signal.score(program) == signal.measure(model)
    smaller = program.apply("morph-group{layer=block1.conv1 iters=co,ci factor=2}")
    saved = 8 * 8 * 9 // 2
    assert signals["params"].score(program).value - signals["params"].score(smaller).value == saved
    assert signals["macs"].score(program).value - signals["macs"].score(smaller).value == saved * 64


def test_repeats_are_averaged() -> None:
    model, made = Residual(), task()
    found = build_signals(["naswot"], Setting(made, seed=4, repeats=3, device="cpu"))["naswot"].measure(model)
    values = [score(naswot, model, made.inputs[0], seed=seed).value for seed in (4, 5, 6)]
    mean = sum(values) / 3
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / 2 / 3)
    assert found == Score(pytest.approx(mean), pytest.approx(error))


def test_fisher_of_the_table_is_the_gates_own() -> None:
    made = task()
    signal = build_signals(["fisher"], Setting(made, seed=3, repeats=2, device="cpu"))["fisher"]
    assert signal == FisherPotential(made, 3, 2, device="cpu")
    assert "probes" not in signal.describe()
    named = build_signals(["fisher"], Setting(made, probes=("block1",), device="cpu"))["fisher"]
    expected = lm.fisher_potential(Residual(), *made.inputs, made.targets, probes=["block1"], device="cpu")
    assert named.measure(Residual()).value == expected.mean and named.describe()["probes"] == ["block1"]
