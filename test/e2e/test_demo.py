"""The demo: real images, a network trained on them, made faster, and trained again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import loopmorph as lm
from loopmorph.pipelines.data.digits import DIGITS
from loopmorph.pipelines.data.labelled_images import load_labelled_sets
from loopmorph.pipelines.training.accuracy import accuracy
from loopmorph.tools import demo_command
from loopmorph.tools.cli import main

RESULTS = ("finetuned.pt", "model.pt", "optimized.mlir", "report.html", "report.json", "schedule.mlir")


def test_the_digits_are_real_images() -> None:
    sets = load_labelled_sets(DIGITS, shape=(1, 8, 8), classes=10)
    assert (len(sets.train), len(sets.test)) == (1498, 299)
    counts = (sets.train.labels.bincount() + sets.test.labels.bincount()).tolist()
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert sets.train.images.unique().tolist() == list(range(0, 241, 15))


def test_no_image_is_both_fitted_to_and_judged_on() -> None:
    sets = load_labelled_sets(DIGITS, shape=(1, 16, 16), classes=10)
    seen, unseen = demo_command.in_two(sets.train, 0)
    assert (len(seen), len(unseen)) == (1242, 256)
    together = torch.cat([seen.images, unseen.images]).flatten(1)
    assert torch.equal(together.unique(dim=0), sets.train.images.flatten(1).unique(dim=0))
    batch = demo_command.batch_of(seen, unseen)
    assert batch.images.shape == (512 + 256, 1, 16, 16)
    assert torch.equal(batch.labels[512:], unseen.labels)


def test_it_ends_with_a_network_that_is_good(
    tmp_path: Path, page_without_times: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_command, "FITTED_TO", 96)  # less of everything than in the demo
    monkeypatch.setattr(demo_command, "JUDGED_ON", 64)
    monkeypatch.setitem(demo_command.TRAINING, "epochs", 1)
    monkeypatch.setitem(demo_command.FINE_TUNING, "epochs", 1)
    assert main(["demo", "--candidates", "2", "--out", str(tmp_path)]) == 0
    told = re.search(r"accuracy on 299 images .*: ([\d.]+) % .* ([\d.]+) % .* ([\d.]+) %", capsys.readouterr().out)
    assert told is not None
    trained, repaired, finetuned = map(float, told.groups())
    assert trained > 80 and repaired > 70 and finetuned > 80
    assert set(RESULTS) <= {file.name for file in tmp_path.iterdir()}
    assert json.loads((tmp_path / "report.json").read_text())["legality"] == "repair"
    test = load_labelled_sets(DIGITS, shape=(1, 16, 16), classes=10).test
    loaded = [accuracy(lm.load_model(tmp_path / name), test) for name in ("model.pt", "finetuned.pt")]
    assert loaded == pytest.approx([repaired, finetuned], abs=0.06)
