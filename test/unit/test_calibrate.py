"""`calibrate`: whole, stopped in the middle, resumed; what it keeps, what it warns of, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from patterns import patterns, save_patterns
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, DataError, LoopmorphWarning
from loopmorph.pipelines.data.labelled_images import LabelledSets
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.legality.calibration import Calibration, structure_fingerprint
from loopmorph.pipelines.legality.joint_kl import joint_kl
from loopmorph.pipelines.search.calibration_results import CalibrationResults
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.recipe import FineTuning
from loopmorph.tools.cli import main

SETTINGS = FineTuning(epochs=2, batch_size=32, flip=False)
COUNT = 3


pytestmark = pytest.mark.usefixtures("python_handles_interrupts")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "patterns.npz"
    save_patterns(file, 240, seed=1)
    return file


def run(data: Path, out: Path, progress: Progress = silent, **more: Any) -> Calibration:
    loaded = resolve_model("factories:classifier")
    arguments = {"count": COUNT, "settings": SETTINGS, "device": "cpu", "name": "factories:classifier", **more}
    with pytest.warns(LoopmorphWarning, match="of the test images right, no more than chance would: it is not trained"):
        return lm.calibrate(loaded.model, loaded.example_inputs, data, out, progress=progress, **arguments)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run(data, folder / "c.json")
    return folder


def test_what_a_run_leaves(whole: Path) -> None:
    assert sorted(file.name for file in whole.iterdir()) == ["c.json", "c.networks.jsonl"]
    found = lm.load_calibration(whole / "c.json")
    loaded = resolve_model("factories:classifier")
    original = lm.import_model(loaded.model, loaded.example_inputs)
    assert found.fits(structure_fingerprint(original)) and found.provenance.network == "factories:classifier"
    assert found.provenance.epochs == 2 and found.provenance.data == "npz patterns.npz, 200 images"
    assert len(found.networks) == COUNT and found.signals == ("compression", "drop", "early-loss", "kl")
    assert found.untrained_signals == ("compression", "drop", "kl")
    for each in found.networks:
        rewritten = original.apply(each.name)
        macs = sum(layer.macs for layer in original.layers) / sum(layer.macs for layer in rewritten.layers)
        assert each.signals["compression"] == pytest.approx(macs)


@pytest.mark.parametrize("useless", [False, True], ids=["from its checkpoint", "its checkpoint is damaged"])
def test_a_run_that_is_interrupted_in_the_middle_goes_on_to_the_same_result(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, useless: bool
) -> None:
    monkeypatch.setattr("loopmorph.pipelines.search.calibrate.CHECKPOINT_SECONDS", 0.0)

    def interrupt(stage: str, done: int, of: int) -> None:
        if stage == "finetune" and done == 30:  # in the second network; the original and the first have 12 steps each
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "c.json", interrupt)
    assert not (tmp_path / "c.json").exists()
    kept = (tmp_path / "c.networks.jsonl").read_text()
    assert len(kept.splitlines()) == 3  # a header, the original, the first network
    (tmp_path / "c.networks.jsonl").write_text(kept + '{"name": "morph-')  # killed while it wrote
    (checkpoint,) = tmp_path.glob("*.checkpoint")
    if useless:
        checkpoint.write_bytes(b"")  # the network is then trained from the start
    run(data, tmp_path / "c.json")
    for file in whole.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_kept_is_not_trained_again_and_more_can_be_added(whole: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    told: list[tuple[str, int, int]] = []
    more = run(data, tmp_path / "c.json", lambda *step: told.append(step), count=COUNT + 1)
    assert more.networks[:COUNT] == lm.load_calibration(whole / "c.json").networks and len(more.networks) == COUNT + 1
    assert [step for step in told if step[0] == "finetune"] == [("finetune", 48 + k, 60) for k in range(13)]


def test_the_command(whole: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    where = ["--data", str(data), "--out", str(tmp_path / "c.json"), "--device", "cpu"]
    how = ["--count", str(COUNT), "--epochs", "2", "--batch-size", "32", "--no-flip"]
    assert main(["calibrate", "factories:classifier", *where, *how]) == 0
    told = capsys.readouterr()
    assert "predicted for networks that were left out" in told.out and "unbounded: too few networks" in told.out
    assert "no more than chance would" in told.err
    assert (tmp_path / "c.json").read_bytes() == (whole / "c.json").read_bytes()
    assert main(["calibrate", "factories:classifier", *where, *how, "--seed", "1"]) == 1
    assert "c.networks.jsonl: is of another run" in capsys.readouterr().err


def test_arguments_out_of_range(data: Path, tmp_path: Path) -> None:
    loaded = resolve_model("factories:classifier")

    def refused(message: str, **more: Any) -> None:
        arguments = {"out": tmp_path / "c.json", "count": COUNT, **more}
        with pytest.raises(ArgumentError, match=message):
            lm.calibrate(loaded.model, loaded.example_inputs, data, **arguments)

    refused("'count': expected 3 to 1024 networks, got 2", count=2)
    refused(r"'out': expected a file name that ends in \.json, got '.*c\.pt'", out=tmp_path / "c.pt")
    refused("'out': cannot write '.*': there is no folder", out=tmp_path / "none" / "c.json")
    refused("'seed': expected an integer, got 'x'", seed="x")
    refused("'device': 'tpu9' is no device", device="tpu9")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_is_no_classifier(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"'model': expected logits \(N, classes\) from it"):
        lm.calibrate(nn.Conv2d(3, 4, 3).eval(), (torch.randn(1, 3, 8, 8),), data, tmp_path / "c.json")


def test_sets_of_other_images(tmp_path: Path) -> None:
    loaded = resolve_model("factories:classifier")
    sets = LabelledSets(patterns(40, seed=1), replace(patterns(40, seed=2), classes=3))
    message = r"'data': it has images \(3, 8, 8\) of 3 classes; the network takes \(3, 8, 8\) and tells 4 apart"
    with pytest.raises(ArgumentError, match=message):
        lm.calibrate(loaded.model, loaded.example_inputs, sets, tmp_path / "c.json")


class OneImage(nn.Sequential):
    """Takes one image at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.reshape(1, 3, 8, 8))


