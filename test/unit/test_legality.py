"""`legality`: what it measures of candidates and of one schedule, what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import heads
from patterns import save_patterns
from torch import nn
from trained_networks import pattern_batch, trained_residual

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.calibration import structure_fingerprint
from loopmorph.pipelines.legality.calibration_file import save_calibration, shipped_calibration
from loopmorph.pipelines.legality.joint_signals import JointSignals
from loopmorph.pipelines.oracle.repair.repair import repair
from loopmorph.pipelines.search.legality import LegalityResult
from loopmorph.pipelines.training.task import Classification
from loopmorph.tools.cli import main

INPUTS = (torch.zeros(1, 3, 8, 8),)
BATCH = pattern_batch(64)
SCHEDULE = "morph-group{layer=block1.conv1 iters=co,ci factor=4},morph-bottleneck{layer=block2.conv1 iter=co factor=2}"


pytestmark = pytest.mark.usefixtures("python_handles_interrupts")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained_residual()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a schedule and images in it."""
    place = tmp_path_factory.mktemp("legality")
    save_patterns(place / "p.npz", 80, seed=1)
    save_patterns(place / "wrong.npz", 80, seed=1, first_label=5)
    (place / "s.mlir").write_text(SCHEDULE)
    return place


@pytest.fixture(scope="module")
def of_schedule(model: nn.Module) -> LegalityResult:
    return lm.legality(model, INPUTS, BATCH, schedule=SCHEDULE, device="cpu")


def test_a_schedule_layer_by_layer_and_as_a_whole(of_schedule: LegalityResult, trained: lm.Program) -> None:
    (row,) = of_schedule.rewrites
    assert ",".join(row.steps) == SCHEDULE and row.refused == "" and of_schedule.doubt == ""
    assert of_schedule.signals == tuple(row.scores) == ("residual", "fisher-change", "kl-block", "kl", "macs", "params")
    assert [block.path for block in of_schedule.blocks] == ["block1", "block2"]
    for name in ("residual", "fisher-change", "kl-block"):
        assert row.scores[name].value == pytest.approx(sum(block.scores[name].value for block in of_schedule.blocks))
    half = BATCH.images[:32]
    repaired = repair(trained, trained.apply(SCHEDULE), half, device="cpu")
    found = [(layer.name, layer.before, layer.after) for layer in of_schedule.layers]
    assert found == [(layer.name, layer.before, layer.after) for layer in repaired.layers]


def test_the_figures_of_the_whole(of_schedule: LegalityResult, trained: lm.Program) -> None:
    whole = of_schedule.whole
    assert whole is not None and whole.images == 32 and whole.borrowed
    program = trained.apply(SCHEDULE)
    module = repair(trained, program, BATCH.images[:32], device="cpu").program.to_module().eval()
    with torch.no_grad():
        before, after = (each(BATCH.images[32:]).double() for each in (trained.model, module))
    p, log_p, log_q = before.softmax(1), before.log_softmax(1), after.log_softmax(1)
    divergence = (p * (log_p - log_q)).sum(1)
    assert whole.kl.value == pytest.approx(float(divergence.mean()), rel=1e-4)
    assert whole.kl.error == pytest.approx(float(divergence.std()) / 32**0.5, rel=1e-4)
    assert whole.kl == of_schedule.rewrites[0].scores["kl"]
    assert whole.agreement == float((before.argmax(1) == after.argmax(1)).double().mean())
    assert whole.accuracy == pytest.approx(float((after.argmax(1) == BATCH.labels[32:]).double().mean()))
    macs = [sum(layer.macs for layer in each.layers) for each in (trained, program)]
    expected = shipped_calibration("").predict({"kl": whole.kl.value, "compression": macs[0] / macs[1]})
    assert whole.predicted == expected


def test_the_identity_loses_nothing(trained: lm.Program) -> None:
    task = Classification(Batch(BATCH.images[32:], BATCH.labels[32:], BATCH.classes, ""))
    found = JointSignals(trained, task, (BATCH.images[:32],), "cpu").measure(trained)
    assert found.kl.value == 0 and found.agreement == 1 and found.accuracy == found.accuracy_original
    unlabelled = JointSignals(trained, Classification(Batch(BATCH.images, None, 4, "")), (BATCH.images,), "cpu")
    assert unlabelled.measure(trained).accuracy is None


def test_candidates_are_those_of_the_seed(model: nn.Module) -> None:
    few, more, others = (
        lm.legality(model, INPUTS, BATCH, candidates=count, seed=seed, signals=["residual", "macs"], device="cpu")
        for count, seed in ((2, 0), (3, 0), (3, 1))
    )
    assert few.rewrites == more.rewrites[:2] and len(more.rewrites) == 3
    assert [r.steps for r in others.rewrites] != [r.steps for r in more.rewrites]
    assert all(len(row.steps) == 1 and set(row.scores) == {"residual", "macs"} for row in more.rewrites)
    assert more.whole is None and more.layers == more.blocks == ()


