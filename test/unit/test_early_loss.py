"""`early-loss`: the mean loss of the first steps of fine-tuning a repaired network."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from patterns import patterns, save_patterns
from torch import nn
from trained_networks import pattern_batch, trained_residual

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.bench.space import SpaceBench
from loopmorph.pipelines.legality.early_loss import EarlyLoss
from loopmorph.pipelines.legality.joint_signals import JointSignals
from loopmorph.pipelines.legality.signals import Setting, build_proxies
from loopmorph.pipelines.oracle.repair.repair import repair
from loopmorph.pipelines.training.finetune import finetune
from loopmorph.pipelines.training.recipe import FineTuning
from loopmorph.pipelines.training.task import Classification
from loopmorph.tools.cli import main

INPUTS = (torch.zeros(1, 3, 8, 8),)
BATCH = pattern_batch(64)
TRAIN = patterns(192, seed=1)
SETTINGS = FineTuning(epochs=6, batch_size=16, padding=1, flip=False)  # 72 steps
HARSH = "morph-depthwise{layer=block1.conv1},morph-bottleneck{layer=block2.conv1 iter=co factor=8}"


@pytest.fixture
def model() -> nn.Module:
    return trained_residual()


@pytest.fixture
def joint(trained: lm.Program) -> JointSignals:
    return JointSignals(trained, Classification(BATCH), (BATCH.images,), "cpu")


def test_it_is_the_loss_of_those_steps_in_the_whole_run(trained: lm.Program, joint: JointSignals) -> None:
    program = trained.apply(HARSH)
    signal = EarlyLoss(joint, TRAIN, SETTINGS, "cpu")
    found = signal.score(program)
    repaired = repair(trained, program, BATCH.images, device="cpu").program.to_module()
    whole = finetune(repaired, TRAIN, SETTINGS, device="cpu")
    assert whole.steps == 72 and found.value == whole.early_loss and found.error == 0 and found.doubt == ""
    assert found.value > signal.score(trained).value and not signal.larger_is_better
    assert json.loads(json.dumps(signal.describe())) == signal.describe()
    assert signal.describe() != EarlyLoss(joint, TRAIN, replace(SETTINGS, seed=1)).describe()


def test_a_run_that_diverges_is_infinitely_bad(trained: lm.Program, joint: JointSignals) -> None:
    found = EarlyLoss(joint, TRAIN, replace(SETTINGS, learning_rate=1e30), "cpu").score(trained)
    assert found.value == math.inf


def test_too_few_images_are_refused(trained: lm.Program, joint: JointSignals) -> None:
    signal = EarlyLoss(joint, patterns(20, seed=1), replace(SETTINGS, batch_size=20, epochs=10), "cpu")
    reason = "'data': 20 images make 10 steps in 10 epochs; early-loss is the mean loss of those after the first 10"
    with pytest.raises(ArgumentError, match=reason):
        signal.score(trained)


def test_without_images_to_train_on_it_is_refused(joint: JointSignals) -> None:
    reason = "'signals': early-loss needs the trained original that a network is a rewrite of, and labelled images to"
    with pytest.raises(ArgumentError, match=reason):
        build_proxies(["early-loss"], Setting(Classification(BATCH), joint=joint))


# --- a training that is cut short ---


def test_steps_are_those_of_the_whole_run(model: nn.Module) -> None:
    losses: list[list[float]] = [[], []]

    def noting(number: int) -> None:
        def noted(images: torch.Tensor, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            loss = torch.nn.functional.cross_entropy(outputs, labels)
            losses[number].append(float(loss.detach()))
            return loss

        told: list[tuple[int, int]] = []
        tuned = finetune(
            model,
            TRAIN,
            SETTINGS,
            steps=(14, None)[number],
            objective=noted,
            device="cpu",
            progress=lambda stage, done, of: told.append((done, of)),
        )
        assert tuned.steps == len(losses[number]) and told[-1] == (tuned.steps, tuned.steps)

    noting(0)
    noting(1)
    assert [len(each) for each in losses] == [14, 72] and losses[0] == losses[1][:14]


def test_what_was_cut_short_goes_on(model: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    assert finetune(model, TRAIN, SETTINGS, steps=3, checkpoint=file, device="cpu").steps == 3
    resumed = finetune(model, TRAIN, SETTINGS, steps=15, checkpoint=file, device="cpu")
    assert resumed.early_loss == finetune(model, TRAIN, SETTINGS, steps=15, device="cpu").early_loss
    with pytest.raises(DataError, match=r"c\.pt: has 15 steps of this training; at most the 14 asked for are expected"):
        finetune(model, TRAIN, SETTINGS, steps=14, checkpoint=file, device="cpu")
    with pytest.raises(ArgumentError, match="'steps': expected an integer of at least 1, got 0"):
        finetune(model, TRAIN, SETTINGS, steps=0, device="cpu")


# --- the commands ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With images, two rewrites, and the original's weights in it."""
    place = tmp_path_factory.mktemp("early")
    save_patterns(place / "p.npz", 1300, seed=3)
    specifications = [[["g2", "full", 1], ["full", "full", 1]], [["dw", "dw", 4], ["dw", "dw", 8]]]
    lines = [json.dumps({"idx": k, "spec": spec, "acc": 90 - 20 * k}) for k, spec in enumerate(specifications)]
    (place / "rows.jsonl").write_text("\n".join(lines))
    return place


def test_the_command_measures_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["legality", "factories:trained", "--data", str(folder / "p.npz"), "--images", "32", "--device", "cpu"]
    assert main([*command, "--candidates", "1", "--signals", "early-loss", "--json", str(folder / "out.json")]) == 0
    assert "early-loss" in capsys.readouterr().out
    (row,) = json.loads((folder / "out.json").read_text())["rewrites"]
    assert row["refused"] == "" and 0 < row["scores"]["early-loss"]["value"] < math.log(4)


def test_a_batch_is_not_trained_on(model: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="'early-loss' cannot be measured: it trains to tell the classes of a"):
        lm.legality(model, INPUTS, BATCH, candidates=1, signals=["early-loss"], device="cpu")


def test_the_bench_measures_it(model: nn.Module, folder: Path) -> None:
    example = torch.zeros(1, 3, 8, 8)
    bench = SpaceBench(folder / "rows.jsonl", model, example, folder / "p.npz", images=64, held_out=64, device="cpu")
    gentle, harsh = (network.measure(["early-loss", "kl"]) for network in bench.networks)
    assert gentle["early-loss"].value < harsh["early-loss"].value and gentle["kl"].value < harsh["kl"].value