def test_a_network_that_takes_no_batch(tmp_path: Path) -> None:
    model = OneImage(nn.Flatten(), nn.Linear(192, 4)).eval()
    sets = LabelledSets(patterns(40, seed=1), patterns(40, seed=2))
    with pytest.raises(ArgumentError, match=r"'model': in eval mode it fails on a batch of shape \(2, 3, 8, 8\)"):
        lm.calibrate(model, (torch.randn(1, 3, 8, 8),), sets, tmp_path / "c.json")


def test_a_network_of_which_too_few_rewrites_can_be_drawn(tmp_path: Path) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.AvgPool2d(8), nn.Flatten()).eval()
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(60) % 3)
    arguments = tmp_path / "set.npz", tmp_path / "c.json"
    message = "'model': of its rewrites only 0 could be measured"
    with pytest.raises(ArgumentError, match=message), pytest.warns(LoopmorphWarning, match="than chance"):
        lm.calibrate(model, (torch.randn(1, 3, 8, 8),), *arguments, settings=SETTINGS, device="cpu")


# --- the file of results ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some text", "is not a list of results; remove it, or write elsewhere"),
        (b'{"format": "other"}\n', "is not a list of results"),
        (b"[[[\n", "line 1 is damaged; remove it, or write elsewhere"),
        (b'{"format": "loopmorph-calibration-run-1", "key": "other"}\n', "is of another run"),
        (b'{"format": "loopmorph-calibration-run-1", "key": "k"}\n{"name": 7}\n{}\n', "line 2 is damaged"),
        (b'{"format": "loopmorph-calibration-run-1", "key": "k"}\n' + b"[" * 100_000 + b"\n", "line 2 is damaged"),
    ],
    ids=["text", "other", "broken", "another run", "no network", "deep"],
)
def test_files_that_are_no_results_are_left_as_they_are(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "c.networks.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"c\.networks\.jsonl: {message}"):
        CalibrationResults.open(file, "k")
    assert file.read_bytes() == content


def test_refused_networks_are_remembered(tmp_path: Path) -> None:
    file = tmp_path / "c.networks.jsonl"
    CalibrationResults.open(file, "k").refuse("a", "its outputs overflow")
    assert CalibrationResults.open(file, "k").refused == {"a": "its outputs overflow"}
    assert [json.loads(line).get("name") for line in file.read_text().splitlines()] == [None, "a"]


# --- joint KL ---


class Fixed(nn.Module):
    """The same logits whatever the images."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)


def test_joint_kl_of_known_distributions() -> None:
    images = patterns(8, seed=1)
    p, q = (0.5, 0.3, 0.1, 0.1), (0.25, 0.25, 0.25, 0.25)
    models = [Fixed(*np.log(each).tolist()) for each in (p, q)]
    expected = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
    assert joint_kl(*models, images, "cpu") == pytest.approx(expected, rel=1e-6)
    assert joint_kl(models[0], models[0], images, "cpu") == 0.0


def test_joint_kl_of_outputs_that_overflow_is_infinite() -> None:
    images = patterns(8, seed=1)
    for logit in (float("nan"), float("inf")):
        assert joint_kl(Fixed(0.0, 0.0, 0.0, 0.0), Fixed(logit, 0.0, 0.0, 0.0), images, "cpu") == float("inf")