def test_an_interrupt_leaves_what_there_is(model: nn.Module) -> None:
    def stop(stage: str, done: int, of: int) -> None:
        if stage == "signals" and done == 1:
            signal.raise_signal(signal.SIGINT)

    found = lm.legality(model, INPUTS, BATCH, candidates=5, signals=["residual"], device="cpu", progress=stop)
    assert found.interrupted and len(found.rewrites) == 1


def test_a_model_without_logits_still_has_residuals() -> None:
    model, inputs = heads()
    found = lm.legality(model, inputs, schedule="morph-group{layer=b iters=co,ci factor=4}", images=8, device="cpu")
    assert found.signals == ("residual", "macs", "params") and found.whole is None
    assert found.missing["kl"] == "the model gives no logits (N, classes)"
    assert found.missing["fisher-change"] == "there are no labels, and without them no loss"
    assert [layer.name for layer in found.layers] == ["b"] and found.rewrites[0].scores["residual"].value > 0
    with pytest.raises(ArgumentError, match=r"'kl' cannot be measured: the model gives no logits \(N, classes\)"):
        lm.legality(model, inputs, candidates=2, signals=["kl"], images=8, device="cpu")


def test_the_command_prints_and_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "out.json"
    command = ["legality", "factories:trained", "--data", str(folder / "p.npz"), "--images", "64", "--device", "cpu"]
    assert main([*command, "--schedule", str(folder / "s.mlir"), "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "factories:trained: npz p.npz, 64 of 80 images; measured on 32, repaired on the others" in printed
    for text in ("group{layer=block1.conv1", "fisher-change", "block2.shortcut.0", "the whole network, repaired"):
        assert text in printed
    assert "resnet34 on CIFAR-10, is of another network, so that the interval is borrowed" in printed
    content = json.loads(file.read_text())
    assert content["whole"]["calibration"]["network"] == "resnet34" and content["whole"]["borrowed"] is True
    assert content["rewrites"][0]["scores"]["residual"]["value"] > 0 and len(content["blocks"]) == 2
    assert main([*command, "--candidates", "2", "--signals", "residual,params"]) == 0
    assert "params" in capsys.readouterr().out


def test_the_picture(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    picture, command = folder / "p.png", ["legality", "factories:trained", "--data", str(folder / "p.npz")]
    options = ["--images", "16", "--schedule", str(folder / "s.mlir"), "--plot", str(picture), "--device", "cpu"]
    assert main([*command, *options]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "argument 'schedule': expected either a schedule or a number of candidates"),
        (["--schedule", "s.mlir", "--candidates", "2"], "argument 'schedule': expected either a schedule or a number"),
        (["--schedule", "none.mlir"], "none.mlir: cannot be read: No such file or directory"),
        (["--schedule", "p.npz"], "p.npz: is no text; a schedule is expected"),
        (["--candidates", "2", "--images", "3"], "argument 'images': 3 were asked for; at least 4 are needed"),
        (["--candidates", "2", "--images", "81"], "p.npz: holds 80 images, fewer than the 81 asked for"),
        (["--candidates", "2", "--data", "wrong.npz"], "wrong.npz: label 8 is outside 0..3, the network has 4 classes"),
        (["--candidates", "2", "--signals", "residuals"], "'residuals' is not known; did you mean 'residual'?"),
        (["--candidates", "2", "--calibration", "s.mlir"], "s.mlir: is truncated or not JSON"),
    ],
)
def test_what_the_command_refuses(
    folder: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    data = [] if "--data" in options else ["--data", "p.npz"]
    images = [] if "--images" in options else ["--images", "16"]
    assert main(["legality", "factories:trained", *data, *images, *options]) == 1
    assert message in capsys.readouterr().err


def test_a_batch_of_another_shape_is_refused(model: nn.Module) -> None:
    other = Batch(torch.zeros(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64), 4, "")
    with pytest.raises(ArgumentError, match=r"its images are \(1, 8, 8\) \(C, H, W\); the network takes \(3, 8, 8\)"):
        lm.legality(model, INPUTS, other, candidates=1)


def test_a_calibration_of_this_network_is_not_borrowed(model: nn.Module, trained: lm.Program, folder: Path) -> None:
    shipped = shipped_calibration("")
    about = replace(shipped.provenance, fingerprint=structure_fingerprint(trained))
    file = folder / "own.json"
    save_calibration(replace(shipped, provenance=about), file)
    found = lm.legality(model, INPUTS, BATCH, schedule=SCHEDULE, signals=["kl"], calibration=file, device="cpu")
    assert found.whole is not None and not found.whole.borrowed
