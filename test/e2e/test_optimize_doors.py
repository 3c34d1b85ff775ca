"""Searches over what is no plain classifier: other losses, and scores that cannot judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from networks import Residual, image

import loopmorph as lm
from loopmorph.tools.cli import main

CACHE = "timings"  # which test_optimize.py shares

pytestmark = pytest.mark.usefixtures("own_cache", "in_unit", "page_without_times")


def optimize(*arguments: str) -> int:
    return main(["optimize", *arguments, "--candidates", "2", "--seed", "1", "--batch-size", "8"])


def test_a_network_with_several_heads_takes_a_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimize("factories:heads", "--loss", "factories:heads_loss", "--out", str(tmp_path)) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["legal"] is True and report["fisher_original"] > 0 and report["loss"] == "heads_loss"
    assert report["max_abs_error"] < 1e-4 and "without targets" in report["data"]
    assert "loss: heads_loss" in capsys.readouterr().out
    model = lm.load_model(tmp_path / "model.pt", original="factories:heads").eval()
    assert model(torch.randn(1, 3, 8, 8))["mask"].shape == (1, 2, 8, 8)


def test_an_exported_network_is_optimised_as_its_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "net.pt2")
    torch.export.save(torch.export.export(Residual().eval(), (image(),)), path)
    assert optimize(path, "--out", str(tmp_path)) == 0
    note = "an exported graph, 13 layers restored as modules"
    assert f"model: {note}" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["note"] == note and report["legal"] is True and report["fisher_original"] > 0
    assert all(layer["name"].split(".")[0] in ("conv1", "block1", "block2", "linear") for layer in report["layers"])
    assert lm.load_model(tmp_path / "model.pt", original=path).eval()(image()).shape == (1, 10)


def test_a_score_of_zero_is_not_legal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimize("factories:heads", "--loss", "factories:constant_loss", "--out", str(tmp_path)) == 0
    told = capsys.readouterr()
    assert "warning: legality cannot be judged, so that no neural transformation is chosen" in told.err
    assert "not judged, the original's is 0" in told.out.replace("\n", " ")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["legal"] is None and report["doubt"].startswith("the original's is 0")
    assert not any(step.startswith("morph-bottleneck") for layer in report["layers"] for step in layer["transforms"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["factories:heads"], "expected logits (N, classes) from it; for what is no classifier, give a loss"),
        (
            ["factories:heads", "--loss", "factories"],
            "argument 'loss': 'factories' is not of the form package.module:fu",
        ),
        (["factories:heads", "--loss", "factories:no"], "argument 'loss': module 'factories' has no attribute 'no'"),
        (["factories:heads", "--loss", "nowhere:f"], "argument 'loss': 'nowhere:f': there is no module 'nowhere'"),
        (["factories:heads", "--loss", "factories:heads"], "argument 'loss': heads fails: TypeError: heads() takes 0 "),
    ],
)
def test_losses_that_cannot_be_used(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimize(*arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("import 1/1, ")]
    assert len(lines) == 1 and message in lines[0]
